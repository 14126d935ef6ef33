"""A book of price levels (L2): its top, and two sides (`l2`) that stand elsewhere.

An event sets levels between `begin_update` and `end_event`. Whether it comes as one event or as several makes no
difference to the book, only to its sequence number.

    book + 72   0: a book of levels
    book + 80   bids, asks     where the sides are, from the book's address
"""

from shm.atomics import load_word, poke
from shm.kernel import primitive, routine
from stages.domain.messages import BookState
from stages.domain.orderbook import l2, top
from stages.domain.orderbook.top import signed

SIDES = top.KIND + 8
EMPTY, STALE = int(BookState.EMPTY), int(BookState.STALE)


def format_l2_book(book: int, bids: int, asks: int) -> None:
    """Cold: make the 128 zeroed bytes at address `book` a book over two formatted sides."""
    poke(book + SIDES, bids - book)
    poke(book + SIDES + 8, asks - book)


@primitive
def side_at(book: int, side: int) -> int:
    """Address of a side: 0 bids, 1 asks."""
    return book + load_word(book + SIDES + 8 * side)


@routine
def set_level(book: int, side: int, price: int, quantity: int) -> None:
    """Within an event: the level at `price` has this quantity now; 0, or below, which means nothing: it is gone.

    Blocks of the best levels are looked at only when the best may have changed: they are cold otherwise.
    """
    address, key, best = side_at(book, side), signed(price, side), book + top.ASK_PRICE * side
    l2.set_level(address, key, max(quantity, 0))
    if key >= signed(load_word(best), side) or load_word(best + 8) == 0:
        _show_best(book, side)


@primitive
def _show_best(book: int, side: int) -> None:
    address = side_at(book, side)
    top.set_best(book, top.ASK_PRICE * side, signed(l2.best_key(address), side), l2.best_quantity(address))


@primitive
def dropped(book: int) -> int:
    """Levels that its sides had no room for, ever: the book is not all there is."""
    return l2.dropped(side_at(book, 0)) + l2.dropped(side_at(book, 1))


@primitive
def prefetch_directory(book: int, side: int) -> None:
    """First, some levels ahead: ask for what finds the level's block."""
    l2.prefetch_directory(side_at(book, side))


@primitive
def prefetch_block(book: int, side: int, price: int) -> None:
    """Second: ask for the level's block."""
    l2.prefetch_block(side_at(book, side), signed(price, side))


@routine
def end_event(book: int) -> bool:
    """The event is complete. Whether it leaves the book crossed."""
    top.end_update(book)
    return top.has_both_sides(book) & (load_word(book + top.SPREAD) <= 0)


@routine
def restore(book: int, capacity: int) -> None:
    """Empty both sides, whatever has become of them (`l2.restore`); the book is STALE: it is not known what it was."""
    top.begin_update(book)
    for side in range(2):
        l2.restore(side_at(book, side), capacity)
        _show_best(book, side)
    top.set_state(book, STALE)
    top.end_update(book)


@routine
def clear(book: int) -> None:
    """Forget all levels; the book is EMPTY."""
    top.begin_update(book)
    l2.clear(side_at(book, 0))
    l2.clear(side_at(book, 1))
    _show_best(book, 0)
    _show_best(book, 1)
    top.set_state(book, EMPTY)
    top.end_update(book)
