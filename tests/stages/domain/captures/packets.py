"""Packets and capture files written the obvious way."""

import struct
from collections.abc import Sequence

ETHERNET, RAW_IP, COOKED, COOKED_2, LOOPBACK = 1, 101, 113, 276, 0


def udp(
    payload: bytes, flow: int = 1, *, link: int = ETHERNET, version: int = 4, vlans: int = 0, fragment: int = 0
) -> bytes:
    """A packet with a datagram to address and port `flow`."""
    datagram = struct.pack(">HHHH", 1_000, flow, 8 + len(payload), 0) + payload
    if version == 4:
        kind = 0x0800
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, fragment, 9, 17, 0)
        packet = head + bytes(4) + bytes([flow]) * 4 + datagram
    else:
        kind = 0x86DD
        hop_by_hop = b"\x11\x00" + bytes(6)
        head = struct.pack(">IHBB", 6 << 28, len(hop_by_hop) + len(datagram), 0, 9)
        packet = head + bytes(16) + bytes([flow]) * 16 + hop_by_hop + datagram
    tags = b"".join(struct.pack(">HH", 0x8100, number) for number in range(vlans))
    behind = {
        ETHERNET: bytes(12) + tags + struct.pack(">H", kind),
        COOKED: bytes(14) + struct.pack(">H", kind),
        COOKED_2: struct.pack(">H", kind) + bytes(18),
        LOOPBACK: b"\2\0\0\0",
        RAW_IP: b"",
    }
    padding = bytes(max(0, 46 - len(packet))) if link == ETHERNET else b""  # frames have 60 bytes at least
    return behind[link] + packet + padding


def pcap(packets: Sequence[bytes], *, link: int = ETHERNET, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    """A pcap file; packet k was captured k seconds and 5 units after 1970."""
    head = struct.pack(f"{order}IHHIIII", magic, 2, 4, 0, 0, 262_144, link)
    return head + b"".join(
        struct.pack(f"{order}IIII", number, 5, len(packet), len(packet)) + packet
        for number, packet in enumerate(packets)
    )


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def pcapng(packets: Sequence[bytes], *, link: int = ETHERNET, order: str = "<", power: int | None = None) -> bytes:
    """A pcapng file with blocks of every kind that holds packets; packet k was captured at k units."""
    option = b"" if power is None else struct.pack(f"{order}HHBxxxHH", 9, 1, power, 0, 0)
    blocks = [
        _block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)),
        _block(order, 1, struct.pack(f"{order}HHI", link, 0, 0) + option),
        _block(order, 5, bytes(16)),
    ]
    for number, packet in enumerate(packets):
        size = len(packet)
        if number % 3 == 0:
            blocks.append(_block(order, 6, struct.pack(f"{order}IIIII", 0, 0, number, size, size) + packet))
        elif number % 3 == 1:
            blocks.append(_block(order, 2, struct.pack(f"{order}HHIIII", 0, 0, 0, number, size, size) + packet))
        else:
            blocks.append(_block(order, 3, struct.pack(f"{order}I", size) + packet))
    return b"".join(blocks)
