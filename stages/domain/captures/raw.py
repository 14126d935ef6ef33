"""Recorded raw 29-byte messages for whoever plays them, from files of them or from captures of the network.

A message of an unknown type in a row of others is one of them, which readers count. A file that is damaged ends where
the damage begins, and says so: `pipeline verify` looks at what is behind it.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from stages.domain.captures.binance import CaptureError
from stages.domain.captures.binary import HINT, DamagedCaptureError, contents, up_to_damage
from stages.domain.codecs.raw import MESSAGE_BYTES, NEIGHBOURS_NS, PLAUSIBLE_NS, QUOTE, TRADE
from stages.domain.codecs.raw_market import symbol_name

LOOK_MESSAGES = 16
"""So many messages at its beginning, most of known types, make a file one; fewer, where no more are."""
_LAYOUT = struct.Struct("<BIqQQ")
assert _LAYOUT.size == MESSAGE_BYTES
_KNOWN = (TRADE, QUOTE)


def unpack(message: bytes) -> tuple[int, int, int, int, int]:
    """(type, symbol id, price mantissa, quantity, time in ns)."""
    return _LAYOUT.unpack(message)


def time_ns(message: bytes) -> int:
    """Of a message."""
    return unpack(message)[4]


def messages(file: str, lost: list[str] | None = None) -> Iterator[bytes]:
    """The messages of a file. Raises CaptureError when it cannot be read, DamagedCaptureError after its good part."""
    rest, offset = b"", 0
    for piece in chain(contents(file, lost, is_raw=True), (b"",)):
        content, at = rest + piece, 0
        ahead = MESSAGE_BYTES if piece else 0  # so much of what follows is looked at, too
        while len(content) - at >= MESSAGE_BYTES + ahead:
            end = at + MESSAGE_BYTES
            if content[at] not in _KNOWN and not _is_followed(content, at, end):
                raise DamagedCaptureError(f"{file}: no raw message at offset {offset + at}", HINT)
            yield content[at:end]
            at = end
        rest, offset = content[at:], offset + at
    if rest:
        raise DamagedCaptureError(f"{file}: cut short, {len(rest)} bytes are left over at offset {offset}", HINT)


def _is_followed(content: bytes, at: int, end: int) -> bool:
    """Whether what follows says that a record of an unknown type is one: the end, a message, another of its time."""
    if len(content) - end < MESSAGE_BYTES:
        return content[end : end + 1] in (b"", *map(_byte, _KNOWN))
    time, next_time = time_ns(content[at:end]), time_ns(content[end : end + MESSAGE_BYTES])
    is_near = PLAUSIBLE_NS[0] < time < PLAUSIBLE_NS[1] and abs(next_time - time) < NEIGHBOURS_NS
    return content[end] in _KNOWN or is_near


def _byte(value: int) -> bytes:
    return bytes([value])


def is_raw(file: str) -> bool:
    """Whether a file begins with raw messages. Raises CaptureError when it cannot be read."""
    known = [message[0] in _KNOWN for message in islice(played([file]), LOOK_MESSAGES)]
    return 2 * sum(known) > len(known)


@dataclass
class RawDescription:
    """What a list of files of raw messages holds, in playing order."""

    files: list[str]
    symbols: dict[str, int] = field(default_factory=dict)
    """Messages by symbol, by their ids' order."""
    steps: dict[str, int] = field(default_factory=dict)
    """The greatest common divisor of each symbol's trade prices."""
    message_count: int = 0
    first_ns: int = 0
    damage: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What there is to know before they are played."""
        what = "raw messages: their quotes do not say their side, so no book is filled, and orders are denied"
        return [what, *(f"{damage}; {HINT}" for damage in self.damage), *self.lost]


def played(files: Sequence[str], damage: list[str] | None = None, lost: list[str] | None = None) -> Iterator[bytes]:
    """The messages of all files, one after the other, up to where one is damaged: see `up_to_damage`."""
    return up_to_damage(messages, files, damage, lost)


def describe(files: Sequence[str]) -> RawDescription:
    """Read all files once. Raises CaptureError when there is nothing to play."""
    found = RawDescription(list(files))
    counts: dict[int, int] = {}
    steps: dict[int, int] = {}
    for message in played(files, found.damage, found.lost):
        kind, symbol_id, price, _, at_ns = unpack(message)
        if not found.message_count:
            found.first_ns = at_ns
        found.message_count += 1
        if kind in _KNOWN:
            counts[symbol_id] = counts.get(symbol_id, 0) + 1
        if kind == TRADE:
            steps[symbol_id] = math.gcd(steps.get(symbol_id, 0), price)
    if not counts:
        raise CaptureError(f"{', '.join(files)}: holds no raw message", "give a file of 29-byte messages")
    found.symbols = {symbol_name(symbol_id): counts[symbol_id] for symbol_id in sorted(counts)}
    found.steps = {symbol_name(symbol_id): step for symbol_id, step in steps.items()}
    return found
