"""Socket options of the line's connections: set in one place, each read back, because kernels cap and refuse silently.

`tune` answers with findings in words; the stage logs them once. Nothing here is required: a socket without these
options still trades, only later.
"""

import socket
from urllib.parse import urlsplit

HTTP_PORT = 80
BUFFER_BYTES = 4 << 20
"""Asked for in both directions; Linux doubles it for its own book-keeping and caps it at net.core.[rw]mem_max."""

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 10
BUSY_POLL_US = 50
USER_TIMEOUT_MS = 10_000
"""Bytes that the other end has not acknowledged for so long end the connection; by itself TCP waits for 15 minutes."""

SO_BUSY_POLL = getattr(socket, "SO_BUSY_POLL", 46)
"""Linux's number; the socket module names it from Python 3.12 on."""

_BUFFER_HINT = "raise sysctl net.core.{}mem_max to 8388608"

_OPTIONS: tuple[tuple[str, int, int, int, int, str], ...] = (
    # name, level, option, wanted, least value that counts as granted, hint
    ("TCP_NODELAY", socket.IPPROTO_TCP, socket.TCP_NODELAY, 1, 1, ""),
    ("TCP_QUICKACK", socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1, 1, ""),
    ("SO_RCVBUF", socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES, BUFFER_BYTES, _BUFFER_HINT.format("r")),
    ("SO_SNDBUF", socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES, BUFFER_BYTES, _BUFFER_HINT.format("w")),
    ("SO_KEEPALIVE", socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, 1, ""),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S, KEEPALIVE_IDLE_S, ""),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S, KEEPALIVE_INTERVAL_S, ""),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS, USER_TIMEOUT_MS, ""),
    ("SO_BUSY_POLL", socket.SOL_SOCKET, SO_BUSY_POLL, BUSY_POLL_US, BUSY_POLL_US, "needs CAP_NET_ADMIN"),
)


def connect_directly(url: str, timeout_s: float, receive_bytes: int = 0) -> socket.socket:
    """A TCP connection to the host and port of `url`, through no proxy, whatever the environment says of proxies.

    `receive_bytes` sets SO_RCVBUF before connecting, when it still decides on the window. Blocks; raises OSError, and
    ValueError for a URL without a host.
    """
    parts = urlsplit(url)
    if parts.hostname is None:
        raise ValueError(f"{url!r} names no host")
    failure = OSError(f"no address of {parts.hostname} can be reached")
    places = socket.getaddrinfo(parts.hostname, parts.port or HTTP_PORT, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in places:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout_s)
            if receive_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def tune(sock: socket.socket) -> list[str]:
    """Set the options on a connected TCP socket and read each back; one line of words per option that was refused.

    The descriptor becomes non-blocking. Never raises for an option: a refusal is a finding.
    """
    findings = []
    for name, level, option, wanted, least, hint in _OPTIONS:
        finding = _set(sock, name, level, option, wanted, least)
        if finding:
            findings.append(f"{finding}; {hint}" if hint else finding)
    sock.setblocking(False)
    return findings


def _set(sock: socket.socket, name: str, level: int, option: int, wanted: int, least: int) -> str | None:
    try:
        sock.setsockopt(level, option, wanted)
        found = sock.getsockopt(level, option)
    except OSError as error:
        return f"{name}={wanted}: refused: {error.strerror}"
    return None if found >= least else f"{name}={wanted}: the kernel gave {found}"


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback, whose bytes wait for nobody (TCP_NODELAY)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        ends = near, server.accept()[0]
    for end in ends:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ends
