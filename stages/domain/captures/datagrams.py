"""UDP datagrams out of captured packets: Ethernet with VLAN tags, Linux cooked, loopback and raw IP; IPv4 and IPv6.

What this project records itself of streams are payloads alone, in a link type that is left to everybody's own use; of
lines of datagrams, packets of raw IP, whose addresses and ports say which line each came by.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from stages.domain.captures.pcap import packets

_ETHERNET, _COOKED, _COOKED_2 = 1, 113, 276
_LOOPBACK = (0, 108)
BARE_PAYLOAD = 147
_NOWHERE = (b"", 0)
OTHER_PROTOCOL, FRAGMENT, CUT_SHORT = "other_protocol", "fragment", "cut_short"
RAW_IP = 101
_RAW_IP = (12, 14, RAW_IP, 228, 229)
_VLAN = (0x8100, 0x88A8, 0x9100)
_IPV4, _IPV6, _UDP = 0x0800, 0x86DD, 17
_IPV6_EXTENSIONS, _IPV6_FRAGMENT = (0, 43, 60), 44
_IP_HEADER = struct.Struct(">BBHHHBBH4s4s")
_IP_TTL = 64
_HEADER = struct.Struct(">HHHH")
UDP_HEADER_BYTES = _HEADER.size


Endpoint = tuple[bytes, int]
"""Address and port."""
ANYWHERE = (bytes(4), 0)
"""An endpoint of IPv4 that is not known."""


class Datagram(NamedTuple):
    """`flow` is where it went: address and port. `offset` and `time_ns` are those of its packet."""

    offset: int
    time_ns: int
    flow: Endpoint
    payload: bytes


def ip_packet(source: Endpoint, target: Endpoint, payload: bytes) -> bytes:
    """The packet of raw IP, version 4, that carries `payload`, 65,507 bytes at most; it has no UDP checksum."""
    size = _IP_HEADER.size + UDP_HEADER_BYTES + len(payload)
    fields = (0x45, 0, size, 0, 0x4000, _IP_TTL, _UDP)
    total = sum(struct.unpack(">10H", _IP_HEADER.pack(*fields, 0, source[0], target[0])))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    udp = _HEADER.pack(source[1], target[1], UDP_HEADER_BYTES + len(payload), 0)
    return _IP_HEADER.pack(*fields, checksum, source[0], target[0]) + udp + payload


class _OtherPacketError(Exception):
    """Why a packet is no whole UDP datagram."""


def datagrams(file: str | Path, other: Callable[[str, int], None]) -> Iterator[Datagram]:
    """The datagrams of a capture file. Raises as `pcap.packets`.

    other   is told of packets that are none: what they are (OTHER_PROTOCOL, FRAGMENT, CUT_SHORT), and their offset
    """
    for packet in packets(file):
        if packet.link_type == BARE_PAYLOAD:
            yield Datagram(packet.offset, packet.time_ns, _NOWHERE, packet.content)
            continue
        try:
            flow, payload = _datagram(_ip(packet.link_type, packet.content))
        except _OtherPacketError as error:
            other(str(error), packet.offset)
        except (struct.error, IndexError):
            other(CUT_SHORT, packet.offset)
        else:
            yield Datagram(packet.offset, packet.time_ns, flow, payload)


def _ip(link_type: int, content: bytes) -> bytes:
    if link_type in _RAW_IP:
        return content
    if link_type in _LOOPBACK:
        return content[4:]
    if link_type == _ETHERNET:
        at = 12
    elif link_type == _COOKED:
        at = 14
    elif link_type == _COOKED_2:
        at = 0
    else:
        raise _OtherPacketError(OTHER_PROTOCOL)
    (kind,) = struct.unpack_from(">H", content, at)
    at = 20 if link_type == _COOKED_2 else at + 2
    while kind in _VLAN:
        (kind,) = struct.unpack_from(">H", content, at + 2)
        at += 4
    if kind not in (_IPV4, _IPV6):
        raise _OtherPacketError(OTHER_PROTOCOL)
    return content[at:]


def _datagram(packet: bytes) -> tuple[tuple[bytes, int], bytes]:
    """(flow, payload) of an IP packet."""
    version = packet[0] >> 4
    if version == 4:
        at = (packet[0] & 0xF) * 4
        _, place, protocol = struct.unpack_from(">HHxB", packet, 4)
        address = packet[16:20]
        is_fragment = bool(place & 0x3FFF)  # more to come, or not the first
    elif version == 6:
        at, protocol, address = 40, packet[6], packet[24:40]
        while protocol in _IPV6_EXTENSIONS:
            protocol, at = packet[at], at + 8 * (packet[at + 1] + 1)
        is_fragment = protocol == _IPV6_FRAGMENT
    else:
        raise _OtherPacketError(OTHER_PROTOCOL)
    if is_fragment:
        raise _OtherPacketError(FRAGMENT)
    if protocol != _UDP:
        raise _OtherPacketError(OTHER_PROTOCOL)
    _, port, size, _ = _HEADER.unpack_from(packet, at)
    payload = packet[at + UDP_HEADER_BYTES : at + size]
    if size < UDP_HEADER_BYTES or len(payload) < size - UDP_HEADER_BYTES:
        raise _OtherPacketError(CUT_SHORT)
    return (address, port), payload
