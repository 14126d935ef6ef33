"""Price levels of an order book (L2): one side is a sorted list of small sorted blocks, the best level at its END.

    key       the price mantissa of a bid, the negated one of an ask: on both sides the best level has the greatest key
    quantity  mantissa, above 0 for a level that is in the book

Between two diffs other code takes the core's branch predictors, so what a level costs is mostly wrong guesses: a
sorted array with bisection and memmove cost 110 ns a level on a recorded session. Here the block is found by a
bisection without branches, the place in the block by counting keys below, without one either, and an absolute quantity
is stored there, whether it changes a level or, being 0, removes it: a removed level keeps its key as a grave, for
prices come back. Only a price that the block does not know moves memory, at most BLOCK_KEYS words.

Byte picture of a side (private to its process, zeroed and then `format_side`):

      0  levels, capacity, dropped, blocks, blocks_max, moves     8 bytes each
     48  directory[blocks_max]:
              0  low            block b holds the keys from its low up to the next one's; the first one's is LOWEST
              8  place          live, 8 bits: its keys that have a quantity; used, 8 bits: its keys, graves too; above:
                                where the block is, from the side's address. Beyond `blocks`: the free ones
     ..  blocks_max blocks:
              0  keys[BLOCK_KEYS]          ascending; NO_KEY beyond `used`
            128  quantities[BLOCK_KEYS]    0 in a grave

Whoever changes a level at random waits for cache lines: two of the side, two of keys, one of quantities. There were
nine with blocks of 32 keys, their numbers in a line of their own, lows and offsets in an array each, and a level cost
163 ns in place of 115 at random, 121 in place of 88 with locality, 101 in place of 79 in one deep book (C++, in turns).

The last key of the last block is live, so the best level is found at once. A block with fewer than LIVE_MIN levels, or
more than GRAVES_MAX graves, is tidied when a level leaves it, and joined to a neighbour if both fit into JOINED_MAX.

A book that gets deeper than `capacity`, or so sparse that its blocks do not suffice, forgets its deepest level, which
is counted (`dropped`): far from the touch the book is then incomplete, as it is beyond the venue's snapshot anyway.
"""

from shm.atomics import load_word, prefetch, store_word
from shm.kernel import kernel, primitive, routine
from stages.domain.warming import warm

LEVELS, CAPACITY, DROPPED, BLOCKS, BLOCKS_MAX, MOVES = 0, 8, 16, 24, 32, 40
"""MOVES counts how often a block has come or gone: levels may stand in other blocks since."""
DIRECTORY, ENTRY_BYTES, PLACE = 48, 16, 8
LIVE, USED, OFFSET_BITS = 1, 1 << 8, 16
"""One more live, or used, key of a block, in its place."""
BLOCK_KEYS = 16
USED_MAX = BLOCK_KEYS - 1
"""The last key is always NO_KEY, so every search ends within the keys."""
QUANTITIES = 8 * BLOCK_KEYS
BLOCK_BYTES = 16 * BLOCK_KEYS

LIVE_MIN = BLOCK_KEYS // 4
GRAVES_MAX = BLOCK_KEYS // 2
JOINED_MAX = 3 * BLOCK_KEYS // 4
HALF = BLOCK_KEYS // 2
WARM_BLOCKS = 16

NO_KEY = 2**62
"""Above all keys, which are below 2**62 in size: differences of two do not overflow."""
LOWEST = -(2**62)


@kernel
def _blocks_max(capacity: int) -> int:
    return capacity // LIVE_MIN + 4


def side_bytes(capacity: int) -> int:
    """Bytes of a side of up to `capacity` levels. Raises ValueError for one without levels."""
    if capacity < 1:
        raise ValueError(f"order book capacity={capacity} must be at least 1 level")
    return int(_first_block(_blocks_max(capacity)) + _blocks_max(capacity) * BLOCK_BYTES)


@kernel
def _first_block(blocks_max: int) -> int:
    return (DIRECTORY + ENTRY_BYTES * blocks_max + 63) // 64 * 64


def format_side(side: int, capacity: int) -> None:
    """Cold: make the zeroed memory at address `side` an empty side."""
    side_bytes(capacity)
    restore(side, capacity)


@kernel
def restore(side: int, capacity: int) -> None:
    """Make a side of this capacity empty and whole again, whatever has become of it."""
    blocks_max = _blocks_max(capacity)
    store_word(side + CAPACITY, capacity)
    store_word(side + BLOCKS_MAX, blocks_max)
    for index in range(blocks_max):
        store_word(place_at(side, index), _first_block(blocks_max) + index * BLOCK_BYTES << OFFSET_BITS)
    clear(side)


@primitive
def is_block_place(side: int, index: int) -> bool:
    """Whether the directory leads to a place where a block can be."""
    offset, blocks_max = load_word(place_at(side, index)) >> OFFSET_BITS, load_word(side + BLOCKS_MAX)
    number = (offset - _first_block(blocks_max)) // BLOCK_BYTES
    return (0 <= number < blocks_max) & (_first_block(blocks_max) + number * BLOCK_BYTES == offset)


@routine
def clear(side: int) -> None:
    """Forget all levels."""
    store_word(side + LEVELS, 0)
    store_word(side + BLOCKS, 1)
    store_word(low_at(side, 0), LOWEST)
    _fill(side, 0, 0, 0)


@primitive
def level_count(side: int) -> int:
    """Levels in the side."""
    return load_word(side + LEVELS)


@primitive
def dropped(side: int) -> int:
    """Levels forgotten for want of room, ever."""
    return load_word(side + DROPPED)


@primitive
def low_at(side: int, index: int) -> int:
    """Address of the low of block `index`."""
    return side + DIRECTORY + ENTRY_BYTES * index


@primitive
def place_at(side: int, index: int) -> int:
    """Address of the place of block `index`."""
    return low_at(side, index) + PLACE


@primitive
def block_at(side: int, index: int) -> int:
    """Address of block `index` of the directory."""
    return side + (load_word(place_at(side, index)) >> OFFSET_BITS)


@primitive
def used_in(side: int, index: int) -> int:
    """Keys of block `index`, graves too."""
    return load_word(place_at(side, index)) >> 8 & 0xFF


@primitive
def live_in(side: int, index: int) -> int:
    """Levels of block `index`."""
    return load_word(place_at(side, index)) & 0xFF


@primitive
def _count(side: int, index: int, change: int) -> None:
    """Change the numbers of a block's keys by multiples of USED and LIVE."""
    at = place_at(side, index)
    store_word(at, load_word(at) + change)


@primitive
def _move_entry(side: int, to: int, index: int) -> None:
    store_word(low_at(side, to), load_word(low_at(side, index)))
    store_word(place_at(side, to), load_word(place_at(side, index)))


@primitive
def _key(block: int, index: int) -> int:
    return block + 8 * index


@primitive
def _quantity(block: int, index: int) -> int:
    return block + QUANTITIES + 8 * index


@primitive
def warm_best(side: int) -> None:
    """Ask for the cache lines of the WARM_BLOCKS best blocks, and of their entries in the directory."""
    blocks = load_word(side + BLOCKS)
    first = max(0, blocks - WARM_BLOCKS)
    warm(low_at(side, first), ENTRY_BYTES * WARM_BLOCKS)
    for index in range(first, blocks):
        warm(block_at(side, index), BLOCK_BYTES)


@primitive
def prefetch_directory(side: int) -> None:
    """Ask for what finds a key's block: the side's first line and the next, with the beginning of its directory."""
    prefetch(side)
    prefetch(side + 64)


@primitive
def prefetch_block(side: int, key: int) -> None:
    """Ask for the block of a key."""
    block = block_at(side, _find_block(side, key))
    for offset in range(0, BLOCK_BYTES, 64):
        prefetch(block + offset)


@primitive
def best_key(side: int) -> int:
    """Key of the best level, 0 when the side is empty (no price is 0)."""
    last = load_word(side + BLOCKS) - 1
    used = used_in(side, last)
    return load_word(_key(block_at(side, last), used - 1)) if used > 0 else 0


@primitive
def best_quantity(side: int) -> int:
    """Quantity at the best level, 0 when the side is empty."""
    last = load_word(side + BLOCKS) - 1
    used = used_in(side, last)
    return load_word(_quantity(block_at(side, last), used - 1)) if used > 0 else 0


@primitive
def _find_block(side: int, key: int) -> int:
    """Index of the last block whose low is not above `key`. Each step halves what is left, without a branch.

    A shift, because LLVM makes a branch of the obvious `half & mask`, wrong every other time: 56 ns a level, not 38.
    """
    base, size = 0, load_word(side + BLOCKS)
    while size > 1:
        half = size >> 1
        base += half >> (~((load_word(low_at(side, base + half)) - key - 1) >> 63) & 63)
        size -= half
    return base


@primitive
def _find_key(block: int, key: int) -> int:
    """How many keys of the block are below `key`: its place. Every fourth is counted, then the three between."""
    below = 0
    for index in range(3, USED_MAX, 4):
        below += int(load_word(_key(block, index)) < key)
    below *= 4
    at = _key(block, below)
    return below + int(load_word(at) < key) + int(load_word(at + 8) < key) + int(load_word(at + 16) < key)


@routine
def set_level(side: int, key: int, quantity: int) -> None:
    """Set the absolute quantity at `key`; 0 removes the level, and removing what is not there is normal."""
    index = _find_block(side, key)
    block = block_at(side, index)
    place = _find_key(block, key)
    if load_word(_key(block, place)) != key:
        if quantity != 0:
            _add(side, key, quantity)
        return
    at = _quantity(block, place)
    levels = load_word(side + LEVELS)
    change = int(quantity != 0) - int(load_word(at) != 0)
    if (change > 0) & (levels == load_word(side + CAPACITY)):
        _add(side, key, quantity)
        return
    store_word(at, quantity)
    if change == 0:
        return
    _count(side, index, LIVE * change)
    store_word(side + LEVELS, levels + change)
    live, used = live_in(side, index), used_in(side, index)
    if (change < 0) & ((place == used - 1) | (live < LIVE_MIN) | (used - live > GRAVES_MAX)):
        _tidy(side, index)


@primitive
def quantity_at(side: int, key: int) -> int:
    """Quantity of the level with this key, 0 when there is none."""
    block = block_at(side, _find_block(side, key))
    place = _find_key(block, key)
    return load_word(_quantity(block, place)) if load_word(_key(block, place)) == key else 0


@routine
def _add(side: int, key: int, quantity: int) -> None:
    """Set a level that its side does not have, and for which room may have to be made."""
    if load_word(side + LEVELS) == load_word(side + CAPACITY):
        store_word(side + DROPPED, load_word(side + DROPPED) + 1)
        if not _drop_deepest(side, key):
            return
    index = _find_block(side, key)
    if used_in(side, index) == USED_MAX:
        if live_in(side, index) <= JOINED_MAX:
            _bury(side, index)
        else:
            if load_word(side + BLOCKS) == load_word(side + BLOCKS_MAX):
                _drop_block(side)
                if index == 0:  # its own block: what is left is better
                    store_word(side + DROPPED, load_word(side + DROPPED) + 1)
                    return
                index -= 1
            _split(side, index)
            index = _find_block(side, key)
    block, used = block_at(side, index), used_in(side, index)
    place = _find_key(block, key)
    if load_word(_key(block, place)) != key:  # not even a grave
        for at in range(used, place, -1):
            store_word(_key(block, at), load_word(_key(block, at - 1)))
            store_word(_quantity(block, at), load_word(_quantity(block, at - 1)))
        store_word(_key(block, place), key)
        _count(side, index, USED)
    store_word(_quantity(block, place), quantity)
    _count(side, index, LIVE)
    store_word(side + LEVELS, load_word(side + LEVELS) + 1)


@primitive
def _fill(side: int, index: int, used: int, live: int) -> None:
    """Block `index` holds `used` keys, `live` of them with a quantity, and no key beyond."""
    block, at = block_at(side, index), place_at(side, index)
    for place in range(used, BLOCK_KEYS):
        store_word(_key(block, place), NO_KEY)
    store_word(at, load_word(at) >> OFFSET_BITS << OFFSET_BITS | USED * used | LIVE * live)


@primitive
def _set_blocks(side: int, blocks: int) -> None:
    store_word(side + BLOCKS, blocks)
    store_word(side + MOVES, load_word(side + MOVES) + 1)


@routine
def _bury(side: int, index: int) -> None:
    """Give up the graves of a block."""
    block, kept = block_at(side, index), 0
    for place in range(used_in(side, index)):
        key, quantity = load_word(_key(block, place)), load_word(_quantity(block, place))
        store_word(_key(block, kept), key)
        store_word(_quantity(block, kept), quantity)
        kept += int(quantity != 0)
    _fill(side, index, kept, kept)


@routine
def _split(side: int, index: int) -> None:
    """Move the upper half of full block `index` to a new block behind it. A free block must be there."""
    blocks = load_word(side + BLOCKS)
    free = load_word(place_at(side, blocks))
    for at in range(blocks, index + 1, -1):
        _move_entry(side, at, at - 1)
    store_word(place_at(side, index + 1), free)
    block, upper, live = block_at(side, index), block_at(side, index + 1), 0
    for at in range(USED_MAX - HALF):
        quantity = load_word(_quantity(block, HALF + at))
        store_word(_key(upper, at), load_word(_key(block, HALF + at)))
        store_word(_quantity(upper, at), quantity)
        live += int(quantity != 0)
    store_word(low_at(side, index + 1), load_word(_key(upper, 0)))
    _fill(side, index + 1, USED_MAX - HALF, live)
    _fill(side, index, HALF, live_in(side, index) - live)
    _set_blocks(side, blocks + 1)


@routine
def _remove_block(side: int, index: int) -> None:
    """Take block `index` out of the directory; what it held belongs to nobody, or to the block before."""
    blocks = load_word(side + BLOCKS) - 1
    free = load_word(place_at(side, index))
    for at in range(index, blocks):
        _move_entry(side, at, at + 1)
    store_word(place_at(side, blocks), free)
    store_word(low_at(side, 0), LOWEST)
    _set_blocks(side, blocks)


@routine
def _tidy(side: int, index: int) -> None:
    """A level has left block `index`: give up graves, join it to a neighbour, end the side with a live level."""
    live = live_in(side, index)
    if used_in(side, index) - live > GRAVES_MAX or live == 0:
        _bury(side, index)
    if live < LIVE_MIN and load_word(side + BLOCKS) > 1:
        if live == 0:
            _remove_block(side, index)
        elif index + 1 < load_word(side + BLOCKS) and live + live_in(side, index + 1) <= JOINED_MAX:
            _join(side, index)
        elif index > 0 and live + live_in(side, index - 1) <= JOINED_MAX:
            _join(side, index - 1)
    _trim(side)


@routine
def _join(side: int, index: int) -> None:
    """Put what block `index` + 1 holds behind what block `index` does."""
    _bury(side, index)
    _bury(side, index + 1)
    block, upper = block_at(side, index), block_at(side, index + 1)
    used, more = used_in(side, index), used_in(side, index + 1)
    for at in range(more):
        store_word(_key(block, used + at), load_word(_key(upper, at)))
        store_word(_quantity(block, used + at), load_word(_quantity(upper, at)))
    _fill(side, index, used + more, used + more)
    _remove_block(side, index + 1)


@primitive
def _trim(side: int) -> None:
    """Give up the graves, and the empty blocks, above the best level."""
    while True:
        last = load_word(side + BLOCKS) - 1
        block, used = block_at(side, last), used_in(side, last)
        while used > 0 and load_word(_quantity(block, used - 1)) == 0:
            used -= 1
            store_word(_key(block, used), NO_KEY)
            _count(side, last, -USED)
        if used > 0 or last == 0:
            break
        _set_blocks(side, last)  # a free block stays where it is, behind those in use


@primitive
def _deepest(side: int) -> tuple[int, int]:
    """(index of its block, place in the block) of the deepest level of a side that has one."""
    index, at = 0, 0
    while live_in(side, index) == 0:
        index += 1
    while load_word(_quantity(block_at(side, index), at)) == 0:
        at += 1
    return index, at


@routine
def deepest_key(side: int) -> int:
    """Key of the deepest level, 0 when the side is empty."""
    if load_word(side + LEVELS) == 0:
        return 0
    index, at = _deepest(side)
    return load_word(_key(block_at(side, index), at))


@primitive
def _drop_deepest(side: int, key: int) -> bool:
    """Forget the deepest level of a side that has one. False, and nothing is done, when `key` is deeper."""
    index, at = _deepest(side)
    block = block_at(side, index)
    if key < load_word(_key(block, at)):
        return False
    store_word(_quantity(block, at), 0)
    _count(side, index, -LIVE)
    store_word(side + LEVELS, load_word(side + LEVELS) - 1)
    _tidy(side, index)
    return True


@primitive
def _drop_block(side: int) -> None:
    """Forget all levels of the deepest block, for want of blocks."""
    live = live_in(side, 0)
    store_word(side + DROPPED, load_word(side + DROPPED) + live)
    store_word(side + LEVELS, load_word(side + LEVELS) - live)
    _remove_block(side, 0)


@primitive
def copy_best(side: int, levels: int, sign: int, prices: int, quantities: int) -> int:
    """Copy the best `levels` levels, best first, to two arrays at addresses; `sign` is 1 for bids, -1 for asks.

    Zeros fill up what the side does not have. Returns how many there were.
    """
    wanted = min(load_word(side + LEVELS), levels)
    index = load_word(side + BLOCKS) - 1
    block = block_at(side, index)
    at = used_in(side, index)
    copied = 0
    while copied < wanted:
        if at == 0:
            if index == 0:  # the number of levels is wrong: the integrity check will say so, nobody reads beyond
                break
            index -= 1
            block = block_at(side, index)
            at = used_in(side, index)
            continue
        at -= 1
        quantity = load_word(_quantity(block, at))
        store_word(prices + 8 * copied, sign * load_word(_key(block, at)))
        store_word(quantities + 8 * copied, quantity)
        copied += int(quantity != 0)
    for rest in range(copied, levels):
        store_word(prices + 8 * rest, 0)
        store_word(quantities + 8 * rest, 0)
    return copied
