"""A book of price levels (L2): its top, and two sides (`l2`) that stand elsewhere.

An event sets levels between `begin_update` and `end_event`. Whether it comes as one event or as several makes no
difference to the book, only to its sequence number.

    book + 72   0: a book of levels
    book + 80   bids, asks     where the sides are, from the book's address
"""

from shm.atomics import load_word, poke
from shm.kernel import kernel, primitive
from stages.domain.messages import BookState
from stages.domain.orderbook import l2, top

SIDES = top.KIND + 8
EMPTY = int(BookState.EMPTY)


def format_l2_book(book: int, bids: int, asks: int) -> None:
    """Cold: make the 128 zeroed bytes at address `book` a book over two formatted sides."""
    poke(book + SIDES, bids - book)
    poke(book + SIDES + 8, asks - book)


@primitive
def side_at(book: int, side: int) -> int:
    """Address of a side: 0 bids, 1 asks."""
    return book + load_word(book + SIDES + 8 * side)


@primitive
def set_level(book: int, side: int, price: int, quantity: int) -> None:
    """Within an event: the level at `price` has this quantity now; 0: it is gone."""
    l2.set_level(side_at(book, side), price if side == 0 else -price, quantity)


@primitive
def prefetch_directory(book: int, side: int) -> None:
    """First, some levels ahead: ask for what finds the level's block."""
    l2.prefetch_directory(side_at(book, side))


@primitive
def prefetch_block(book: int, side: int, price: int) -> None:
    """Second: ask for the level's block."""
    l2.prefetch_block(side_at(book, side), price if side == 0 else -price)


@kernel
def end_event(book: int) -> bool:
    """The event is complete: the top shows it. True when it leaves the book crossed by a new best price."""
    bids, asks = side_at(book, 0), side_at(book, 1)
    is_crossed = top.set_best(book, top.BID_PRICE, l2.best_key(bids), l2.best_quantity(bids))
    is_crossed |= top.set_best(book, top.ASK_PRICE, -l2.best_key(asks), l2.best_quantity(asks))
    top.end_update(book)
    return is_crossed


@kernel
def clear(book: int) -> None:
    """Forget all levels; the book is EMPTY."""
    top.begin_update(book)
    l2.clear(side_at(book, 0))
    l2.clear(side_at(book, 1))
    top.set_state(book, EMPTY)
    end_event(book)
