"""The book stage: its memory, what it counts, its hops. The work is in `kernel`."""

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shm import ring
from shm.atomics import peek
from shm.counters import Counter
from shm.histogram import HISTOGRAM_BYTES
from shm.layout import WRITER_SEPARATION_BYTES, align_up, bytes_at, record_at
from shm.ring import cursors
from shm.segment import Segment, record_layout, seqlock_layout
from shm.seqlock import newest_rows, row_bytes
from stages.agent import Agent, Array, Hop, SegmentUse
from stages.book.context import FOUND_WORDS, TICKER_BYTES, TICKERS_KEPT, Context, new_context
from stages.book.memory import order_capacity, side_bytes, symbol_bytes
from stages.book.orders import address_of_book
from stages.book.settings import BookSettings
from stages.domain.edges import (
    BBO_TABLE,
    BOOK_TO_STRATEGY,
    CHECK_REQUESTS,
    CHECK_TABLE,
    DEPTH_TABLE,
    FEED_TO_BOOK,
    RINGS,
)
from stages.domain.instruments import listing
from stages.domain.messages import BBO, BOOK_CHECK, CHECK_REQUEST, DEPTH, NOTICE, BookState
from stages.domain.orderbook import l2, l3, top
from stages.domain.orderbook.engine import COUNTERS, engine_bytes, format_engine
from stages.domain.orderbook.integrity import FAULTS
from stages.domain.orderbook.l2_book import format_l2_book

log = logging.getLogger(__name__)

REFUSALS = (l3.DUPLICATE, l3.BAD_QUANTITY, l3.BAD_PRICE, l3.TOO_MUCH)
LIMITS = (l3.FULL_ORDERS, l3.FULL_SYMBOL, l3.FULL_LEVELS, l3.FULL_TABLE, l3.FULL_QUANTITY)
"""Results by which a book goes stale."""
SETTING_OF = {l3.FULL_SYMBOL: "book.symbol_orders_max"}
"""What makes room where `book.orders_max` does not."""
COUNTED = {
    "unknown_orders": (l3.UNKNOWN,),
    "crossed": (l3.CROSSED,),
    "orders_refused": REFUSALS,
    "orders_over_limit": LIMITS,
}
FEW = 8


_EMPTIED, _GIVEN_UP = "emptied, and stale until its next snapshot", "given up, and stale from now on"


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
        Counter("levels", "price levels set or removed; in books of orders, messages applied", "levels"),
        Counter("conflated", "events merged into a later notice because the strategy's ring was full", "events"),
        Counter("trades_missed", "trades not told because the strategy's ring was full", "trades"),
        Counter("off_grid", "levels whose price or quantity is off the instrument's grid; legal", "levels"),
        Counter("bbo_checked", "diffs after which the book was compared with the venue's ticker", "diffs"),
        Counter("bbo_mismatches", "of these, where best price or quantity differed", "diffs"),
        Counter("bbo_beyond_snapshot", "not compared: the ticker's best price lies beyond all that is known", "diffs"),
        Counter("crossed", "events after which the best bid was not below the best ask", "events"),
        Counter("diffs_ignored", "diffs that came while their book waited for a snapshot", "diffs"),
        Counter("half_events", "events of which the feed or an earlier book took a part with it", "events"),
        Counter("checks", "integrity checks of a book that came to their end", "checks"),
        Counter("violations", "of these, which found the book broken: it is emptied and goes stale", "checks"),
        Counter("unknown_orders", "messages about orders that no book has: theirs is dirty from now on", "messages"),
        Counter("orders_refused", "messages with an id twice, a bad quantity or price, more than is left", "messages"),
        Counter("orders_over_limit", "orders for which there was no room; their books are stale", "orders"),
        Counter("levels_dropped", "deepest levels forgotten because a side had levels_max; it goes stale", "levels"),
    )
    hops = (Hop("feed>book"), Hop("book.update", 100, "ns_per_level"), Hop("book.publish"))

    def __init__(
        self, instruments: NDArray[np.void], settings: BookSettings, delivery: str, *, of_orders: bool = False
    ) -> None:
        if delivery not in ("conflate", "every"):
            raise ValueError(f"delivery={delivery!r} must be conflate or every")
        symbols = len(instruments)
        self._symbols, self._levels_max = symbols, settings.levels_max
        self._names = [bytes(name).decode() for name in instruments["symbol"]]
        self._told_dropped, self._told_violations = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
        self._looked_over_limit = self._told_full = 0
        self._before = dict.fromkeys(COUNTED, 0)
        self.context = self._with_orders(settings) if of_orders else self._with_levels(settings)
        for book, instrument in zip(self.context.books, instruments, strict=True):
            book["tick"], book["lot"] = instrument["tick"], instrument["lot"]
            book["per_tick"], book["per_lot"] = 1 / instrument["tick"], 1 / instrument["lot"]
        state = self.context.state[0]
        state["must_deliver"] = delivery == "every"
        state["bbo_row_bytes"], state["depth_row_bytes"] = row_bytes(BBO.itemsize), row_bytes(DEPTH.itemsize)
        audit = self.context.audit[0]
        audit["row_bytes"] = row_bytes(BOOK_CHECK.itemsize)
        audit["check"] = self.context.check.ctypes.data
        self._rehearsal_row = np.zeros(row_bytes(DEPTH.itemsize) // 8, np.int64)
        state["rehearsal_row"] = self._rehearsal_row.ctypes.data
        self._found = np.zeros(FOUND_WORDS, np.int64)
        state["found"] = self._found.ctypes.data
        for name in ("notice", "bbo", "depth", "rehearsal"):
            state[name] = getattr(self.context, name).ctypes.data

    def _with_levels(self, settings: BookSettings) -> Context:
        """A context over empty books of levels."""
        context = self._new_context(levels_max=settings.levels_max)
        book_bytes = symbol_bytes(settings.levels_max)
        self._books = np.zeros(self._symbols * book_bytes + WRITER_SEPARATION_BYTES, np.uint8)
        first = align_up(self._books.ctypes.data, WRITER_SEPARATION_BYTES)
        self._tickers = np.zeros((self._symbols, TICKERS_KEPT, TICKER_BYTES // 8), np.int64)
        for symbol, (book, tickers) in enumerate(zip(context.books, self._tickers, strict=True)):
            book["top"] = address = first + symbol * book_bytes
            bids = address + top.BOOK_BYTES
            asks = bids + side_bytes(settings.levels_max)
            for side in (bids, asks):
                l2.format_side(side, settings.levels_max)
            format_l2_book(address, bids, asks)
            book["tickers"] = tickers.ctypes.data
        return context

    def _with_orders(self, settings: BookSettings) -> Context:
        """A context over empty books of orders."""
        capacity = order_capacity(settings, self._symbols)
        self._books = np.zeros(engine_bytes(capacity) + WRITER_SEPARATION_BYTES, np.uint8)
        engine = align_up(self._books.ctypes.data, WRITER_SEPARATION_BYTES)
        format_engine(engine, capacity, is_zeroed=True)
        context = self._new_context(engine=engine)
        for symbol, book in enumerate(context.books):
            book["top"], book["is_known"] = address_of_book(engine, symbol), 1
        return context

    def _new_context(self, *, levels_max: int | None = None, engine: int | None = None) -> Context:
        return new_context(self._symbols, np.zeros(1, self.page())["counters"], levels_max, engine)

    def rehearse_every(self, interval_ns: int, *, has_twin: bool) -> None:
        self.context.state[0]["rehearsal_interval_ns"] = interval_ns

    def uses(self) -> list[SegmentUse]:
        return [
            SegmentUse(FEED_TO_BOOK, RINGS[FEED_TO_BOOK], True),
            SegmentUse(BOOK_TO_STRATEGY, RINGS[BOOK_TO_STRATEGY], True),
            SegmentUse(BBO_TABLE, seqlock_layout(BBO, self._symbols), True),
            SegmentUse(DEPTH_TABLE, seqlock_layout(DEPTH, self._symbols), True),
            SegmentUse(CHECK_TABLE, seqlock_layout(BOOK_CHECK, self._symbols), True),
            SegmentUse(CHECK_REQUESTS, record_layout(CHECK_REQUEST, 1 + self._symbols), False),
        ]

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        self.context = self.context._replace(counters=page["counters"], clock=clock)
        state = self.context.state[0]
        state["input"], state["output"] = segments[FEED_TO_BOOK].address, segments[BOOK_TO_STRATEGY].address
        state["bbo_table"], state["depth_table"] = segments[BBO_TABLE].address, segments[DEPTH_TABLE].address
        audit = self.context.audit[0]
        audit["requests"], audit["table"] = segments[CHECK_REQUESTS].address, segments[CHECK_TABLE].address
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
        if self.context.engine is not None:
            self._before = {name: int(self.context.counters[0][name]) for name in COUNTED}
            log.error("going on for an earlier book, which no snapshot makes up for: all are stale until the session "
                      "ends")  # fmt: skip
        if last := ring.newest(output):
            state["notice_seq"] = record_at(last, NOTICE)["seq"]
        standing, rows = self._standing_rows(int(state["bbo_table"]))
        state["must_invalidate"] = len(standing) > 0
        for name in ("volume", "read_ns"):
            self.context.books[name][standing] = rows[name]
        was_valid = (rows["state"] == BookState.VALID) | (rows["state"] == BookState.STALE)
        words = self._books.view(np.int64)
        at = self.context.books["top"][standing] + top.STATE - words.ctypes.data >> 3
        words[at] = np.where(was_valid, BookState.DIRTY, rows["state"])

    def _standing_rows(self, table: int) -> tuple[NDArray[np.intp], NDArray[np.void]]:
        """(symbols that have a BBO, the newest of each). Nobody writes. One by one, 8,000 take 0.1 s of a restart."""
        size = row_bytes(BBO.itemsize)
        words = np.frombuffer(bytes_at(table, self._symbols * size), np.int64).reshape(self._symbols, size // 8)
        standing, payloads, _ = newest_rows(words, BBO.itemsize)
        return standing, payloads.view(BBO)[:, 0]

    def is_synced(self) -> bool:
        if self.context.engine is not None:
            return True  # no snapshot will come: there is nothing to wait for
        return all(peek(int(book["top"]) + top.STATE) == BookState.VALID for book in self.context.books)

    def service(self, now_ns: int) -> None:
        if self.context.engine is not None:
            self._count_orders(self.context.engine)
            self._tell_over_limit(self.context.engine)
        else:
            self._tell_full()
        self._tell_broken()

    def _count_orders(self, engine: int) -> None:
        """What the engine has counted, into the page."""
        counters = self.context.counters[0]
        counted = {code: peek(engine + COUNTERS - 8 * code) for code in l3.CODES}
        for name, codes in COUNTED.items():
            counters[name] = self._before[name] + sum(counted[code] for code in codes)

    def _tell_over_limit(self, engine: int) -> None:
        """Which symbols have reached a limit: each while there are few, of many again when there are twice as many."""
        if self.context.counters[0]["orders_over_limit"] == self._looked_over_limit:
            return
        self._looked_over_limit = int(self.context.counters[0]["orders_over_limit"])
        full = [self._names[symbol] for symbol in np.flatnonzero(self.context.books["dropped"])]
        self._told_full = min(self._told_full, len(full))  # another session begins with room
        if len(full) == self._told_full or (len(full) > FEW and len(full) < 2 * self._told_full):
            return
        self._told_full = len(full)
        reached = [code for code in LIMITS if peek(engine + COUNTERS - 8 * code)]
        log.error(
            "no room for more orders (%s): %d symbols are stale from now on, and not traded: %s; raise %s",
            ", ".join(l3.CODES[code] for code in reached), len(full), listing(full),
            " and ".join(dict.fromkeys(SETTING_OF.get(code, "book.orders_max") for code in reached)),
        )  # fmt: skip

    def _tell_full(self) -> None:
        counters, dropped = self.context.counters[0], self.context.books["dropped"]
        for symbol in np.flatnonzero(dropped > self._told_dropped):
            log.error(
                "%s: a side has more than book.levels_max=%d levels; the book is stale until its next snapshot",
                self._names[symbol], self._levels_max,
            )  # fmt: skip
        counters["levels_dropped"] += int((dropped - self._told_dropped).sum())
        self._told_dropped[:] = dropped

    def _tell_broken(self) -> None:
        violations = self.context.books["violations"]
        for symbol in np.flatnonzero(violations > self._told_violations):
            fault = FAULTS[int(self.context.books[symbol]["fault"])]
            log.error(
                "%s: the integrity check found its book broken (%s); it is %s",
                self._names[symbol], fault, _GIVEN_UP if self.context.levels_max is None else _EMPTIED,
            )  # fmt: skip
        self._told_violations[:] = violations

    def idle_input(self) -> bool:
        source = int(self.context.state[0]["input"])
        if not source:
            return True  # not attached yet
        head, tail = cursors(source)
        return head == tail
