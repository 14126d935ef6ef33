"""The book's private memory: layouts of its words, of one book, of the remembered tickers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm.clock import CLOCK_WORDS
from shm.layout import record_dtype
from stages.domain.messages import BBO, BOOK_CHECK, DEPTH, MARKET, NOTICE
from stages.domain.orderbook.audit import CURSOR_BYTES
from stages.domain.samples import new_samples


def _offset(dtype: np.dtype, field: str) -> int:
    assert dtype.fields is not None
    return int(dtype.fields[field][1])


FIRST_ID, LAST_ID = _offset(MARKET, "first_id"), _offset(MARKET, "last_id")
EXCHANGE_TIME_NS, READ_NS = _offset(MARKET, "exchange_time_ns"), _offset(MARKET, "read_ns")
PUBLISH_NS, EVENT_LEVELS = _offset(MARKET, "publish_ns"), _offset(MARKET, "event_levels")
PRICE, QUANTITY = _offset(MARKET, "price"), _offset(MARKET, "quantity")
DEPTH_BID_PRICE, DEPTH_BID_QUANTITY = _offset(DEPTH, "bid_price"), _offset(DEPTH, "bid_quantity")
DEPTH_ASK_PRICE, DEPTH_ASK_QUANTITY = _offset(DEPTH, "ask_price"), _offset(DEPTH, "ask_quantity")
# The first word of a MARKET record is read as one.
assert [_offset(MARKET, name) for name in ("kind", "flags", "symbol", "bid_count", "level_count")] == [0, 1, 2, 4, 6]

TICKERS_KEPT = 64
"""Best bid and ask by ticker, remembered per symbol: a diff covers 100 ms, and the tickers of 100 ms come before it."""
TICKER_BYTES = 64
TICKER_ID, TICKER_BID, TICKER_BID_QUANTITY, TICKER_ASK, TICKER_ASK_QUANTITY = 0, 8, 16, 24, 32

FOUND_WORDS = 16
"""A power of two above `batch.AHEAD_TABLE`."""

NO_SYMBOL = -1

STATE = record_dtype(
    [
        ("input", "<i8"),  # ring addresses
        ("output", "<i8"),
        ("bbo_table", "<i8"),  # seqlock tables, and the distance of their rows
        ("bbo_row_bytes", "<i8"),
        ("depth_table", "<i8"),
        ("depth_row_bytes", "<i8"),
        ("transport_hop", "<i8"),  # histogram addresses
        ("update_hop", "<i8"),
        ("publish_hop", "<i8"),
        ("notice", "<i8"),  # addresses of the scratch records
        ("bbo", "<i8"),
        ("depth", "<i8"),
        ("must_invalidate", "<i8"),  # 1: an earlier book's rows are still out
        ("told_epoch", "<i8"),  # of the strategy that knows the newest state
        ("must_deliver", "<i8"),  # 1: wait for room instead of conflating
        ("notice_seq", "<i8"),
        ("pending_count", "<i8"),  # symbols whose newest state the strategy has not been told: a queue, by next_pending
        ("pending_first", "<i8"),
        ("pending_last", "<i8"),
        ("open_symbol", "<i8"),  # of the event whose END has not come yet, or NO_SYMBOL
        ("popped_ns", "<i8"),  # when that event's first record was taken
        ("rehearsal", "<i8"),  # address of the market record that is only rehearsed
        ("rehearsal_row", "<i8"),  # address of a private row as large as one of the depth table
        ("rehearsal_symbol", "<i8"),
        ("rehearsal_level", "<i8"),  # from the best
        ("rehearsal_interval_ns", "<i8"),
        ("next_rehearsal_ns", "<i8"),
        ("looked_for", "<i8"),  # records of the input ring that were looked for, around and deep (`ahead`)
        ("looked_around", "<i8"),
        ("looked_deep", "<i8"),
        ("found", "<i8"),  # address of FOUND_WORDS words: what that has found out
    ],
    256,
)

AUDIT = record_dtype(
    [
        ("cursor", "<i8", CURSOR_BYTES // 8),  # of the pass under way (orderbook.audit)
        ("symbol", "<i8"),  # whose book it is of
        ("is_asked", "<i8"),  # 1: somebody waits for it
        ("next_ns", "<i8"),  # when the next step of one that nobody waits for is due
        ("answered", "<i8"),  # requests that have their answer
        ("requests", "<i8"),  # address of the request rows
        ("table", "<i8"),  # the table of results, and the distance of its rows
        ("row_bytes", "<i8"),
        ("check", "<i8"),  # address of the scratch record
    ],
    192,
)
"""State of the integrity checks."""

BOOK = record_dtype(
    [
        ("top", "<i8"),  # address of the book itself (orderbook.top), which has its best prices and its state
        ("is_known", "<i8"),  # 1: from a snapshot on, as long as nothing is missed; else diffs are ignored
        ("dropped", "<i8"),  # levels that its sides had no room for, ever; of one of orders, orders, in this session
        ("tickers", "<i8"),  # address of TICKERS_KEPT tickers
        ("ticker_count", "<i8"),  # ever seen
        ("tick", "<i8"),
        ("lot", "<i8"),
        ("per_tick", "<f8"),  # 1 / tick
        ("per_lot", "<f8"),
        ("last_id", "<i8"),
        ("volume", "<i8"),
        ("read_ns", "<i8"),  # of the newest event
        ("exchange_time_ns", "<i8"),
        ("version", "<i8"),  # of the row in the BBO table
        ("next_pending", "<i8"),  # 0: not pending; else 1 + the symbol behind it in the queue, or END_OF_QUEUE
        ("pending_read_ns", "<i8"),  # of the oldest event not told
        ("pending_merged", "<i8"),  # events merged beyond the first
        ("deepest_bid", "<i8"),  # keys (orderbook.l2) of the last snapshot's deepest levels; 0: it had none
        ("deepest_ask", "<i8"),
        ("checks", "<i8"),  # integrity checks that came to their end, and how many of these found something wrong
        ("violations", "<i8"),
        ("fault", "<i8"),  # what the last of these found
        ("answered", "<i8"),  # requests for one that have their answer
        ("halts", "<i8"),  # a bit for each kind of halt that the venue has declared and not ended
    ],
    192,
)


class Context(NamedTuple):
    """What the book's kernel works on; shared memory is behind the addresses in `state`.

    Books are of price levels or of single orders, and which of both is a matter of type: of `levels_max` and `engine`
    one is None. Whatever only one kind needs begins with a look at its own, handed in as an argument of its own: then
    Numba leaves out all that follows before it looks at it, and the other kind's code is never compiled. With both in
    one poll that took 75 s instead of 31.
    """

    state: NDArray[np.void]
    clock: NDArray[np.int64]
    counters: NDArray[np.void]
    books: NDArray[np.void]
    notice: NDArray[np.void]
    bbo: NDArray[np.void]
    depth: NDArray[np.void]
    rehearsal: NDArray[np.void]
    samples: NDArray[np.int64]
    audit: NDArray[np.void]
    check: NDArray[np.void]
    levels_max: int | None
    """Of a side of a book of levels."""
    engine: int | None
    """Address of the books of single orders."""


def new_context(symbols: int, counters: NDArray[np.void], levels_max: int | None, engine: int | None) -> Context:
    """A context of the right types, the addresses in its records still 0."""
    assert (levels_max is None) != (engine is None)
    state = np.zeros(1, STATE)
    state["open_symbol"] = NO_SYMBOL
    audit = np.zeros(1, AUDIT)
    audit["symbol"] = NO_SYMBOL
    return Context(
        state,
        np.zeros(CLOCK_WORDS, np.int64),
        counters,
        np.zeros(symbols, BOOK),
        np.zeros(1, NOTICE),
        np.zeros(1, BBO),
        np.zeros(1, DEPTH),
        np.zeros(1, MARKET),
        new_samples(),
        audit,
        np.zeros(1, BOOK_CHECK),
        levels_max,
        engine,
    )
