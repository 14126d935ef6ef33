"""Lines of datagrams: their addresses as settings have them, and the sockets at both of their ends.

An address is `udp://HOST:PORT`, or `udp://GROUP:PORT?interface=IP` of a multicast group that is joined (or sent to) on
the interface with that IP address; without one the system's routes decide. Hosts are IPv4 addresses, not names: a
look-up would block, and what is read is bound to an address of this machine anyway.
"""

import ipaddress
import socket
import struct
from typing import Annotated, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator

IP_MULTICAST_ALL = 49
"""Linux: 0 leaves a socket to the groups that it has joined itself."""
SO_MEMINFO, _MEMINFO = 55, struct.Struct("=9I")
"""Linux 4.12: what a socket's queues hold; the last word counts the datagrams that found the receive queue full."""


class LineAddress(NamedTuple):
    """Where a line's datagrams go."""

    host: str
    port: int
    interface: str
    """IP address of the interface of a multicast group; empty: the system's choice."""

    @property
    def is_multicast(self) -> bool:
        return ipaddress.IPv4Address(self.host).is_multicast


class LineError(OSError):
    """A line cannot be opened; says which, why, and what to do."""


def parse_address(text: str) -> LineAddress:
    """Of the text form. Raises ValueError."""
    parts = urlsplit(text)
    host, port = parts.hostname or "", parts.port
    form = "udp://HOST:PORT or udp://GROUP:PORT?interface=IP"
    if parts.scheme != "udp" or not host or not port or parts.path:
        raise ValueError(f"{text!r} is not of the form {form}")
    query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    interface = query.pop("interface", [""])[0]
    if query:
        raise ValueError(f"{text!r}: {', '.join(query)} is not known; the form is {form}")
    for address in filter(None, (host, interface)):
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            raise ValueError(f"{text!r}: {address} is not an IPv4 address") from None
    line = LineAddress(host, port, interface)
    if interface and not line.is_multicast:
        raise ValueError(f"{text!r}: an interface belongs to a multicast group, 224.0.0.0 to 239.255.255.255")
    return line


def _checked(text: str) -> str:
    parse_address(text)
    return text


AddressText = Annotated[str, AfterValidator(_checked)]
OptionalAddressText = Annotated[str, AfterValidator(lambda text: _checked(text) if text else text)]
"""For settings."""


def open_receiver(address: LineAddress, buffer_bytes: int) -> tuple[socket.socket, list[str]]:
    """A bound socket that never blocks, and what was not granted, in words. Raises LineError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        findings = _take_buffer(sock, buffer_bytes)
        if address.is_multicast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # others of this machine may listen too
            sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
        sock.bind((address.host, address.port))
        if address.is_multicast:
            membership = socket.inet_aton(address.host) + socket.inet_aton(address.interface or "0.0.0.0")
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    except OSError as error:
        sock.close()
        raise LineError(f"cannot receive at {_text(address)}: {error.strerror}; {_hint(address)}") from None
    return sock, findings


def open_sender(address: LineAddress, buffer_bytes: int = 0) -> socket.socket:
    """A socket connected to the line, which never blocks. Raises LineError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if buffer_bytes:
            _take_buffer(sock, buffer_bytes)
        if address.is_multicast and address.interface:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address.interface))
        sock.connect((address.host, address.port))
    except OSError as error:
        sock.close()
        raise LineError(f"cannot send to {_text(address)}: {error.strerror}; {_hint(address)}") from None
    return sock


def _take_buffer(sock: socket.socket, wanted: int) -> list[str]:
    """Ask for a receive buffer of `wanted` bytes; Linux doubles it for its own book-keeping and caps it silently."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if found >= wanted:
        return []
    return [f"SO_RCVBUF={wanted}: the kernel gave {found}; raise sysctl net.core.rmem_max to {wanted}"]


def drop_count(sock: socket.socket) -> int:
    """Datagrams that this socket has lost because its buffer was full, since it was opened."""
    try:
        return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))[-1])
    except (OSError, struct.error):
        return 0  # an older kernel does not say


def _text(address: LineAddress) -> str:
    interface = f"?interface={address.interface}" if address.interface else ""
    return f"udp://{address.host}:{address.port}{interface}"


def _hint(address: LineAddress) -> str:
    if address.is_multicast:
        return "name with ?interface=IP an interface of this machine that has multicast"
    return "the host must be an address of this machine, the port free"
