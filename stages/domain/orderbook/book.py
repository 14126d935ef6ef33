"""A book, whatever it is made of: what can be asked of books of levels (L2) and of single orders (L3), by address.

All of `top` holds for both kinds: best prices and quantities, mid, spread, microprice, imbalance, state, sequence.
Here is what must look deeper. Prices and quantities are mantissas, sides 0 (bids) and 1 (asks).
"""

from shm.atomics import load_u32, load_word, prefetch, store_word
from shm.kernel import kernel, primitive, routine
from stages.domain.orderbook import l2, l2_book, l3, table, top, tree
from stages.domain.orderbook.engine import (
    COUNT,
    HEADER_BYTES,
    LEVEL_KEY,
    LOTS,
    NODE_BYTES,
    SIDE_LEVELS,
    WORSE,
    book_at,
    engine_of,
    node_at,
    record_at,
    side_at,
)
from stages.domain.orderbook.table import LINE_BYTES
from stages.domain.orderbook.top import BOOK_BYTES, KIND

VOLUME_MAX = 2**63 - 1


@primitive
def is_of_orders(book: int) -> bool:
    """Whether the book is one of single orders."""
    return load_word(book + KIND) != 0


@primitive
def level_count(book: int, side: int) -> int:
    """Levels of a side. O(1)."""
    return order_level_count(book, side) if is_of_orders(book) else l2.level_count(l2_book.side_at(book, side))


@primitive
def order_level_count(book: int, side: int) -> int:
    """`level_count` of a book of orders."""
    return load_u32(side_at(book, side) + SIDE_LEVELS)


@routine
def order_depth(book: int, side: int, levels: int, prices: int, quantities: int) -> int:
    """`depth` of a book of orders."""
    engine = engine_of(book)
    wanted = min(levels, load_u32(side_at(book, side) + SIDE_LEVELS))
    leaf = node_at(engine, tree.best_leaf(engine, side_at(book, side)))
    place = load_u32(leaf + COUNT)
    for index in range(wanted):
        if place == 0:
            leaf = node_at(engine, load_u32(leaf + WORSE))
            place = load_u32(leaf + COUNT)
        place -= 1
        level = record_at(engine, load_u32(tree.ref_at(leaf, place)))
        store_word(prices + 8 * index, top.signed(load_word(level + LEVEL_KEY), side))
        store_word(quantities + 8 * index, load_word(level + LOTS))
    for index in range(wanted, levels):
        store_word(prices + 8 * index, 0)
        store_word(quantities + 8 * index, 0)
    return wanted


@primitive
def look_for_leaves(book: int) -> None:
    """Ask for where the best levels of a book of orders are listed, which is at hand itself."""
    engine = engine_of(book)
    for side in range(2):
        leaf = node_at(engine, tree.best_leaf(engine, side_at(book, side)))
        for offset in range(0, NODE_BYTES, LINE_BYTES):
            prefetch(leaf + offset)


@routine
def look_for_best(book: int, levels: int) -> None:
    """Ask for the best `levels` levels of both sides, after `look_for_leaves`: what `order_depth` will read."""
    engine = engine_of(book)
    for side in range(2):
        leaf = node_at(engine, tree.best_leaf(engine, side_at(book, side)))
        place = load_u32(leaf + COUNT)
        for _ in range(min(levels, load_u32(side_at(book, side) + SIDE_LEVELS))):
            if place == 0:
                leaf = node_at(engine, load_u32(leaf + WORSE))
                place = load_u32(leaf + COUNT)
            place -= 1
            prefetch(record_at(engine, load_u32(tree.ref_at(leaf, place))))


@routine
def level_depth(book: int, side: int, levels: int, prices: int, quantities: int) -> int:
    """`depth` of a book of levels."""
    return l2.copy_best(l2_book.side_at(book, side), levels, 1 - 2 * side, prices, quantities)


@routine
def depth(book: int, side: int, levels: int, prices: int, quantities: int) -> int:
    """Copy the best `levels` levels of a side, best first, to two arrays of int64 at addresses; zeros fill them up.

    Returns how many there were. O(levels).
    """
    if is_of_orders(book):
        return order_depth(book, side, levels, prices, quantities)
    return level_depth(book, side, levels, prices, quantities)


@routine
def volume_at(book: int, side: int, price: int) -> int:
    """Quantity at a price, 0 when there is no such level. O(1) of orders, O(log levels) of levels."""
    key = top.signed(price, side)
    if not is_of_orders(book):
        return l2.quantity_at(l2_book.side_at(book, side), key)
    engine = engine_of(book)
    owner = 2 * ((book - engine - HEADER_BYTES) // BOOK_BYTES) + side + 1
    level = l3.find_level(engine, l3.level_hash(engine, key, owner), key, owner)
    return load_word(level + LOTS) if level != 0 else 0


@kernel
def queue_ahead(book: int, order_id: int) -> tuple[int, int]:
    """(orders, their quantity) that stand before an order at its price; (-1, -1) when the book does not have it.

    A book of levels has none. Walks over them: up to a cache miss each.
    """
    if not is_of_orders(book):
        return -1, -1
    engine = engine_of(book)
    order = l3.find_order(engine, l3.order_hash(engine, order_id), order_id)
    if order == 0 or book_at(engine, (table.owner_of(order) - 1) >> 1) != book:
        return -1, -1
    return l3.queue_ahead(engine, order_id)


@kernel
def volume(book: int, side: int, levels: int, scratch: int) -> int:
    """Sum of the quantities of the best `levels` levels of a side, at most VOLUME_MAX. O(levels).

    scratch   address of 16 * levels bytes
    """
    copied = depth(book, side, levels, scratch, scratch + 8 * levels)
    total = 0
    for index in range(copied):
        quantity = load_word(scratch + 8 * (levels + index))
        total = total + quantity if quantity <= VOLUME_MAX - total else VOLUME_MAX
    return total
