"""The book stage: its memory, what it counts, its hops. The work is in `kernel`."""

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shm import ring, seqlock
from shm.atomics import peek
from shm.counters import Counter
from shm.histogram import HISTOGRAM_BYTES
from shm.layout import record_at
from shm.ring import cursors
from shm.segment import Segment, seqlock_layout
from shm.seqlock import row_bytes
from stages.agent import Agent, Array, Hop, SegmentUse
from stages.book.context import TICKER_BYTES, TICKERS_KEPT, new_context
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE, FEED_TO_BOOK, RINGS
from stages.domain.messages import BBO, DEPTH, NOTICE, BookState
from stages.domain.orderbook import l2

log = logging.getLogger(__name__)


class BookAgent(Agent):
    """Keeps a book per instrument; tells the strategy of every event, everybody of the newest state.

    instruments   INSTRUMENT array; a symbol's index in it is its index everywhere
    delivery      "conflate": never waits for the strategy; "every": waits, so that every event is told
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
        Counter("bbo_beyond_snapshot", "not compared: the ticker's best price lies beyond all that is known", "diffs"),
        Counter("crossed", "events after which the best bid was not below the best ask", "events"),
        Counter("diffs_ignored", "diffs that came while their book waited for a snapshot", "diffs"),
        Counter("half_events", "events of which the feed or an earlier book took a part with it", "events"),
        Counter("levels_dropped", "deepest levels forgotten because a side had levels_max", "levels"),
    )
    hops = (Hop("feed>book"), Hop("book.update", 100, "ns_per_level"), Hop("book.publish"))

    def __init__(self, instruments: NDArray[np.void], settings: BookSettings, delivery: str) -> None:
        if delivery not in ("conflate", "every"):
            raise ValueError(f"delivery={delivery!r} must be conflate or every")
        symbols = len(instruments)
        self.context = new_context(symbols, np.zeros(1, self.page())["counters"])
        self._symbols = symbols
        side_words = (l2.side_bytes(settings.levels_max) + 63) // 64 * 8
        self._sides = np.zeros((symbols, 2, side_words), np.int64)
        self._tickers = np.zeros((symbols, TICKERS_KEPT, TICKER_BYTES // 8), np.int64)
        for book, sides, tickers, instrument in zip(
            self.context.books, self._sides, self._tickers, instruments, strict=True
        ):
            book["bids"], book["asks"] = sides[0].ctypes.data, sides[1].ctypes.data
            book["tickers"] = tickers.ctypes.data
            book["tick"], book["lot"] = instrument["tick"], instrument["lot"]
            book["per_tick"], book["per_lot"] = 1 / instrument["tick"], 1 / instrument["lot"]
            for side in sides:
                l2.format_side(side.ctypes.data, settings.levels_max)
        state = self.context.state[0]
        state["must_deliver"] = delivery == "every"
        state["bbo_row_bytes"], state["depth_row_bytes"] = row_bytes(BBO.itemsize), row_bytes(DEPTH.itemsize)
        self._rehearsal_row = np.zeros(row_bytes(DEPTH.itemsize) // 8, np.int64)
        state["rehearsal_row"] = self._rehearsal_row.ctypes.data
        for name in ("notice", "bbo", "depth", "rehearsal"):
            state[name] = getattr(self.context, name).ctypes.data

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
