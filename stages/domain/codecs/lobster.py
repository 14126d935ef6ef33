"""LOBSTER's comma-separated rows to integers, in compiled code: message files and order book files.

A row is a line. Messages: time in s since midnight with decimals, type, order id, size, price, direction; what
follows is ignored. Order books: ask price, ask size, bid price, bid size, level by level. Prices are dollars x 10,000.

A line that is no row is kept as an invalid one, so that what stands in one line of both files stays together.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_u8, load_word, store_word
from shm.kernel import kernel, primitive
from stages.domain.codecs.json_scan import read_integer, read_unsigned

PRICE_EXPONENT = -4

ADD, PARTIAL_CANCEL, DELETE, EXECUTE, EXECUTE_HIDDEN, CROSS, HALT = range(1, 8)

MESSAGE = np.dtype(
    [
        ("time_ns", "<i8"),  # since midnight
        ("kind", "<i8"),  # the type, 1 to 7; 0 in an invalid row
        ("order_id", "<i8"),
        ("size", "<i8"),
        ("price", "<i8"),
        ("direction", "<i8"),  # of the resting order: 1 buy, -1 sell
        ("offset", "<i8"),  # of the line, in bytes
        ("line", "<i8"),  # from 1
    ]
)
MESSAGE_WORDS = MESSAGE.itemsize // 8
COLUMNS_PER_LEVEL = 4
BOOK_HEADER_WORDS = 3
"""An order book row: is it valid, its offset and its line, then the columns."""

_NEWLINE, _RETURN, _COMMA, _DOT, _ZERO, _NINE = ord("\n"), ord("\r"), ord(","), ord("."), ord("0"), ord("9")
_DECIMALS = 9
_SECOND_NS = 10**_DECIMALS
_DAY_S = 86_400
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LOOK_LINES = 20


@primitive
def _line_end(at: int, end: int) -> int:
    while at < end and load_u8(at) != _NEWLINE:
        at += 1
    return at


@primitive
def _without_return(at: int, end: int) -> int:
    """The end of a line without the carriage return that some systems write."""
    return end - 1 if end > at and load_u8(end - 1) == _RETURN else end


@kernel
def count_lines(at: int, end: int) -> int:
    """Lines that are not empty: how many rows there can be."""
    lines = 0
    while at < end:
        stop = _line_end(at, end)
        lines += int(_without_return(at, stop) > at)
        at = stop + 1
    return lines


@primitive
def _read_time(at: int, end: int) -> tuple[int, int]:
    """(cursor, ns) of decimal seconds, rounded (some files have more than 9 decimals); a negative cursor: no time."""
    at, seconds = read_unsigned(at, end)
    if at < 0 or seconds > _DAY_S:
        return -1, 0
    if at == end or load_u8(at) != _DOT:
        return at, seconds * _SECOND_NS
    at += 1
    begin, fraction, unit = at, 0, _SECOND_NS
    while at < end and _ZERO <= load_u8(at) <= _NINE:  # in tenths of ns
        fraction += (load_u8(at) - _ZERO) * unit
        unit //= 10
        at += 1
    fraction = (fraction + 5) // 10
    return (at if at > begin else -1), seconds * _SECOND_NS + fraction


@kernel
def parse_messages(at: int, end: int, rows: int) -> int:
    """Parse the text from `at` to `end` into MESSAGE rows at address `rows`, one a line; returns how many."""
    begin, count, line = at, 0, 0
    while at < end:
        stop = _line_end(at, end)
        last = _without_return(at, stop)
        line += 1
        if last > at:
            _parse_message(at, last, rows)
            store_word(rows + 48, at - begin)
            store_word(rows + 56, line)
            rows += 8 * MESSAGE_WORDS
            count += 1
        at = stop + 1
    return count


@primitive
def _parse_message(at: int, end: int, row: int) -> None:
    """Write the 6 columns; kind 0 if they are not there."""
    at, time_ns = _read_time(at, end)
    store_word(row, time_ns)
    for column in range(1, 6):
        if at < 0 or at >= end or load_u8(at) != _COMMA:
            at = -1
            break
        at, value = read_integer(at + 1, end)
        store_word(row + 8 * column, value)
    is_good = at >= 0 and (at == end or load_u8(at) == _COMMA)
    kind = load_word(row + 8)
    if not is_good or kind < ADD or kind > HALT:
        store_word(row + 8, 0)


@kernel
def parse_books(at: int, end: int, columns: int, rows: int) -> int:
    """Parse the text from `at` to `end` into rows of BOOK_HEADER_WORDS + `columns` words, one a line; how many."""
    begin, count, line = at, 0, 0
    while at < end:
        stop = _line_end(at, end)
        last = _without_return(at, stop)
        line += 1
        if last > at:
            store_word(rows, int(_parse_book(at, last, columns, rows + 8 * BOOK_HEADER_WORDS)))
            store_word(rows + 8, at - begin)
            store_word(rows + 16, line)
            rows += 8 * (BOOK_HEADER_WORDS + columns)
            count += 1
        at = stop + 1
    return count


@primitive
def _parse_book(at: int, end: int, columns: int, row: int) -> bool:
    for column in range(columns):
        if column > 0:
            if at >= end or load_u8(at) != _COMMA:
                return False
            at += 1
        at, value = read_integer(at, end)
        if at < 0:
            return False
        store_word(row + 8 * column, value)
    return at == end


def messages_of(text: bytes) -> NDArray[Any]:
    """The rows of a message file, MESSAGE of shape (rows,); kind 0 where a line is no row."""
    source = np.frombuffer(text, np.uint8)
    mark_bytes = _mark_bytes(text)
    begin, end = source.ctypes.data + mark_bytes, source.ctypes.data + len(source)
    rows = np.zeros(count_lines(begin, end), MESSAGE)
    parse_messages(begin, end, rows.ctypes.data)
    rows["offset"] += mark_bytes
    return rows


def books_of(text: bytes) -> NDArray[np.int64]:
    """The rows of an order book file, shape (rows, BOOK_HEADER_WORDS + 4 * levels); first word 0 where it is no row."""
    source = np.frombuffer(text, np.uint8)
    mark_bytes = _mark_bytes(text)
    begin, end = source.ctypes.data + mark_bytes, source.ctypes.data + len(source)
    columns = _columns(text)
    rows = np.zeros((count_lines(begin, end), BOOK_HEADER_WORDS + columns), np.int64)
    parse_books(begin, end, columns, rows.ctypes.data)
    rows[:, 1] += mark_bytes
    return rows


def _mark_bytes(text: bytes) -> int:
    """Bytes of the mark with which some systems begin a text file."""
    return len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0


def _columns(text: bytes) -> int:
    """Columns of an order book file: as most of its first lines have, of those that have four a level."""
    counts = Counter(line.count(b",") + 1 for line in text.split(b"\n", _LOOK_LINES)[:_LOOK_LINES] if line.strip())
    levels = {columns: count for columns, count in counts.items() if columns % COLUMNS_PER_LEVEL == 0}
    return max(levels, key=lambda columns: levels[columns], default=COLUMNS_PER_LEVEL)
