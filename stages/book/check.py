"""The book compared with the venue's own best bid and ask, by replay rule (c) of interfaces.md.

Binance gives no checksum on depth. A ticker of id t says what the best prices were after update t, so a book that has
applied everything up to u must show what the last ticker of id <= u said.
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
def check_best(tickers: int, ticker_count: int, last_id: int, book: int) -> int:
    """1 when the book, at update `last_id`, agrees with the last ticker of an id up to that; -1 when it differs.

    0 when no ticker of such an id is remembered. `book` is its address.
    """
    for back in range(1, min(ticker_count, TICKERS_KEPT) + 1):
        at = tickers + (ticker_count - back) % TICKERS_KEPT * TICKER_BYTES
        if load_word(at + TICKER_ID) <= last_id:
            agrees = (
                load_word(at + TICKER_BID) == load_word(book + top.BID_PRICE)
                and load_word(at + TICKER_BID_QUANTITY) == load_word(book + top.BID_QUANTITY)
                and load_word(at + TICKER_ASK) == load_word(book + top.ASK_PRICE)
                and load_word(at + TICKER_ASK_QUANTITY) == load_word(book + top.ASK_QUANTITY)
            )
            return 1 if agrees else -1
    return 0
