"""The top of a book: what decisions need of it, in one cache line; and what follows from it.

A book, of price levels or of single orders, begins with 128 bytes at an address that is a multiple of 128:

      0  bid_price, bid_quantity, ask_price, ask_quantity     mantissas; 0 with quantity 0 where a side is empty
     32  mid_doubled, spread      bid + ask and ask - bid, exact; 0 unless both sides are there; a crossed spread is < 0
     48  state                    BookState, as the feed and the limits left it
     64  sequence                 of updates, doubled; odd while one is under way
     72  what its kind needs: see `l2_book` and `engine`

The odd sequence is the mark of a dirty book: it stands before the first store of an update and goes after the last
one, so whoever comes upon a book finds it right or marked, between any two stores. It stands in the second line: most
updates are away from the top, and do not touch the first.

Derived figures are integers in the unit of prices (mantissas), or in parts of PARTS.
"""

from shm.atomics import (
    fence_release,
    leading_zeros,
    load_word,
    multiply_shift_32,
    store_relaxed,
    store_release,
    store_word,
)
from shm.kernel import primitive
from stages.domain.messages import BookState

BOOK_BYTES = 128
BID_PRICE, BID_QUANTITY, ASK_PRICE, ASK_QUANTITY = 0, 8, 16, 24
"""The best of side s stands at ASK_PRICE * s."""
MID_DOUBLED, SPREAD, STATE = 32, 40, 48
SEQUENCE, KIND = 64, 72

PARTS = 1_000_000
"""An imbalance of 1."""
_SHARE_BITS = 31
DIRTY = int(BookState.DIRTY)


@primitive
def signed(price: int, side: int) -> int:
    """The key of a price, and the price of a key: negated on the side of asks (side 1)."""
    return (price ^ -side) + side


@primitive
def begin_update(book: int) -> None:
    """Mark the book dirty, before anything of it changes."""
    store_relaxed(book + SEQUENCE, load_word(book + SEQUENCE) | 1)
    fence_release()


@primitive
def end_update(book: int) -> None:
    """The update is complete: the next sequence number, and no mark."""
    store_release(book + SEQUENCE, (load_word(book + SEQUENCE) | 1) + 1)


@primitive
def set_best(book: int, offset: int, price: int, quantity: int) -> bool:
    """Store a side's best level, quantity 0 for none; `offset` is BID_PRICE or ASK_PRICE. True when it now crosses."""
    is_same = (load_word(book + offset) == price) & (load_word(book + offset + 8) != 0) & (quantity != 0)
    store_word(book + offset, price)
    store_word(book + offset + 8, quantity)
    if is_same:
        return False
    bid, ask = load_word(book + BID_PRICE), load_word(book + ASK_PRICE)
    has_both = has_both_sides(book)
    store_word(book + MID_DOUBLED, bid + ask if has_both else 0)
    store_word(book + SPREAD, ask - bid if has_both else 0)
    return has_both & (bid >= ask)


@primitive
def set_state(book: int, state: int) -> None:
    """Say whether the book may be traded on (BookState)."""
    store_word(book + STATE, state)


@primitive
def is_dirty(book: int) -> bool:
    """Whether an update is under way."""
    return load_word(book + SEQUENCE) & 1 != 0


@primitive
def state(book: int) -> int:
    """BookState; DIRTY while an update is under way."""
    return DIRTY if is_dirty(book) else load_word(book + STATE)


@primitive
def sequence(book: int) -> int:
    """How many updates the book has taken."""
    return load_word(book + SEQUENCE) >> 1


@primitive
def has_both_sides(book: int) -> bool:
    """Whether there is a bid and an ask: else mid, spread, microprice and imbalance say nothing and are 0."""
    return (load_word(book + BID_QUANTITY) != 0) & (load_word(book + ASK_QUANTITY) != 0)


@primitive
def mid(book: int) -> int:
    """Half of bid + ask, rounded down to a mantissa. `mid_doubled` in the line is exact."""
    return load_word(book + MID_DOUBLED) >> 1


@primitive
def spread(book: int) -> int:
    """Ask - bid, exact; below 0 in a crossed book."""
    return load_word(book + SPREAD)


@primitive
def bid_share(book: int) -> int:
    """The best bid's part of the quantity at both bests, in parts of 2**31, rounded down; there must be some.

    Quantities of which the sum is over 31 bits lose their lowest bits first, so the error is below 2**-29.
    """
    bid, ask = load_word(book + BID_QUANTITY), load_word(book + ASK_QUANTITY)
    excess = max(0, 64 - _SHARE_BITS - leading_zeros(bid + ask))
    bid, ask = bid >> excess, ask >> excess
    return (bid << _SHARE_BITS) // (bid + ask)


@primitive
def microprice(book: int) -> int:
    """(bid price x ask quantity + ask price x bid quantity) / (both quantities), in mantissas; 0 without both sides.

    Rounded towards the bid; off by less than 1 + |spread| * 2**-29.
    """
    if not has_both_sides(book):
        return 0
    distance, share = load_word(book + SPREAD), bid_share(book) * 2
    if distance < 0:
        return load_word(book + BID_PRICE) - multiply_shift_32(-distance, share)
    return load_word(book + BID_PRICE) + multiply_shift_32(distance, share)


@primitive
def imbalance(book: int) -> int:
    """(bid quantity - ask quantity) / (their sum), in parts of PARTS, -PARTS to PARTS; off by at most 1 part.

    0 without both sides.
    """
    if not has_both_sides(book):
        return 0
    half = 1 << (_SHARE_BITS - 1)
    return ((2 * bid_share(book) * PARTS + half) >> _SHARE_BITS) - PARTS
