"""What a network card is set to, asked by the ethtool ioctl: coalescing, ring sizes, offloads.

Numbers and structures: include/uapi/linux/ethtool.h, all words of 32 bits in the machine's order.
"""

import contextlib
import ctypes
import fcntl
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

SIOCETHTOOL = 0x8946
GET_COALESCE, GET_RINGS, GET_GRO, GET_FLAGS = 0x0E, 0x10, 0x2B, 0x25
COALESCE_WORDS, RING_WORDS, VALUE_WORDS = 23, 9, 2
RX_USECS, ADAPTIVE_RX = 1, 10
RX_MAX, RX_NOW = 1, 5
FLAG_LRO = 1 << 15


@dataclass(frozen=True)
class CardSettings:
    """Each is None when the driver does not say."""

    rx_usecs: int | None
    """How long the card may collect packets before it interrupts, in µs."""
    adaptive_rx: bool | None
    rx_ring: int | None
    rx_ring_max: int | None
    gro: bool | None
    lro: bool | None


def ask(interface: str, request: bytes) -> bytes:
    """The kernel's answer to an ethtool request, of the request's length. Raises OSError."""
    buffer = ctypes.create_string_buffer(request, len(request))
    ifreq = struct.pack("16sP16x", interface.encode(), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, ifreq)
    return buffer.raw


def read_settings(interface: str, ask: Callable[[str, bytes], bytes]) -> CardSettings:
    """All that the driver answers to."""

    def words(command: int, count: int) -> tuple[int, ...] | None:
        with contextlib.suppress(OSError, struct.error):
            return struct.unpack(f"={count}I", ask(interface, struct.pack(f"={count}I", command, *[0] * (count - 1))))
        return None

    coalesce, rings = words(GET_COALESCE, COALESCE_WORDS), words(GET_RINGS, RING_WORDS)
    gro, flags = words(GET_GRO, VALUE_WORDS), words(GET_FLAGS, VALUE_WORDS)
    return CardSettings(
        coalesce[RX_USECS] if coalesce else None, bool(coalesce[ADAPTIVE_RX]) if coalesce else None,
        rings[RX_NOW] if rings else None, rings[RX_MAX] if rings else None,
        bool(gro[1]) if gro else None, bool(flags[1] & FLAG_LRO) if flags else None,
    )  # fmt: skip
