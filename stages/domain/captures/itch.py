"""Recorded ITCH 5.0 for whoever plays it: messages in order, each with its time, and what they are about.

A file of them is one of frames.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from stages.domain.captures.binance import CaptureError
from stages.domain.captures.binary import HINT, DamagedCaptureError, contents, up_to_damage
from stages.domain.codecs.itch import EVENT, MESSAGES, START_OF_MESSAGES
from stages.domain.codecs.itch_frames import LENGTH_BYTES

_CODES = {">u8": "Q", ">u4": "I", ">u2": "H"}
_LENGTHS = {ord(letter): dtype.itemsize for letter, dtype in MESSAGES.items()}
_NAMED = {
    ord(letter): int(dtype.fields["stock"][1])
    for letter, dtype in MESSAGES.items()
    if dtype.fields is not None and "stock" in dtype.fields
}
_LOCATE = struct.Struct(">H")
_TIME = struct.Struct(">HI")
LOCATE_AT, TIME_AT = 1, 5
STOCK_BYTES = 8


def unpacker(letter: str) -> tuple[struct.Struct, tuple[str, ...]]:
    """(struct, names of its fields) of all of a message of this type."""
    dtype = MESSAGES[letter]
    assert dtype.names is not None
    assert dtype.fields is not None
    kinds = [dtype.fields[name][0] for name in dtype.names]
    return struct.Struct(">" + "".join(_CODES.get(kind.str, f"{kind.itemsize}s") for kind in kinds)), dtype.names


def time_ns(message: bytes) -> int:
    """Of a message, since midnight."""
    high, low = _TIME.unpack_from(message, TIME_AT)
    return int(high << 32 | low)


def locate(message: bytes) -> int:
    """The number of the security that a message is about."""
    return int(_LOCATE.unpack_from(message, LOCATE_AT)[0])


def stock(message: bytes) -> str | None:
    """The security's name, if the message has it."""
    at = _NAMED.get(message[0])
    return None if at is None else message[at : at + STOCK_BYTES].decode("ascii", "replace").strip()


def begins_day(message: bytes, before_ns: int) -> bool:
    """Whether a message, which follows one of the time `before_ns`, is the first of another day: see the codec."""
    return message[:1] == b"S" and message[EVENT] == START_OF_MESSAGES and time_ns(message) < before_ns


def messages(file: str, lost: list[str] | None = None) -> Iterator[bytes]:
    """The messages of a file. Raises CaptureError when it cannot be read, DamagedCaptureError after its good part."""
    rest, offset = b"", 0
    for piece in chain(contents(file, lost, is_raw=False), (b"",)):
        content, at = rest + piece, 0
        while len(content) - at > LENGTH_BYTES:
            size = content[at] << 8 | content[at + 1]
            if _LENGTHS.get(content[at + LENGTH_BYTES]) != size:
                raise DamagedCaptureError(f"{file}: no ITCH message at offset {offset + at}", HINT)
            end = at + LENGTH_BYTES + size
            if end > len(content):
                break
            yield content[at + LENGTH_BYTES : end]
            at = end
        rest, offset = content[at:], offset + at
    if rest.strip(b"\0"):
        raise DamagedCaptureError(f"{file}: cut short, {len(rest)} bytes are left over at offset {offset}", HINT)


def is_itch(file: str) -> bool:
    """Whether a file begins with ITCH: a frame as long as the message of its type. Raises CaptureError.

    Nothing else that we read begins so, and a file that is damaged soon after is one all the same.
    """
    return next(played([file]), None) is not None


@dataclass
class ItchDescription:
    """What a list of ITCH files holds, in playing order."""

    files: list[str]
    symbols: dict[str, int] = field(default_factory=dict)
    """Messages by the security's name."""
    message_count: int = 0
    first_ns: int = 0
    damage: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def add(self, names: dict[int, str], counts: dict[int, int]) -> None:
        """Count a day's messages: by stock locate, to its name."""
        for number, name in names.items():
            self.symbols[name] = self.symbols.get(name, 0) + counts[number]

    @property
    def warnings(self) -> list[str]:
        """The damage, and what became of it; what is not there."""
        return [*(f"{what}; {HINT}" for what in self.damage), *self.lost]


def played(files: Sequence[str], damage: list[str] | None = None, lost: list[str] | None = None) -> Iterator[bytes]:
    """The messages of all files, one after the other, up to where one is damaged: see `up_to_damage`."""
    return up_to_damage(messages, files, damage, lost)


def describe(files: Sequence[str]) -> ItchDescription:
    """Read all files once. Raises CaptureError when there is nothing to play."""
    found = ItchDescription(list(files))
    names: dict[int, str] = {}
    counts: dict[int, int] = {}
    before_ns = 0
    for message in played(files, found.damage, found.lost):
        if not found.message_count:
            found.first_ns = time_ns(message)
        if begins_day(message, before_ns):
            found.add(names, counts)
            names, counts = {}, {}
        before_ns = time_ns(message)
        found.message_count += 1
        number = locate(message)
        counts[number] = counts.get(number, 0) + 1
        if number not in names and (name := stock(message)):
            names[number] = name
    found.add(names, counts)
    if not found.symbols:
        raise CaptureError(f"{', '.join(files)}: no ITCH message names a security", "give an ITCH 5.0 file")
    return found


def fields(message: bytes, _cache: dict[int, Any] = {}) -> dict[str, Any]:  # noqa: B006 - the cache is the point
    """The message's fields by name: integers, and bytes for letters and names."""
    kind = message[0]
    if kind not in _cache:
        _cache[kind] = unpacker(chr(kind))
    layout, names = _cache[kind]
    return dict(zip(names, layout.unpack(message), strict=True))
