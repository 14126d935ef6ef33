"""The raw binary feed: messages of 29 packed little-endian bytes, one a datagram or one behind the other in a file.

Nothing frames a message. In a file, bytes that are none (nor one of an unknown type in a row of messages) are passed
over up to the next two messages in a row; the times of such two are less than NEIGHBOURS_NS apart, and less than
CLOCK_NS from those before the garbage: a price has bytes that look like a type, at the same place of every message, and
whoever went by them would never find back. Counted are the types, and with the offset where it first happened: records
of an unknown type, garbage, and a record cut short at the end (in a datagram: a short one).

A reader is READER bytes of private words. A stream may come in pieces, as with itch_frames.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_u8, load_u32_unaligned, load_unaligned, load_word, store_word
from shm.kernel import primitive, routine
from shm.layout import record_dtype

MESSAGE = np.dtype(
    [
        ("message_type", "u1"),
        ("symbol_id", "<u4"),
        ("price", "<i8"),  # mantissa, PRICE_EXPONENT
        ("quantity", "<u8"),
        ("timestamp_ns", "<u8"),
    ]
)
MESSAGE_BYTES = MESSAGE.itemsize
PRICE_EXPONENT = -8
TRADE, QUOTE = 1, 2
NEIGHBOURS_NS = 86_400_000_000_000
CLOCK_NS = 366 * NEIGHBOURS_NS
PLAUSIBLE_NS = (1_000_000_000_000_000_000, 4_000_000_000_000_000_000)
"""Times of the years 2001 to 2096: what makes a record of an unknown type one where no message came before."""
UNKNOWN_MAX = 8
"""So many records of unknown types, whatever their times, may come before two messages in a row."""
LOOKAHEAD_BYTES = (UNKNOWN_MAX + 3) * MESSAGE_BYTES

PROBLEMS = ("truncated", "unknown_type", "garbage")
TRUNCATED, UNKNOWN_TYPE, GARBAGE = range(3)

READER = record_dtype(
    [
        ("position", "<i8"),  # address of the first byte not yet read
        ("origin", "<i8"),  # address at which offset 0 of the stream would be
        ("is_lost", "<i8"),  # 1: within garbage that began in an earlier piece
        ("garbage_bytes", "<i8"),
        ("trades", "<i8"),
        ("quotes", "<i8"),
        ("problem_count", "<i8", len(PROBLEMS)),
        ("problem_offset", "<i8", len(PROBLEMS)),  # of the first
        ("problem_type", "<i8", len(PROBLEMS)),  # and its type byte
        ("seen_ns", "<i8"),  # of the last message
        ("clock_ns", "<i8"),  # of the last one near the one before it: one alone may be garbage; 0: there was none
    ],
    192,
)


def _offset(dtype: np.dtype, field: str) -> int:
    assert dtype.fields is not None
    return int(dtype.fields[field][1])


POSITION = _offset(READER, "position")
_ORIGIN, _IS_LOST, _GARBAGE_BYTES, _TRADES, _SEEN_NS, _CLOCK_NS = (
    _offset(READER, name) for name in ("origin", "is_lost", "garbage_bytes", "trades", "seen_ns", "clock_ns")
)
_PROBLEM_COUNT, _PROBLEM_OFFSET, _PROBLEM_TYPE = (
    _offset(READER, f"problem_{name}") for name in ("count", "offset", "type")
)
assert _offset(READER, "quotes") == _TRADES + 8 * (QUOTE - TRADE), "messages are counted by type"
_SYMBOL_ID, _PRICE, _QUANTITY, _TIMESTAMP_NS = (
    _offset(MESSAGE, name) for name in ("symbol_id", "price", "quantity", "timestamp_ns")
)
assert MESSAGE_BYTES == 29


def new_reader() -> NDArray[Any]:
    """A reader that has read nothing, shape (1,)."""
    return np.zeros(1, READER)


@primitive
def problem_count(reader: int, problem: int) -> int:
    """How often there was one of PROBLEMS."""
    return load_word(reader + _PROBLEM_COUNT + 8 * problem)


@primitive
def message_type(at: int) -> int:
    """TRADE, QUOTE, or what the byte says."""
    return load_u8(at)


@primitive
def symbol_id(at: int) -> int:
    """The message's symbol."""
    return load_u32_unaligned(at + _SYMBOL_ID)


@primitive
def price(at: int) -> int:
    """The message's price mantissa."""
    return load_unaligned(at + _PRICE)


@primitive
def quantity(at: int) -> int:
    """The message's quantity; negative from 2**63 on."""
    return load_unaligned(at + _QUANTITY)


@primitive
def timestamp_ns(at: int) -> int:
    """The message's time; negative from 2**63 on."""
    return load_unaligned(at + _TIMESTAMP_NS)


@primitive
def _is_known(at: int) -> bool:
    return TRADE <= load_u8(at) <= QUOTE


@primitive
def take_datagram(reader: int, at: int, end: int) -> int:
    """Address of the message in the datagram from `at` to `end`, which is counted; 0 when it is not used."""
    if end - at < MESSAGE_BYTES:
        _note(reader, TRUNCATED, at, end)
        return 0
    if not _is_known(at):
        _note(reader, UNKNOWN_TYPE, at, end)
        return 0
    _take(reader, at)
    return at


@primitive
def next_message(reader: int, end: int, is_last: bool) -> int:
    """Address of the next message of known type before `end`, which is counted; 0 when there is none.

    is_last   the stream ends at `end`
    """
    at = load_word(reader + POSITION)
    if end - at >= MESSAGE_BYTES and _is_known(at):
        _take(reader, at)
        _watch_clock(reader, at)
        return at
    return _next_after_problem(reader, end, is_last)


@primitive
def _take(reader: int, at: int) -> None:
    counter = reader + _TRADES + 8 * (load_u8(at) - TRADE)
    store_word(counter, load_word(counter) + 1)
    store_word(reader + POSITION, at + MESSAGE_BYTES)


@primitive
def _watch_clock(reader: int, at: int) -> None:
    time_ns = timestamp_ns(at)
    if _is_near(time_ns, load_word(reader + _SEEN_NS), NEIGHBOURS_NS):
        store_word(reader + _CLOCK_NS, time_ns)
    store_word(reader + _SEEN_NS, time_ns)


@primitive
def _is_near(time_ns: int, other_ns: int, limit_ns: int) -> bool:
    return -limit_ns < time_ns - other_ns < limit_ns


@routine
def _next_after_problem(reader: int, end: int, is_last: bool) -> int:
    """`next_message` where no message of known type is at POSITION."""
    while is_last or end - load_word(reader + POSITION) >= LOOKAHEAD_BYTES:
        at = load_word(reader + POSITION)
        if at == end:
            return 0
        if load_word(reader + _IS_LOST) == 0:
            if end - at < MESSAGE_BYTES:
                _note(reader, TRUNCATED, at, end)
                return 0
            if _is_known(at):
                _take(reader, at)
                _watch_clock(reader, at)
                return at
            if _leads_to_pair(at + MESSAGE_BYTES, end) or _is_unknown_record(reader, at, end):
                _note(reader, UNKNOWN_TYPE, at, end)
                store_word(reader + POSITION, at + MESSAGE_BYTES)
                continue
            _note(reader, GARBAGE, at, end)
        if not _skip_garbage(reader, at, end, is_last):
            break
    return 0


@primitive
def _begins_pair(at: int, end: int) -> bool:
    """Whether two messages follow each other from `at` on, as far as the stream goes."""
    if end - at < MESSAGE_BYTES:
        return at == end
    if not _is_known(at):
        return False
    behind = at + MESSAGE_BYTES
    if end - behind < MESSAGE_BYTES:
        return end == behind
    return _is_known(behind) and _is_near(timestamp_ns(behind), timestamp_ns(at), NEIGHBOURS_NS)


@primitive
def _is_unknown_record(reader: int, at: int, end: int) -> bool:
    """Whether the time of what begins at `at` says that it is a record, and so does the next one's."""
    if end - at < 2 * MESSAGE_BYTES:
        return False
    time_ns, clock_ns = timestamp_ns(at), load_word(reader + _CLOCK_NS)
    first_ns, last_ns = PLAUSIBLE_NS
    is_time = _is_near(time_ns, clock_ns, CLOCK_NS) if clock_ns != 0 else first_ns < time_ns < last_ns
    return is_time and _is_near(timestamp_ns(at + MESSAGE_BYTES), time_ns, NEIGHBOURS_NS)


@primitive
def _leads_to_pair(at: int, end: int) -> bool:
    """Whether two messages follow each other from `at` on, or behind a few records of unknown types there."""
    last = at + UNKNOWN_MAX * MESSAGE_BYTES
    while at < last and not _begins_pair(at, end):
        at += MESSAGE_BYTES
    return at < last


@primitive
def _fits_clock(at: int, clock_ns: int) -> bool:
    return clock_ns == 0 or _is_near(timestamp_ns(at), clock_ns, CLOCK_NS)


@primitive
def _skip_garbage(reader: int, at: int, end: int, is_last: bool) -> bool:
    """Move POSITION to the next place where two messages follow each other. False: there is none before `end`."""
    last = end - MESSAGE_BYTES if is_last else end - 2 * MESSAGE_BYTES
    begin = at
    clock_ns = load_word(reader + _CLOCK_NS)
    while at <= last and not (_begins_pair(at, end) and _fits_clock(at, clock_ns)):
        at += 1
    is_found = at <= last
    if is_found or not is_last:  # at the stream's end the bytes are left over
        store_word(reader + _GARBAGE_BYTES, load_word(reader + _GARBAGE_BYTES) + at - begin)
        store_word(reader + POSITION, at)
    store_word(reader + _IS_LOST, 0 if is_found else 1)
    return is_found


@primitive
def _note(reader: int, problem: int, at: int, end: int) -> None:
    count = load_word(reader + _PROBLEM_COUNT + 8 * problem)
    store_word(reader + _PROBLEM_COUNT + 8 * problem, count + 1)
    if count == 0:
        store_word(reader + _PROBLEM_OFFSET + 8 * problem, at - load_word(reader + _ORIGIN))
        store_word(reader + _PROBLEM_TYPE + 8 * problem, load_u8(at) if end > at else -1)
