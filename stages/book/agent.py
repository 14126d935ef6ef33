"""The book stage: its memory, what it counts, its hops. The work is in `kernel`."""

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shm import ring, seqlock
from shm.atomics import peek
from shm.counters import Counter
from shm.histogram import HISTOGRAM_BYTES
from shm.layout import WRITER_SEPARATION_BYTES, align_up, record_at
from shm.ring import cursors
from shm.segment import Segment, seqlock_layout
from shm.seqlock import row_bytes
from stages.agent import Agent, Array, Hop, SegmentUse
from stages.book.context import TICKER_BYTES, TICKERS_KEPT, new_context
from stages.book.orders import address_of_book
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE, FEED_TO_BOOK, RINGS
from stages.domain.messages import BBO, DEPTH, NOTICE, BookState
from stages.domain.orderbook import l2, l3
from stages.domain.orderbook.engine import COUNTERS, Capacity, engine_bytes, format_engine

log = logging.getLogger(__name__)

LIMITS = (l3.FULL_ORDERS, l3.FULL_SYMBOL, l3.FULL_LEVELS, l3.FULL_TABLE, l3.FULL_QUANTITY)
"""Results by which a book goes stale."""


class BookAgent(Agent):
    """Keeps a book per instrument; tells the strategy of every event, everybody of the newest state.

    instruments   INSTRUMENT array; a symbol's index in it is its index everywhere
    delivery      "conflate": never waits for the strategy; "every": waits, so that every event is told
    of_orders     books of single orders, in the place of books of price levels
    """

    name = "book"
    counters = (
        Counter("messages_in", "market events taken from the feed", "events"),
        Counter("messages_out", "notices published to the strategy", "notices"),
        Counter("levels", "price levels set or removed", "levels"),
        Counter("conflated", "events merged into a later notice because the strategy's ring was full", "events"),
        Counter("trades_missed", "trades not told because the strategy's ring was full", "trades"),
        Counter("off_grid", "levels whose price or quantity is off the instrument's grid; legal", "levels"),
        Counter("bbo_checked", "diffs after which the book was compared with the venue's ticker", "diffs"),
        Counter("bbo_mismatches", "of these, where best price or quantity differed", "diffs"),
        Counter("crossed", "events after which the best bid was not below the best ask", "events"),
        Counter("diffs_ignored", "diffs that came while their book waited for a snapshot", "diffs"),
        Counter("half_events", "events of which the feed or an earlier book took a part with it", "events"),
        Counter(
            "unknown_orders", "messages about orders that no book has, such as those from before the start", "orders"
        ),
        Counter("orders_refused", "messages that no book took: duplicate ids, bad quantities or prices", "orders"),
        Counter("orders_over_limit", "orders for which there was no room; their books are stale", "orders"),
        Counter("levels_dropped", "deepest levels forgotten because a side had levels_max", "levels"),
    )
    hops = (Hop("feed>book"), Hop("book.update", 100, "ns_per_level"), Hop("book.publish"))

    def __init__(
        self, instruments: NDArray[np.void], settings: BookSettings, delivery: str, *, of_orders: bool = False
    ) -> None:
        if delivery not in ("conflate", "every"):
            raise ValueError(f"delivery={delivery!r} must be conflate or every")
        symbols = len(instruments)
        self.context = new_context(symbols, np.zeros(1, self.page())["counters"])
        self._symbols = symbols
        self._names = [bytes(name).decode("ascii") for name in instruments["symbol"]]
        self._told_stale: set[int] = set()
        for book, instrument in zip(self.context.books, instruments, strict=True):
            book["tick"], book["lot"] = instrument["tick"], instrument["lot"]
            book["per_tick"], book["per_lot"] = 1 / instrument["tick"], 1 / instrument["lot"]
        if of_orders:
            self._allocate_orders(settings)
        else:
            self._allocate_levels(settings)
        state = self.context.state[0]
        state["must_deliver"] = delivery == "every"
        state["bbo_row_bytes"], state["depth_row_bytes"] = row_bytes(BBO.itemsize), row_bytes(DEPTH.itemsize)
        self._rehearsal_row = np.zeros(row_bytes(DEPTH.itemsize) // 8, np.int64)
        state["rehearsal_row"] = self._rehearsal_row.ctypes.data
        for name in ("notice", "bbo", "depth", "rehearsal"):
            state[name] = getattr(self.context, name).ctypes.data

    def _allocate_levels(self, settings: BookSettings) -> None:
        side_words = (l2.side_bytes(settings.levels_max) + 63) // 64 * 8
        self._sides = np.zeros((self._symbols, 2, side_words), np.int64)
        self._tickers = np.zeros((self._symbols, TICKERS_KEPT, TICKER_BYTES // 8), np.int64)
        for book, sides, tickers in zip(self.context.books, self._sides, self._tickers, strict=True):
            book["bids"], book["asks"] = sides[0].ctypes.data, sides[1].ctypes.data
            book["tickers"] = tickers.ctypes.data
            for side in sides:
                l2.format_side(side.ctypes.data, settings.levels_max)

    def _allocate_orders(self, settings: BookSettings) -> None:
        orders = settings.orders_max
        capacity = Capacity.of(self._symbols, orders, symbol_orders_max=settings.symbol_orders_max or None)
        self._engine_memory = np.zeros(engine_bytes(capacity) + WRITER_SEPARATION_BYTES, np.uint8)
        engine = align_up(self._engine_memory.ctypes.data, WRITER_SEPARATION_BYTES)
        format_engine(engine, capacity)
        self.context.state[0]["engine"] = engine
        for symbol, book in enumerate(self.context.books):
            book["top"] = address_of_book(engine, symbol)

    def rehearse_every(self, interval_ns: int, *, has_twin: bool) -> None:
        self.context.state[0]["rehearsal_interval_ns"] = interval_ns

    def uses(self) -> list[SegmentUse]:
        return [
            SegmentUse(FEED_TO_BOOK, RINGS[FEED_TO_BOOK], True),
            SegmentUse(BOOK_TO_STRATEGY, RINGS[BOOK_TO_STRATEGY], True),
            SegmentUse(BBO_TABLE, seqlock_layout(BBO, self._symbols), True),
            SegmentUse(DEPTH_TABLE, seqlock_layout(DEPTH, self._symbols), True),
        ]

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        self.context = self.context._replace(counters=page["counters"], clock=clock)
        state = self.context.state[0]
        state["input"], state["output"] = segments[FEED_TO_BOOK].address, segments[BOOK_TO_STRATEGY].address
        state["bbo_table"], state["depth_table"] = segments[BBO_TABLE].address, segments[DEPTH_TABLE].address
        hops = page["hops"].ctypes.data
        for index, name in enumerate(("transport_hop", "update_hop", "publish_hop")):
            state[name] = hops + index * HISTOGRAM_BYTES
        # A feed that sees a new reader sends every book anew: this one knows nothing yet.
        ring.begin_reading(int(state["input"]))
        if ring.begin_writing(int(state["output"])) > 1:
            self._succeed(int(state["output"]))
        state["told_epoch"] = peek(int(state["output"]) + ring.READER_EPOCH)

    def _succeed(self, output: int) -> None:
        """Go on where an earlier process of this stage was killed: its counts stay, its books are invalid."""
        state = self.context.state[0]
        if last := ring.newest(output):
            state["notice_seq"] = record_at(last, NOTICE)["seq"]
        for symbol, book in enumerate(self.context.books):
            row = int(state["bbo_table"]) + symbol * int(state["bbo_row_bytes"])
            if standing := seqlock.newest(row, BBO.itemsize):
                bbo = record_at(standing, BBO)
                book["volume"], book["read_ns"] = bbo["volume"], bbo["read_ns"]
                book["state"] = BookState.DIRTY if bbo["state"] == BookState.VALID else bbo["state"]
                state["must_invalidate"] = 1

    def is_synced(self) -> bool:
        return bool((self.context.books["state"] == BookState.VALID).all())

    def service(self, now_ns: int) -> None:
        if self.context.state[0]["engine"]:
            self._count_orders()
        else:
            self._count_levels()

    def _count_orders(self) -> None:
        """What the engine has counted, into the page; a limit that is reached is said once a symbol."""
        engine, counters = int(self.context.state[0]["engine"]), self.context.counters[0]
        counted = {code: peek(engine + COUNTERS - 8 * code) for code in l3.CODES}
        counters["unknown_orders"], counters["crossed"] = counted[l3.UNKNOWN], counted[l3.CROSSED]
        counters["orders_over_limit"] = sum(counted[code] for code in LIMITS)
        refused = (l3.DUPLICATE, l3.BAD_QUANTITY, l3.BAD_PRICE, l3.TOO_MUCH)
        counters["orders_refused"] = sum(counted[code] for code in refused)
        if counters["orders_over_limit"] and (stale := set(self._stale_symbols()) - self._told_stale):
            self._told_stale |= stale
            log.error(
                "%s: no room for more orders (%s); stale from now on: book.orders_max or book.symbol_orders_max is too low",
                ", ".join(self._names[symbol] for symbol in sorted(stale)),
                ", ".join(l3.CODES[code] for code in LIMITS if counted[code]),
            )

    def _stale_symbols(self) -> list[int]:
        return np.flatnonzero(self.context.books["state"] == BookState.STALE).tolist()

    def _count_levels(self) -> None:
        dropped = sum(peek(int(book[side]) + l2.DROPPED) for book in self.context.books for side in ("bids", "asks"))
        counters = self.context.counters[0]
        if dropped and not counters["levels_dropped"]:
            log.warning("a book has more than levels_max levels on a side; its deepest are forgotten")
        counters["levels_dropped"] = dropped

    def idle_input(self) -> bool:
        source = int(self.context.state[0]["input"])
        if not source:
            return True  # not attached yet
        head, tail = cursors(source)
        return head == tail
