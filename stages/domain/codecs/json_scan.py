"""Scanning JSON bytes in compiled code: the primitives that the codecs of Binance's messages are made of.

A cursor is the absolute address of the next byte. Every function takes the cursor and `end` (the address after the
document's last byte) and returns the cursor after what it read, with the value where there is one; a negative cursor
is an error code: SYNTAX, OVERFLOW, TOO_MANY_DECIMALS, TOO_DEEP. Nothing is written anywhere.

Two things make it fast: eight bytes are looked at in one load, and a tuple returned by an inlined function costs
nothing. The price is a contract on the buffer: GUARD_BYTES readable bytes stand before the document and after it. A
function may look at guard bytes; callers make sure at the end that the cursor has not passed `end`.

The scanner is for compact JSON of ASCII text, which is what the venue sends: white space between tokens, escapes and
bytes above 127 are SYNTAX here, and the caller hands such a document to a full parser.
"""

from shm.atomics import add_wrapping, load_u8, load_unaligned, multiply_wrapping, trailing_zeros
from shm.kernel import primitive, routine

GUARD_BYTES = 128

SYNTAX = -1
OVERFLOW = -2
"""A number does not fit int64."""
TOO_MANY_DECIMALS = -3
"""More than DECIMALS decimals that are not zero."""
TOO_DEEP = -4
"""Brackets nested deeper than DEPTH_MAX."""

DECIMALS = 8
SCALE = 10**DECIMALS
DEPTH_MAX = 32

QUOTE = ord('"')
_BACKSLASH, _MINUS, _DOT, _COMMA, _COLON = ord("\\"), ord("-"), ord("."), ord(","), ord(":")
_ZERO, _NINE = ord("0"), ord("9")
_PLUS, _EXPONENT, _LOWER_CASE = ord("+"), ord("e"), 0x20
_OPEN_ARRAY, _CLOSE_ARRAY, _OPEN_OBJECT, _CLOSE_OBJECT = ord("["), ord("]"), ord("{"), ord("}")

# Constants are written as int64: a literal above 2**63 - 1 would make Numba's arithmetic unsigned.
_ONES = 0x0101010101010101
_HIGH_BITS = -0x7F7F7F7F7F7F7F80
_ZEROS_TEXT = _ONES * _ZERO
_DOTS_TEXT = _ONES * _DOT
_QUOTES_TEXT = _ONES * QUOTE
_ABOVE_NINE = 0x7676767676767676
_LIMIT = 2**63 - 1


def word(text: str) -> int:
    """`text` of up to 8 ASCII characters as the int64 that a little-endian load of it gives, zero padded."""
    raw = text.encode("ascii")
    if len(raw) > 8:
        raise ValueError(f"{text!r} has {len(raw)} bytes, a word holds 8")
    return int.from_bytes(raw.ljust(8, b"\0"), "little", signed=True)


_TRUE, _FALSE, _NULL = word("true"), word("false"), word("null")
_MASK_4, _MASK_5 = (1 << 32) - 1, (1 << 40) - 1


@primitive
def expect(at: int, end: int, byte: int) -> int:
    """The cursor after `byte`, or SYNTAX."""
    if at < end and load_u8(at) == byte:
        return at + 1
    return SYNTAX


@primitive
def _index_of(text: int, pattern: int) -> int:
    """Index of the first byte of word `text` that equals the byte repeated in `pattern`; 8 when none does."""
    differing = text ^ pattern
    return trailing_zeros(add_wrapping(differing, -_ONES) & ~differing & _HIGH_BITS) >> 3


@primitive
def _is_digits(digits: int) -> bool:
    """Whether a word, '0' already subtracted from each byte, holds 8 digits."""
    return (add_wrapping(digits, _ABOVE_NINE) | digits) & _HIGH_BITS == 0


@primitive
def _digits_value(digits: int) -> int:
    """Value of 8 digits, the first in the lowest byte: pairs, then quads, then all (three multiplications)."""
    pairs = digits * 10 + (digits >> 8)
    upper = multiply_wrapping(pairs & 0x000000FF000000FF, 100 + (1_000_000 << 32))
    lower = multiply_wrapping((pairs >> 16) & 0x000000FF000000FF, 1 + (10_000 << 32))
    return (add_wrapping(upper, lower) >> 32) & 0xFFFFFFFF


@primitive
def read_unsigned(at: int, end: int) -> tuple[int, int]:
    """(cursor, value) of an integer of digits only. OVERFLOW beyond 2**63 - 1; a superfluous leading zero is SYNTAX."""
    start = at
    value = 0
    while at < end and at - start < 18:
        digit = load_u8(at) - _ZERO
        if digit < 0 or digit > 9:
            break
        value = value * 10 + digit
        at += 1
    if at == start or (load_u8(start) == _ZERO and at - start > 1):
        return SYNTAX, 0
    while at < end:  # the 19th digit and on
        digit = load_u8(at) - _ZERO
        if digit < 0 or digit > 9:
            break
        if value > (_LIMIT - digit) // 10:
            return OVERFLOW, 0
        value = value * 10 + digit
        at += 1
    return at, value


@primitive
def read_integer(at: int, end: int) -> tuple[int, int]:
    """As `read_unsigned`, with an optional minus sign; -2**63 itself is OVERFLOW."""
    if at < end and load_u8(at) == _MINUS:
        at, value = read_unsigned(at + 1, end)
        return at, -value
    return read_unsigned(at, end)


@routine
def read_any_decimal(at: int, end: int) -> tuple[int, int]:
    """`read_decimal` for every other form: digits with at most one point between them; trailing zeros are free."""
    at += 1
    value = 0
    decimals = -1  # not in the fraction yet
    start = at
    while at < end:
        byte = load_u8(at)
        at += 1
        if _ZERO <= byte <= _NINE:
            digit = byte - _ZERO
            if decimals == DECIMALS:
                if digit != 0:
                    return TOO_MANY_DECIMALS, 0
                continue
            if value > (_LIMIT - digit) // 10:
                return OVERFLOW, 0
            value = value * 10 + digit
            if decimals >= 0:
                decimals += 1
        elif byte == _DOT and decimals < 0 and at - 1 > start:
            if load_u8(at) == QUOTE:
                return SYNTAX, 0
            decimals = 0
        elif byte == QUOTE and at - 1 > start:
            for _ in range(DECIMALS - max(decimals, 0)):
                if value > _LIMIT // 10:
                    return OVERFLOW, 0
                value *= 10
            return at, value
        else:
            return SYNTAX, 0
    return SYNTAX, 0


@primitive
def read_decimal(at: int, end: int) -> tuple[int, int]:
    """(cursor, mantissa at exponent -8) of a decimal string in quotes, `"61685.99000000"`; no sign, no exponent.

    Up to 7 digits, a point and exactly 8 decimals, as the venue writes them, take two loads; all else a loop.
    """
    if load_u8(at) != QUOTE:
        return SYNTAX, 0
    count = _index_of(load_unaligned(at + 1), _DOTS_TEXT)
    if 0 < count < 8 and load_u8(at + count + 10) == QUOTE:
        # The 8 bytes that end before the point: ours in the upper `count` of them, the lower ones made '0'.
        keep = -1 << (64 - 8 * count)
        whole = (load_unaligned(at + count - 7) & keep | _ZEROS_TEXT & ~keep) - _ZEROS_TEXT
        fraction = load_unaligned(at + count + 2) - _ZEROS_TEXT
        if _is_digits(whole) and _is_digits(fraction):
            return at + count + 11, _digits_value(whole) * SCALE + _digits_value(fraction)
    return read_any_decimal(at, end)


@primitive
def read_string(at: int, end: int) -> tuple[int, int, int]:
    """(cursor, address, length) of a string in quotes. Escapes, control characters and bytes above 127 are SYNTAX."""
    if at >= end or load_u8(at) != QUOTE:
        return SYNTAX, 0, 0
    start = at + 1
    at = start
    while at < end:
        byte = load_u8(at)
        if byte == QUOTE:
            return at + 1, start, at - start
        if byte < 32 or byte > 127 or byte == _BACKSLASH:
            break
        at += 1
    return SYNTAX, 0, 0


@primitive
def read_name(at: int, end: int) -> tuple[int, int, int]:
    """(cursor, low word, high word) of a string of up to 16 bytes in quotes, zero padded: as an `S16` field holds it.

    Longer strings, escapes and control characters match no name: they come back as (cursor, 0, 0) or as SYNTAX.
    """
    if at >= end or load_u8(at) != QUOTE:
        return SYNTAX, 0, 0
    low = load_unaligned(at + 1)
    count = _index_of(low, _QUOTES_TEXT)
    if count < 8:
        after = at + count + 2
        return (after if after <= end else SYNTAX), low & ((1 << (8 * count)) - 1), 0
    high = load_unaligned(at + 9)
    count = _index_of(high, _QUOTES_TEXT)
    if count < 8:
        after = at + count + 10
        return (after if after <= end else SYNTAX), low, high & ((1 << (8 * count)) - 1)
    if load_u8(at + 17) == QUOTE:
        return (at + 18 if at + 18 <= end else SYNTAX), low, high
    after, _, _ = read_string(at, end)
    return after, 0, 0


@primitive
def find_name(table: int, count: int, low: int, high: int) -> int:
    """Index of a name in a table of `count` rows of two words at address `table`, or -1."""
    for index in range(count):
        if load_unaligned(table + 16 * index) == low and load_unaligned(table + 16 * index + 8) == high:
            return index
    return -1


@primitive
def _skip_digits(at: int, end: int) -> int:
    """The cursor after one digit or more, or SYNTAX."""
    start = at
    while at < end and _ZERO <= load_u8(at) <= _NINE:
        at += 1
    return at if at > start else SYNTAX


@primitive
def _skip_number(at: int, end: int) -> int:
    """The cursor after a JSON number, or SYNTAX."""
    if at < end and load_u8(at) == _MINUS:
        at += 1
    start = at
    at = _skip_digits(at, end)
    if at > start + 1 and load_u8(start) == _ZERO:
        return SYNTAX
    if 0 < at < end and load_u8(at) == _DOT:
        at = _skip_digits(at + 1, end)
    if 0 < at < end and load_u8(at) | _LOWER_CASE == _EXPONENT:
        at += 1
        if at < end and load_u8(at) in (_PLUS, _MINUS):
            at += 1
        at = _skip_digits(at, end)
    return at


@primitive
def _skip_scalar(at: int, end: int) -> int:
    """The cursor after a number, true, false or null, or SYNTAX."""
    text = load_unaligned(at)
    if text & _MASK_4 == _TRUE or text & _MASK_4 == _NULL:
        return at + 4 if at + 4 <= end else SYNTAX
    if text & _MASK_5 == _FALSE:
        return at + 5 if at + 5 <= end else SYNTAX
    return _skip_number(at, end)


@routine
def skip_value(at: int, end: int) -> int:
    """The cursor after one value of any kind: brackets must match and nest at most DEPTH_MAX deep.

    Strings, numbers and names are checked; where commas and colons stand between brackets is not: it takes no part in
    finding the end of a value that nobody looks at.
    """
    depth = 0
    objects = 0  # a bit per open bracket, the innermost lowest: 1 for an object
    while at < end:
        byte = load_u8(at)
        if byte == QUOTE:
            at, _, _ = read_string(at, end)
            if at < 0:
                return SYNTAX
        elif byte in (_OPEN_OBJECT, _OPEN_ARRAY):
            if depth == DEPTH_MAX:
                return TOO_DEEP
            depth += 1
            objects = objects << 1 | (1 if byte == _OPEN_OBJECT else 0)
            at += 1
        elif byte in (_CLOSE_OBJECT, _CLOSE_ARRAY):
            if depth == 0 or objects & 1 != (1 if byte == _CLOSE_OBJECT else 0):
                return SYNTAX
            depth -= 1
            objects >>= 1
            at += 1
        elif byte in (_COMMA, _COLON):
            if depth == 0:
                return SYNTAX
            at += 1
            continue
        else:
            at = _skip_scalar(at, end)
            if at < 0:
                return SYNTAX
        if depth == 0:
            return at
    return SYNTAX
