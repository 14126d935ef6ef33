"""The book compared with the venue's own best bid and ask, by replay rule (c) of interfaces.md.

Binance gives no checksum on depth. A ticker of id t says what the best prices were after update t, so a book that has
applied everything up to u must show what the last ticker of id <= u said.

A snapshot ends with its deepest levels; what lies beyond them is unknown until it changes. Where all that it told of a
side is gone, the venue's best price may be one that nobody has told: the book then shows a worse one, or none. That is
no difference between two things known, and is counted apart (BEYOND).
"""

from shm.atomics import load_word, store_word
from shm.kernel import primitive
from stages.book.context import (
    LAST_ID,
    PRICE,
    QUANTITY,
    TICKER_ASK,
    TICKER_ASK_QUANTITY,
    TICKER_BID,
    TICKER_BID_QUANTITY,
    TICKER_BYTES,
    TICKER_ID,
    TICKERS_KEPT,
)
from stages.domain.orderbook import top

DIFFERS, NOT_COMPARED, AGREES, BEYOND = -1, 0, 1, 2


@primitive
def remember_ticker(tickers: int, ticker_count: int, record: int) -> None:
    """Keep the TICKER record at address `record` as number `ticker_count`, in place of the oldest."""
    at = tickers + ticker_count % TICKERS_KEPT * TICKER_BYTES
    store_word(at + TICKER_ID, load_word(record + LAST_ID))
    store_word(at + TICKER_BID, load_word(record + PRICE))
    store_word(at + TICKER_BID_QUANTITY, load_word(record + QUANTITY))
    store_word(at + TICKER_ASK, load_word(record + PRICE + 8))
    store_word(at + TICKER_ASK_QUANTITY, load_word(record + QUANTITY + 8))


@primitive
def _check_side(best: int, best_quantity: int, told: int, told_quantity: int, deepest: int) -> int:
    """The book's best level against the one that a ticker told; prices as keys, of which the greatest is best."""
    if best == told and best_quantity == told_quantity:
        return AGREES
    is_worse = best < told or best_quantity == 0
    return BEYOND if deepest != 0 and told < deepest and is_worse else DIFFERS


@primitive
def check_best(tickers: int, ticker_count: int, last_id: int, book: int, deepest_bid: int, deepest_ask: int) -> int:
    """How the book at address `book`, at update `last_id`, compares with the last ticker of an id up to that.

    deepest_bid, deepest_ask   keys of the deepest levels that the last snapshot told; 0: the side was empty
    NOT_COMPARED when no ticker of such an id is remembered.
    """
    for back in range(1, min(ticker_count, TICKERS_KEPT) + 1):
        at = tickers + (ticker_count - back) % TICKERS_KEPT * TICKER_BYTES
        if load_word(at + TICKER_ID) <= last_id:
            bid = _check_side(
                load_word(book + top.BID_PRICE), load_word(book + top.BID_QUANTITY),
                load_word(at + TICKER_BID), load_word(at + TICKER_BID_QUANTITY), deepest_bid,
            )  # fmt: skip
            ask = _check_side(
                -load_word(book + top.ASK_PRICE), load_word(book + top.ASK_QUANTITY),
                -load_word(at + TICKER_ASK), load_word(at + TICKER_ASK_QUANTITY), deepest_ask,
            )  # fmt: skip
            return DIFFERS if min(bid, ask) == DIFFERS else max(bid, ask)
    return NOT_COMPARED
