"""Price levels of an order book (L2): one side is a sorted array of (key, quantity) pairs, the best level at its END.

    key       the price mantissa of a bid, the negated one of an ask: on both sides the best level has the greatest key
    quantity  mantissa, above 0 for a level that is in the book

Changes come mostly near the touch, so they move little memory and the search starts at the end. A pair is 16 bytes:
a level and its neighbours share a cache line, and an insertion is one memmove.

Byte picture of a side: count, capacity, dropped (8 bytes each), then from PAIRS on the pairs. The memory is
private to its process.

A book that gets deeper than `capacity` forgets its deepest level, which is counted (`dropped`): far from the touch the
book is then incomplete, as it is beyond the venue's snapshot anyway.
"""

from shm.atomics import load_word, poke, store_word
from shm.kernel import kernel, primitive
from shm.libc import memmove

COUNT = 0
CAPACITY = 8
DROPPED = 16
PAIRS = 64
PAIR_BYTES = 16

INLINE_MOVE_MAX = 8
"""Up to this many pairs are moved by plain loads and stores: a call of memmove costs about 6 ns before it moves."""


def side_bytes(capacity: int) -> int:
    """Bytes of a side of up to `capacity` levels. Raises ValueError for one without levels."""
    if capacity < 1:
        raise ValueError(f"order book capacity={capacity} must be at least 1 level")
    return PAIRS + capacity * PAIR_BYTES


def format_side(side: int, capacity: int) -> None:
    """Cold: make the zeroed memory at address `side` an empty side."""
    side_bytes(capacity)
    poke(side + CAPACITY, capacity)


@primitive
def pair(side: int, index: int) -> int:
    """Address of pair `index`: 0 is the deepest, count - 1 the best."""
    return side + PAIRS + index * PAIR_BYTES


@primitive
def level_count(side: int) -> int:
    """Levels in the side."""
    return load_word(side + COUNT)


@primitive
def clear(side: int) -> None:
    """Forget all levels."""
    store_word(side + COUNT, 0)


@primitive
def best_key(side: int) -> int:
    """Key of the best level, 0 when the side is empty (no price is 0)."""
    count = load_word(side + COUNT)
    return load_word(pair(side, count - 1)) if count > 0 else 0


@primitive
def best_quantity(side: int) -> int:
    """Quantity at the best level, 0 when the side is empty."""
    count = load_word(side + COUNT)
    return load_word(pair(side, count - 1) + 8) if count > 0 else 0


@primitive
def find(side: int, key: int) -> int:
    """Index of the first pair whose key is not below `key`; the count when all are below.

    Doubling steps down from the best level, then bisection between the last two.
    """
    high = load_word(side + COUNT)
    step = 1
    low = high - 1
    while low >= 0 and load_word(pair(side, low)) >= key:
        high = low
        low -= step
        step <<= 1
    # Everything from `high` on is >= key; pair `low`, when there is one, is below it.
    low = low + 1 if low >= 0 else 0
    while low < high:
        middle = (low + high) >> 1
        if load_word(pair(side, middle)) < key:
            low = middle + 1
        else:
            high = middle
    return low


@primitive
def _move(target: int, source: int, pairs: int) -> None:
    """Move pairs to an overlapping place."""
    if pairs > INLINE_MOVE_MAX:
        memmove(target, source, pairs * PAIR_BYTES)
    elif target < source:
        for offset in range(0, pairs * PAIR_BYTES, PAIR_BYTES):
            first, second = load_word(source + offset), load_word(source + offset + 8)
            store_word(target + offset, first)
            store_word(target + offset + 8, second)
    else:
        for offset in range((pairs - 1) * PAIR_BYTES, -1, -PAIR_BYTES):
            first, second = load_word(source + offset), load_word(source + offset + 8)
            store_word(target + offset, first)
            store_word(target + offset + 8, second)


@kernel
def set_level(side: int, key: int, quantity: int) -> None:
    """Set the absolute quantity at `key`; 0 removes the level, and removing what is not there is normal."""
    count = load_word(side + COUNT)
    index = find(side, key)
    at = pair(side, index)
    if index < count and load_word(at) == key:
        if quantity != 0:
            store_word(at + 8, quantity)
        else:
            _move(at, at + PAIR_BYTES, count - index - 1)
            store_word(side + COUNT, count - 1)
        return
    if quantity == 0:
        return
    if count == load_word(side + CAPACITY):
        store_word(side + DROPPED, load_word(side + DROPPED) + 1)
        if index == 0:
            return  # deeper than all: it is the one that is dropped
        _move(pair(side, 0), pair(side, 1), index - 1)
        at -= PAIR_BYTES
    else:
        _move(at + PAIR_BYTES, at, count - index)
        store_word(side + COUNT, count + 1)
    store_word(at, key)
    store_word(at + 8, quantity)


@primitive
def copy_best(side: int, levels: int, sign: int, prices: int, quantities: int) -> int:
    """Copy the best `levels` levels, best first, to two arrays at addresses; `sign` is 1 for bids, -1 for asks.

    Zeros fill up what the side does not have. Returns how many there were.
    """
    count = load_word(side + COUNT)
    copied = min(count, levels)
    for index in range(copied):
        at = pair(side, count - 1 - index)
        store_word(prices + 8 * index, sign * load_word(at))
        store_word(quantities + 8 * index, load_word(at + 8))
    for index in range(copied, levels):
        store_word(prices + 8 * index, 0)
        store_word(quantities + 8 * index, 0)
    return copied
