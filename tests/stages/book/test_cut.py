"""A book process that dies at any store leaves books that are right, or known to be dirty, and so does its successor.

Books are private memory, which dies with its process: of what it did only the stores in shared memory can be seen, in
the rings and the tables of rows. Each of them is made the last one, with the compiler off: `tests/test_jit_off.py` sees
to it. Whatever the others then find that is VALID must be what the venue's book was at that id.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.line.stepped import SteppedLine
from shm import ring, seqlock
from shm.atomics import JIT, peek, store_word
from stages.book.agent import BookAgent
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE, FEED_TO_BOOK
from stages.domain.messages import NOTICE, BookState, MarketKind
from stages.feed.context import UNSYNCED, Format
from tests.oracle.order_books import NaiveOrderBooks
from tests.oracle.orderbook import NaiveBook
from tests.stages.book.test_orders import records
from tests.stages.feed.stepped import diff, frame, instruments, popped, push, snapshot

pytestmark = pytest.mark.skipif(JIT, reason="a store can be made the last one only with the compiler off")

SYMBOLS = ("BTCUSDT", "ETHUSDT")
BOOK = BookSettings(levels_max=100, orders_max=1_000)
UNIT = 10**8
Levels = list[tuple[int, int]]


class Killed(BaseException):
    """The book is dead."""


@contextmanager
def dies_after(stores: float) -> Iterator[Callable[[], int]]:
    """Within, so many stores in shared memory are made, and no more. Yields what says how many there were."""
    made = 0

    def counted(store: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def last(address: int, value: int) -> None:
            nonlocal made
            if made >= stores:
                raise Killed
            store(address, value)
            made += 1

        return last

    def line(address: int, *words: int) -> None:
        for index, word in enumerate(words):
            counted_word(address + 8 * index, word)

    counted_word = counted(store_word)
    with pytest.MonkeyPatch.context() as patch:
        for module in (ring, seqlock):
            for name in ("store_word", "store_release", "store_relaxed"):
                if hasattr(module, name):
                    patch.setattr(module, name, counted(getattr(module, name)))
        patch.setattr(ring, "store_line", line)
        yield lambda: made


class MortalLine(SteppedLine):
    """A line whose books die after as many stores as `lives` says, one after the other; the last one lives on.

    truth   by symbol and id: bids and asks of the venue's book, best first
    """

    def __init__(self, lives: list[int], stream_format: Format, **capacities: int) -> None:
        super().__init__(
            instruments(*SYMBOLS), delivery="conflate", stream_format=stream_format, book=BOOK, **capacities
        )  # type: ignore[arg-type]
        self._lives: list[float] = [*lives, math.inf]
        self._of_orders = stream_format is Format.ITCH
        self.truth: list[dict[int, tuple[Levels, Levels]]] = [{0: ([], [])} for _ in SYMBOLS]
        self._notice_seq = self.first_record = 0
        self.is_said = True
        """The book that lives now, if it is another's successor, has come as far as to say what it knows."""

    def step(self) -> None:
        """The feed's turn, the book's, and that of all who look at what it says."""
        self.step_feed()
        try:
            with dies_after(self._lives[0]) as made:
                self.step_book()
        except Killed:
            self._look()
            self._succeed()
        else:
            self._lives[0] -= made()
            self.is_said = True
            self._look()

    def _succeed(self) -> None:
        """As the supervisor and a new process do it."""
        del self._lives[0]
        self.is_said, self.first_record = False, peek(self.segments[FEED_TO_BOOK].address + ring.HEAD)
        self.book = BookAgent(instruments(*SYMBOLS), BOOK, "conflate", of_orders=self._of_orders)
        self._attach(self.book)
        self.feed.service(self.now_ns)

    def states(self) -> list[int]:
        return [int(self.row(BBO_TABLE, symbol)[1]["state"]) for symbol in range(len(SYMBOLS))]

    def _look(self) -> None:
        """Nothing that is said to be VALID is wrong."""
        for symbol in range(len(SYMBOLS)):
            bbo, depth = self.row(BBO_TABLE, symbol)[1], self.row(DEPTH_TABLE, symbol)[1]
            if bbo["state"] == BookState.VALID:
                assert self.knows(symbol) or not self.is_said
                self._assert_best(bbo, symbol)
            if depth["state"] == BookState.VALID:
                shown = [
                    list(zip(depth[f"{side}_price"].tolist(), depth[f"{side}_quantity"].tolist(), strict=True))
                    for side in ("bid", "ask")
                ]
                for found, right in zip(shown, self.truth[symbol][int(depth["last_id"])], strict=True):
                    assert found == [*right, *[(0, 0)] * (len(found) - len(right))]
        for notice in popped(self.segments[BOOK_TO_STRATEGY], NOTICE):
            assert int(notice["seq"]) > self._notice_seq
            self._notice_seq = int(notice["seq"])
            if notice["state"] == BookState.VALID:
                self._assert_best(notice, int(notice["symbol"]))

    def knows(self, symbol: int) -> bool:
        """Whether the book that lives now has seen the symbol's from its beginning on."""
        raise NotImplementedError

    def _assert_best(self, told: np.void, symbol: int) -> None:
        bids, asks = self.truth[symbol][int(told["last_id"])]
        for side, right in (("bid", bids), ("ask", asks)):
            assert (int(told[f"{side}_price"]), int(told[f"{side}_quantity"])) == (right[0] if right else (0, 0))

    def assert_newest(self) -> None:
        """All books are valid again and show the newest that the venue has."""
        assert self.states() == [BookState.VALID] * len(SYMBOLS)
        for symbol in range(len(SYMBOLS)):
            for table in (BBO_TABLE, DEPTH_TABLE):
                assert int(self.row(table, symbol)[1]["last_id"]) == max(self.truth[symbol])


class LevelLine(MortalLine):
    """Diffs over several records, through a ring that holds half an event; snapshots for which the feed waits."""

    def __init__(self, lives: list[int]) -> None:
        super().__init__(lives, Format.BINANCE, feed_ring=4, notice_ring=2)
        self._venue = [NaiveBook() for _ in SYMBOLS]

    def knows(self, symbol: int) -> bool:
        return bool(self.book.context.books[symbol]["is_known"])

    def change(self, symbol: int, changes: list[tuple[int, int, int]]) -> None:
        """(side, distance from the middle, quantity) of each level that changes."""
        venue, newest = self._venue[symbol], max(self.truth[symbol]) + 1
        told: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
        for side, distance, quantity in changes:
            price = 100 + distance if side else 100 - distance
            (venue.set_ask if side else venue.set_bid)(price * UNIT, quantity * UNIT)
            told[side].append((str(price), str(quantity)))
        self.truth[symbol][newest] = venue.bid_levels(), venue.ask_levels()
        self.feed.offer(frame(diff(newest, newest, *told, symbol=SYMBOLS[symbol])))
        for _ in range(3):
            self.step()

    def resync(self) -> None:
        """The snapshots that the feed waits for."""
        for symbol in np.flatnonzero(self.feed.context.sync["status"] == UNSYNCED).tolist():
            newest = max(self.truth[symbol])
            sides = [[(str(p // UNIT), str(q // UNIT)) for p, q in side] for side in self.truth[symbol][newest]]
            self.feed.offer_snapshot(symbol, snapshot(newest, *sides))
            for _ in range(6):
                self.step()


LEVEL_CHANGES = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=9)
LIVES = st.lists(st.integers(0, 700), max_size=3)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 1), LEVEL_CHANGES), max_size=8), LIVES)
def test_books_of_levels_are_right_or_dirty_until_the_next_snapshot(changes: list[tuple[int, Any]], lives: Any) -> None:
    line = LevelLine(lives)
    start = [(side, distance, 1) for side in (0, 1) for distance in (1, 2, 5)]
    for symbol, change in [(0, start), (1, start), *changes]:
        line.change(symbol, change)
        line.resync()
    for _ in range(len(lives)):  # whoever dies once more, in this, is not the last
        for symbol in range(len(SYMBOLS)):
            line.change(symbol, [(0, 3, 2)])
            line.resync()
    line.assert_newest()


ORDER_KINDS = (MarketKind.ADD, MarketKind.ADD, MarketKind.EXECUTE, MarketKind.REDUCE, MarketKind.DELETE,
               MarketKind.REPLACE)  # fmt: skip
FEW = st.integers(1, 6)
ORDER_MESSAGES = st.lists(
    st.tuples(st.sampled_from(ORDER_KINDS), st.integers(0, 1), st.integers(0, 1), FEW, FEW, FEW, FEW), max_size=25
)


class OrderLine(MortalLine):
    """Messages about single orders, as the feed writes them into the book's ring."""

    def __init__(self, lives: list[int]) -> None:
        super().__init__(lives, Format.ITCH, notice_ring=4)
        self._venue = NaiveOrderBooks(len(SYMBOLS))
        self._sent = 0
        self._session_begins = [0] * len(SYMBOLS)

    def knows(self, symbol: int) -> bool:
        return self._session_begins[symbol] >= self.first_record

    def begin_session(self) -> None:
        """All books are empty."""
        self._venue = NaiveOrderBooks(len(SYMBOLS))
        for symbol in range(len(SYMBOLS)):
            self._session_begins[symbol] = self._sent
            self._send((MarketKind.START, symbol, 0, 0, 0, 0, 0), symbol)

    def message(self, message: tuple[int, ...]) -> None:
        """One that the venue may send: about an order that it has."""
        kind, symbol, is_bid, order_id, price, quantity, new_id = message
        if kind != MarketKind.ADD:
            if (found := self._venue.find(order_id)) is None:
                return
            symbol = found[0]
        match kind:
            case MarketKind.ADD:
                self._venue.add(symbol, order_id, 1 - is_bid, price * 1_000_000, quantity)
            case MarketKind.DELETE:
                self._venue.delete(order_id)
            case MarketKind.REPLACE:
                self._venue.replace(order_id, new_id, price * 1_000_000, quantity)
            case _:
                self._venue.reduce(order_id, quantity)
        self._send(message, symbol)

    def _send(self, message: tuple[int, ...], symbol: int) -> None:
        self._sent += 1
        self.truth[symbol][self._sent] = self._venue.levels(symbol, 0), self._venue.levels(symbol, 1)
        market = records([message])
        market["last_id"] = self._sent
        assert push(self.segments[FEED_TO_BOOK].address, market.ctypes.data)
        self.step()


@settings(max_examples=20)
@given(ORDER_MESSAGES, LIVES)
def test_books_of_orders_are_right_or_stale_until_the_next_session(messages: list[Any], lives: list[int]) -> None:
    line = OrderLine(lives)
    opening = [(MarketKind.ADD, symbol, is_bid, 100 + symbol * 2 + is_bid, 7 - is_bid, 3, 0)
               for symbol in (0, 1) for is_bid in (0, 1)]  # fmt: skip
    for message in [*opening, *messages]:
        line.message(message)
    for _ in range(1 + len(lives)):
        line.begin_session()
        for message in opening:
            line.message(message)
    line.assert_newest()
