"""Hash index: from a key to the number of the 32-byte record that has it. Open addressing, one word an entry.

An entry is the key's 32-bit hash << 32 | the record's number, 0 when empty. Its home is proportional to the hash, so
a table may have any number of slots; behind the last home stand PROBES_MAX more, so no search wraps around, and the
last is never filled. Entries stand at their home or in the next free slot behind it: eight to a cache line. A removal
moves later entries back, as far as their homes allow, instead of leaving graves: a table is as good after a year.

A record has its key in its first word and, in the 4 bytes at OWNER, whose key it is: levels of one price but of
different symbols differ there. Searches end at an empty slot; an entry more than PROBES_MAX from its home is refused.
"""

from shm.atomics import load_u32, load_word, multiply_shift_32, prefetch, store_word
from shm.kernel import primitive

RECORD_BYTES = 32
OWNER = 28
PROBES_MAX = 1024
MASK_32 = 0xFFFFFFFF
_MULTIPLIER = 0x5851F42D4C957F2D  # odd, bits evenly mixed; below 2**63, for int64


@primitive
def hash_of(key: int, salt: int) -> int:
    """32 bits of a key: the 128-bit product's middle, high and low half folded."""
    middle = multiply_shift_32(key ^ salt, _MULTIPLIER)
    return (middle ^ middle >> 32) & MASK_32


@primitive
def home(table: int, slots: int, hash_32: int) -> int:
    """Address of the entry where the search for a hash begins."""
    return table + 8 * (hash_32 * slots >> 32)


@primitive
def locate(table: int, slots: int, hash_32: int, records: int, key: int, owner: int) -> int:
    """Address of the entry of a key, or of the empty one where it would be put."""
    at = home(table, slots, hash_32)
    entry = load_word(at)
    while entry != 0:
        if entry >> 32 & MASK_32 == hash_32:
            record = records + RECORD_BYTES * (entry & MASK_32)
            if (load_word(record) == key) & (load_u32(record + OWNER) == owner):
                break
        at += 8
        entry = load_word(at)
    return at


@primitive
def number_in(at: int) -> int:
    """The record's number in the entry at this address, 0 when it is empty."""
    return load_word(at) & MASK_32


@primitive
def has_room(table: int, slots: int, hash_32: int, at: int) -> bool:
    """Whether an entry may be put into the empty slot that `locate` found."""
    return at - home(table, slots, hash_32) < 8 * (PROBES_MAX - 1)


@primitive
def put(at: int, hash_32: int, number: int) -> None:
    """Fill the empty entry that `locate` found."""
    store_word(at, hash_32 << 32 | number)


@primitive
def remove(table: int, slots: int, at: int) -> None:
    """Empty the entry at this address."""
    hole = at
    at += 8
    entry = load_word(at)
    while entry != 0:
        if home(table, slots, entry >> 32 & MASK_32) <= hole:
            store_word(hole, entry)
            hole = at
        at += 8
        entry = load_word(at)
    store_word(hole, 0)


@primitive
def likely_number(table: int, slots: int, hash_32: int) -> int:
    """Number of the first record of this hash, 0 for none: whose it is, is not looked at. To look ahead with."""
    at = home(table, slots, hash_32)
    entry = load_word(at)
    while (entry != 0) & (entry >> 32 & MASK_32 != hash_32):
        at += 8
        entry = load_word(at)
    return entry & MASK_32


@primitive
def prefetch_home(table: int, slots: int, hash_32: int) -> None:
    """Ask for the line where the search for a hash begins."""
    prefetch(home(table, slots, hash_32))
