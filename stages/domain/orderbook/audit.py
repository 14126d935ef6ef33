"""An integrity check in small steps that fit between updates: one block of levels, or one level of orders, each.

What a step looks at is checked by itself and with its neighbours, so the book may change between two steps. The numbers
of levels and orders, which only the whole book can say, are compared if it has not changed since the first step.

A cursor, CURSOR_BYTES, keeps how far a pass has come; `begin`, then `step` until it returns other than MORE.
"""

from shm.atomics import load_u32, load_word, store_word
from shm.kernel import kernel, primitive, routine
from stages.domain.orderbook import integrity, l2, l2_book, top, tree
from stages.domain.orderbook.book import is_of_orders, order_level_count
from stages.domain.orderbook.engine import (
    BOOK_ORDERS,
    HEADER_BYTES,
    LEVEL_ORDERS,
    LOWEST,
    NO_KEY,
    engine_of,
    node_at,
    record_at,
    side_at,
)
from stages.domain.orderbook.integrity import COUNTS, SOUND
from stages.domain.orderbook.top import BOOK_BYTES

CURSOR_BYTES = 64
SEQUENCE, SIDE, AT, SIDE_LEVELS, LEVELS, ORDERS, IS_WHOLE, MOVES = range(0, 64, 8)
"""IS_WHOLE: no queue was cut short, and, once the pass is over, the book has not changed meanwhile."""
MORE = -1
END = 2
"""The side behind the last one."""


@primitive
def begin(cursor: int, book: int) -> None:
    """A new pass over the book at this address."""
    for offset in range(0, CURSOR_BYTES, 8):
        store_word(cursor + offset, 0)
    store_word(cursor + SEQUENCE, load_word(book + top.SEQUENCE))
    store_word(cursor + IS_WHOLE, 1)
    _begin_side(cursor, book)


@primitive
def _begin_side(cursor: int, book: int) -> None:
    store_word(cursor + AT, NO_KEY if is_of_orders(book) else 0)
    store_word(cursor + SIDE_LEVELS, 0)


@kernel
def step(cursor: int, book: int, orders_max: int) -> int:
    """MORE, or SOUND or what is wrong (`integrity.FAULTS`) at the end of the pass. Looks, and changes nothing.

    orders_max   most orders of a level that are looked at; of a longer queue it is the first ones

    Costs about 50 ns for books of levels. Of books of orders it looks at HEIGHT_MAX + 1 nodes of a tree and their
    neighbours at most, and that costs three cache misses an order: how many levels there are does not matter. A book
    with the mark of an update under way is left alone: MORE.
    """
    return order_step(cursor, book, orders_max) if is_of_orders(book) else level_step(cursor, book)


@routine
def order_step(cursor: int, book: int, orders_max: int) -> int:
    """`step` for a book that is known to be one of orders."""
    side = load_word(cursor + SIDE)
    if top.is_dirty(book):
        return MORE
    if side == END:
        if not _has_changed(cursor, book) and load_word(cursor + ORDERS) != load_word(book + BOOK_ORDERS):
            return COUNTS
        return _end(cursor, book)
    fault = _order_step(cursor, book, side, orders_max)
    return fault if fault != SOUND else MORE


@routine
def level_step(cursor: int, book: int) -> int:
    """`step` for a book that is known to be one of levels."""
    side = load_word(cursor + SIDE)
    if top.is_dirty(book):
        return MORE
    if side == END:
        return _end(cursor, book)
    fault = _level_step(cursor, book, side)
    return fault if fault != SOUND else MORE


@primitive
def _has_changed(cursor: int, book: int) -> bool:
    return load_word(book + top.SEQUENCE) != load_word(cursor + SEQUENCE)


@primitive
def _end(cursor: int, book: int) -> int:
    if _has_changed(cursor, book):
        store_word(cursor + IS_WHOLE, 0)
    return SOUND


@primitive
def _end_side(cursor: int, book: int, side: int, levels: int) -> int:
    """All of a side that says to have so many levels has been looked at."""
    if not _has_changed(cursor, book) and load_word(cursor + SIDE_LEVELS) != levels:
        return COUNTS
    store_word(cursor + SIDE, side + 1)
    _begin_side(cursor, book)
    return SOUND


@primitive
def _count_levels(cursor: int, levels: int) -> None:
    store_word(cursor + SIDE_LEVELS, load_word(cursor + SIDE_LEVELS) + levels)
    store_word(cursor + LEVELS, load_word(cursor + LEVELS) + levels)


@routine
def _level_step(cursor: int, book: int, side: int) -> int:
    """The next block of a side of levels."""
    address, index = l2_book.side_at(book, side), load_word(cursor + AT)
    fault = integrity.directory_fault(address)
    if fault == SOUND and index == 0:
        fault = integrity.block_fault(address, load_word(address + l2.BLOCKS) - 1)
        if fault == SOUND:
            fault = integrity.level_top_fault(book, side)
    if fault != SOUND:
        return fault
    if index == 0:
        store_word(cursor + MOVES, load_word(address + l2.MOVES))
    if index >= load_word(address + l2.BLOCKS):
        if load_word(cursor + MOVES) != load_word(address + l2.MOVES):  # as a rehearsal may, under one sequence number
            store_word(cursor + IS_WHOLE, 0)
            return _end_side(cursor, book, side, load_word(cursor + SIDE_LEVELS))
        return _end_side(cursor, book, side, l2.level_count(address))
    fault = integrity.block_fault(address, index)
    if fault == SOUND:
        _count_levels(cursor, l2.live_in(address, index))
    store_word(cursor + AT, index + 1)
    return fault


@routine
def _order_step(cursor: int, book: int, side: int, orders_max: int) -> int:
    """The best level below the key that was looked at last, in a side of orders, and the way there through the tree.

    When its leaf has no more, the key is now the least that the leaf may have: the next step goes to the next leaf.
    """
    engine, side_address, last_key = engine_of(book), side_at(book, side), load_word(cursor + AT)
    owner = 2 * ((book - engine - HEADER_BYTES) // BOOK_BYTES) + side + 1
    fault, number, least = integrity.way_fault(engine, side_address, last_key - 1)
    if fault != SOUND:
        return fault
    leaf = node_at(engine, number)
    place = tree.count_below(leaf, last_key) - 1
    if place >= 0:
        fault = integrity.entry_fault(engine, side_address, owner, number, place, orders_max)
    if fault == SOUND and last_key == NO_KEY:
        fault = integrity.order_top_fault(engine, book, side)
    if fault != SOUND:
        return fault
    if place >= 0:
        _count_orders(cursor, engine, leaf, place, orders_max)
    elif least != LOWEST:
        store_word(cursor + AT, least)
    else:
        return _end_side(cursor, book, side, order_level_count(book, side))
    return SOUND


@primitive
def _count_orders(cursor: int, engine: int, leaf: int, place: int, orders_max: int) -> None:
    """An entry of a leaf has been looked at."""
    orders = load_u32(record_at(engine, load_u32(tree.ref_at(leaf, place))) + LEVEL_ORDERS)
    _count_levels(cursor, 1)
    store_word(cursor + ORDERS, load_word(cursor + ORDERS) + orders)
    store_word(cursor + AT, load_word(tree.key_at(leaf, place)))
    if orders > orders_max:
        store_word(cursor + IS_WHOLE, 0)
