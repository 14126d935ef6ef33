"""Packets out of capture files of the network: pcap (µs or ns, of either byte order) and pcapng.

Sources: the IETF drafts "PCAP Capture File Format" and "PCAP Now Generic (pcapng) Capture File Format".
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stages.domain.captures.pieces import DamagedFileError, pieces

MAGIC_BYTES = 4
PACKET_BYTES_MAX = 1 << 24
"""A greater length is damage."""
_BLOCK_BYTES_MAX = PACKET_BYTES_MAX + 64
_HEAD, _RECORD = "IHHIIII", "IIII"
_NANOSECONDS, _VERSION = 0xA1B23C4D, (2, 4)
_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""Magic number: byte order, ns in a unit of the fraction of a second."""
_SECTION = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = 1, 2, 3, 6
_TIME_RESOLUTION = 9
_SECOND_NS = 10**9


class Packet(NamedTuple):
    """`offset` is where its record begins, in bytes of the unpacked file; `time_ns` is 0 where no time was taken."""

    offset: int
    time_ns: int
    link_type: int
    content: bytes


def pcap_head(link_type: int) -> bytes:
    """How a pcap file with times in ns begins."""
    return struct.pack(f"<{_HEAD}", _NANOSECONDS, *_VERSION, 0, 0, PACKET_BYTES_MAX, link_type)


def packet_record(time_ns: int, content: bytes) -> bytes:
    """One packet of such a file."""
    seconds, fraction_ns = divmod(time_ns, _SECOND_NS)
    return struct.pack(f"<{_RECORD}", seconds, fraction_ns, len(content), len(content)) + content


class _Interface(NamedTuple):
    link_type: int
    units_per_second: int


def is_pcap(start: bytes) -> bool:
    """Whether a file that begins so is one of these."""
    return start[:MAGIC_BYTES] in _PCAP or start[:MAGIC_BYTES] == _SECTION


def packets(file: str | Path) -> Iterator[Packet]:
    """The packets of a file, in its order. Raises OSError, DamagedFileError after its good part."""
    source = _Source(pieces(file))
    magic = source.peek(MAGIC_BYTES)
    if magic == _SECTION:
        yield from _pcapng(source)
    elif magic in _PCAP:
        yield from _pcap(source, *_PCAP[magic])
    else:
        raise DamagedFileError(0, "no capture file of the network")


class _Source:
    """A stream of pieces read field by field."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._stream, self._content, self._at = stream, b"", 0
        self.offset = 0

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self._content) - self._at < size:
            piece = next(self._stream, b"")
            if not piece:
                break
            self._content, self._at = self._content[self._at :] + piece, 0
        return self._content[self._at : self._at + size]

    def take(self, size: int, record: int) -> bytes:
        """The next `size` bytes of the record that begins at offset `record`."""
        found = self.peek(size)
        if len(found) < size:
            raise DamagedFileError(record, f"the file ends within a packet: {size} bytes expected, {len(found)} there")
        self._at += size
        self.offset += size
        return found


def _pcap(source: _Source, order: str, unit_ns: int) -> Iterator[Packet]:
    *_, link_type = struct.unpack(f"{order}{_HEAD}", source.take(struct.calcsize(f"<{_HEAD}"), 0))
    header = struct.Struct(f"{order}{_RECORD}")
    while source.peek(1):
        offset = source.offset
        seconds, fraction, size, _ = header.unpack(source.take(header.size, offset))
        if size > PACKET_BYTES_MAX:
            raise DamagedFileError(offset, f"a packet of {size:,} bytes, more than {PACKET_BYTES_MAX:,}")
        # The upper half of the link type says whether frames end with a checksum; what reads them goes by lengths.
        yield Packet(offset, seconds * _SECOND_NS + fraction * unit_ns, link_type & 0xFFFF, source.take(size, offset))


def _pcapng(source: _Source) -> Iterator[Packet]:
    order = "<"
    interfaces: list[_Interface] = []
    while source.peek(1):
        offset = source.offset
        head = source.take(8, offset)
        if head[:4] == _SECTION:
            magic = source.peek(4)
            if magic not in _BYTE_ORDERS:
                raise DamagedFileError(offset, f"a section of unknown byte order {magic.hex()}")
            order = _BYTE_ORDERS[magic]
            interfaces = []
        kind, size = struct.unpack(f"{order}II", head)
        if size < 12 or size % 4 or size > _BLOCK_BYTES_MAX:
            raise DamagedFileError(offset, f"a block of {size:,} bytes")
        body = source.take(size - 12, offset)
        if struct.unpack(f"{order}I", source.take(4, offset))[0] != size:
            raise DamagedFileError(offset, "a block whose two lengths differ")
        try:
            if kind == _INTERFACE:
                interfaces.append(_interface(order, body))
            elif kind in (_OLD_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET):
                yield _packet(order, kind, body, offset, interfaces)
        except (struct.error, IndexError):
            raise DamagedFileError(offset, "a block too short for what it is, or of an unknown interface") from None


def _interface(order: str, body: bytes) -> _Interface:
    (link_type,) = struct.unpack_from(f"{order}H", body)
    at, units = 8, 10**6
    while at + 4 <= len(body):
        code, size = struct.unpack_from(f"{order}HH", body, at)
        if code == _TIME_RESOLUTION and size == 1:
            power = body[at + 4]
            units = 2 ** (power & 0x7F) if power & 0x80 else 10**power
        at += 4 + (size + 3) // 4 * 4
    return _Interface(link_type, units)


def _packet(order: str, kind: int, body: bytes, offset: int, interfaces: list[_Interface]) -> Packet:
    if kind == _SIMPLE_PACKET:
        (size,) = struct.unpack_from(f"{order}I", body)
        return Packet(offset, 0, interfaces[0].link_type, body[4 : 4 + size])
    number, high, low, size, _ = struct.unpack_from(f"{order}{'I' if kind == _ENHANCED_PACKET else 'Hxx'}IIII", body)
    interface = interfaces[number]
    time_ns = ((high << 32) | low) * _SECOND_NS // interface.units_per_second
    if len(body) - 20 < size:
        raise DamagedFileError(offset, f"a packet of {size:,} bytes in a block of {len(body):,}")
    return Packet(offset, time_ns, interface.link_type, body[20 : 20 + size])
