"""Hash table of 32-byte records that stand in it themselves: found by one cache line, and never moved.

Two records share a cache line, and both can be home there. A record whose home line is full goes to the next line with
room, and every line that it passes over counts it. A search goes on from a line only if that count is not 0, so
nothing is left behind by what is removed: a table is as good after a year. The number of lines is what the caller
likes; behind the last home stand LINES_BEYOND more, so no search wraps around.

    record      0  key            16  4 bytes that are 0 in a free record, and only there
                28  owner, 20 bits: whose it is; in the first of a line above it, 12 bits: how many passed the line

A record is named by its number, its address in units of 32 bytes from a base that several tables may share: 0 is none.
An index of its own beside the records would be one more cache miss a message: see bench/alternatives.
"""

from shm.atomics import load_u32, load_word, multiply_shift_32, prefetch, store_u32
from shm.kernel import primitive, routine

RECORD_BYTES, LINE_BYTES = 32, 64
IN_USE, OWNER = 16, 28
OWNER_BITS = 20
OWNER_MASK = (1 << OWNER_BITS) - 1
PASSED = 1 << OWNER_BITS
PASSED_MAX = 4000
LINES_BEYOND = 256
"""Most lines from its home at which a record may stand; and PASSED_MAX is the most that a line may count."""
ANY_OWNER, THIS_OWNER = 0, OWNER_MASK
"""Whether keys are unique in the table, or only among those of one owner."""
MASK_32 = 0xFFFFFFFF
_MULTIPLIER = 0x60A7A510F0369C77
"""Odd, below 2**63 for int64, and no fraction of 2**64 that a simple one is near to, nor is any of its multiples by a
usual price step (1, 2, 5, 25, 125 times a power of ten) or a power of two: homes of keys at equal distances spread as
evenly as they can. One of which 100 times, a cent to ITCH, was near to a half left no room in a table half full."""


def table_bytes(lines: int) -> int:
    """Bytes of a table in which `lines` lines are homes."""
    return LINE_BYTES * (lines + LINES_BEYOND)


@primitive
def table_bytes_of(lines: int) -> int:
    """`table_bytes`, for kernels."""
    return LINE_BYTES * (lines + LINES_BEYOND)


@primitive
def hash_of(key: int, salt: int) -> int:
    """32 bits of a key: the middle of a 128-bit product, its halves folded."""
    middle = multiply_shift_32(key ^ salt, _MULTIPLIER)
    return (middle ^ middle >> 32) & MASK_32


@primitive
def home_of(table: int, lines: int, hash_32: int) -> int:
    """Address of the line where the search for a hash begins."""
    return table + LINE_BYTES * (hash_32 * lines >> 32)


@primitive
def ask_for(home: int) -> None:
    """Prefetch the line where a search begins, and the next: of a half full table each fourth home line is full."""
    prefetch(home)
    prefetch(home + LINE_BYTES)


@primitive
def is_in_use(record: int) -> bool:
    """Whether the record at this address is in use."""
    return load_u32(record + IN_USE) != 0


@primitive
def owner_of(record: int) -> int:
    """Whose record it is."""
    return load_u32(record + OWNER) & OWNER_MASK


@primitive
def is_of(record: int, key: int, owner: int, mask: int) -> bool:
    """Whether the record at this address is in use, with this key and owner."""
    return (load_word(record) == key) & is_in_use(record) & ((load_u32(record + OWNER) ^ owner) & mask == 0)


@primitive
def find(table: int, lines: int, hash_32: int, key: int, owner: int, mask: int) -> int:
    """Address of the record with this key and owner, 0 when there is none; `mask` is ANY_OWNER or THIS_OWNER."""
    return find_from(home_of(table, lines, hash_32), key, owner, mask)


@primitive
def find_from(home: int, key: int, owner: int, mask: int) -> int:
    """`find` by who knows the address of the key's home."""
    at = home
    is_first, is_second = is_of(at, key, owner, mask), is_of(at + RECORD_BYTES, key, owner, mask)
    while not (is_first | is_second) and load_u32(at + OWNER) >= PASSED:
        at += LINE_BYTES
        is_first, is_second = is_of(at, key, owner, mask), is_of(at + RECORD_BYTES, key, owner, mask)
    return (at + RECORD_BYTES * int(is_second)) * int(is_first | is_second)


@primitive
def has_room(line: int) -> bool:
    """Whether a record of the line is free. By signs: LLVM makes branches of `or`, wrong every other time."""
    return ((load_u32(line + IN_USE) - 1) | (load_u32(line + RECORD_BYTES + IN_USE) - 1)) < 0


@primitive
def room(table: int, lines: int, hash_32: int) -> int:
    """Address of the free record that is nearest to the home of a hash, 0 when that is too far away."""
    at = home_of(table, lines, hash_32)
    last = at + LINE_BYTES * (LINES_BEYOND - 1)
    while not has_room(at):
        if at == last or load_u32(at + OWNER) >= PASSED * PASSED_MAX:
            return 0
        at += LINE_BYTES
    return at + RECORD_BYTES * int(is_in_use(at))


@primitive
def claim(table: int, lines: int, hash_32: int, record: int, owner: int) -> None:
    """Take the record that `room` found: its owner is set. The caller sets the key, and IN_USE to other than 0."""
    home = home_of(table, lines, hash_32)
    if home + LINE_BYTES <= record:
        _pass(home, record, PASSED)
    store_u32(record + OWNER, load_u32(record + OWNER) & ~OWNER_MASK | owner)


@primitive
def release(table: int, lines: int, hash_32: int, record: int) -> None:
    """Give a record back; `hash_32` is that of its key."""
    home = home_of(table, lines, hash_32)
    if home + LINE_BYTES <= record:
        _pass(home, record, -PASSED)
    store_u32(record + IN_USE, 0)


@routine
def _pass(home: int, record: int, change: int) -> None:
    """A record begins, or ceases, to pass over the lines from its home to its own."""
    for at in range(home, record - RECORD_BYTES, LINE_BYTES):
        store_u32(at + OWNER, load_u32(at + OWNER) + change)
