"""ITCH blocks through feed and book, turned by hand, against the obvious books."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.line.stepped import SteppedLine, frame, pop
from shm.atomics import poke
from shm.layout import bytes_at
from stages.book.audit import STEP_NS
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE
from stages.domain.messages import DEPTH_LEVELS, BookState, NoticeKind, Side
from stages.domain.orderbook import top
from stages.domain.orderbook.engine import Capacity, engine_bytes
from stages.feed.agent import FeedAgent
from stages.feed.context import Format
from stages.feed.settings import FeedSettings
from stages.prefault import _arrays
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import coherent, order_stream
from tests.stages.feed.stepped import diff, instruments, observed

BINARY = 2
STOCKS = ("STOCK1", "STOCK3")
"""Of the four that the streams are about; their locates are 1 and 3."""
PRICE, SHARES = 10**4, 10**8
TICK = 1_000_000
ORDERS = 1_000
ROWS = (BBO_TABLE, DEPTH_TABLE)


class Line(SteppedLine):
    """Feed and book of ITCH; keeps the notices."""

    def __init__(self, *stocks: str, **settings: Any) -> None:
        names = stocks or STOCKS
        super().__init__(
            instruments(*names), stream_format=Format.ITCH, book=BookSettings(orders_max=ORDERS, **settings)
        )
        self.notices: list[np.void] = []

    def play(self, *messages: bytes, per_frame: int = 50) -> None:  # type: ignore[override]
        for begin in range(0, len(messages), per_frame):
            self.feed.offer(frame(oracle.framed(*messages[begin : begin + per_frame]), BINARY))
        idle = 0
        while idle < 4:
            moved = [self.step_feed(), self.step_book()]
            while pop(self.segments[BOOK_TO_STRATEGY].address, self.notice.ctypes.data):
                self.notices.append(self.notice[0].copy())
                moved.append(1)
            idle = 0 if any(moved) else idle + 1
        self.book.service(0)

    def restart(self, stage: str) -> None:
        """The stage was killed; one that knows only what is in shared memory takes its place."""
        agent = getattr(Line(), stage)
        setattr(self, stage, agent)
        self._attach(agent)
        self.feed.use_memory()

    def state(self, symbol: int = 0) -> BookState:
        return BookState(int(self.row(BBO_TABLE, symbol)[1]["state"]))


def head(locate: int, time_ns: int = 1) -> tuple[int, int, int]:
    return locate, 0, time_ns


def add(number: int, side: bytes = b"B", shares: int = 100, price: int = 100_0000, locate: int = 1) -> bytes:
    return oracle.pack("A", *head(locate), number, side, shares, b"STOCK%d  " % locate, price)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(1, 60))
@example(119_952, 9, 1)
def test_rows_show_the_books_of_the_messages(seed: int, count: int, per_frame: int) -> None:
    messages = coherent(order_stream(seed, count))
    line, books, named = Line(), oracle.Books(), set()
    line.play(*messages, per_frame=per_frame)
    for message in messages:
        letter, locate, *_ = oracle.unpack(message)
        if letter in "AFPQHRhYKJNOIL":
            named.add(locate)
        if locate in named:
            books.apply(message)
    for symbol, locate in enumerate((1, 3)):
        depth, bbo = line.row(DEPTH_TABLE, symbol)[1], line.row(BBO_TABLE, symbol)[1]
        for side, name in enumerate(("bid", "ask")):
            levels = [(price * PRICE, shares * SHARES) for price, shares in books.levels(locate, side).items()]
            shown = int(depth[f"{name}_levels"])
            assert shown == min(len(levels), DEPTH_LEVELS)
            assert int(depth[f"{name}_count"]) == len(levels)
            found = zip(depth[f"{name}_price"].tolist(), depth[f"{name}_quantity"].tolist(), strict=True)
            assert list(found)[:shown] == levels[:DEPTH_LEVELS]
            best = (int(bbo[f"{name}_price"]), int(bbo[f"{name}_quantity"]))
            assert best == (levels[0] if levels else (0, 0))
    counters = line.counters("feed")
    assert counters["messages_in"] == len(messages)
    assert counters["frames"] == -(-len(messages) // per_frame)
    without_record = counters["unknown_symbol"] + counters["other_messages"] + counters["overflowed"]
    assert counters["events"] + without_record == len(messages)


def test_an_execution_is_told_as_a_trade_at_the_orders_price_and_then_as_a_book() -> None:
    line = Line()
    line.play(add(1, b"S", 300, 101_0000), add(2))
    line.notices.clear()
    line.play(oracle.pack("E", *head(1), 1, 100, 7))
    trade, book = line.notices
    assert (trade["kind"], book["kind"]) == (NoticeKind.TRADE, NoticeKind.BOOK)
    assert (int(trade["trade_price"]), int(trade["trade_quantity"])) == (101_0000 * PRICE, 100 * SHARES)
    assert trade["trade_side"] == Side.BUY
    assert int(trade["trade_volume"]) == 100 * SHARES
    assert int(book["ask_quantity"]) == 200 * SHARES


def test_an_execution_that_is_not_printable_adds_no_volume() -> None:
    line = Line()
    line.play(
        add(1), oracle.pack("C", *head(1), 1, 40, 7, b"N", 99_0000), oracle.pack("C", *head(1), 1, 60, 8, b"Y", 98_0000)
    )
    trades = [notice for notice in line.notices if notice["kind"] == NoticeKind.TRADE]
    assert [int(trade["trade_price"]) for trade in trades] == [99_0000 * PRICE, 98_0000 * PRICE]
    assert [int(trade["trade_volume"]) for trade in trades] == [0, 60 * SHARES]


def test_another_day_begins_with_empty_books_and_locates_of_its_own() -> None:
    line = Line()
    line.play(oracle.pack("S", 0, 0, 0, b"O"), add(1), oracle.pack("D", *head(1, 9), 77), add(2, locate=3))
    assert (line.state(0), line.state(1)) == (BookState.DIRTY, BookState.VALID)
    line.play(oracle.pack("S", 0, 0, 0, b"O"), oracle.pack("A", *head(9, 2), 1, b"S", 300, b"STOCK1  ", 100_0000))
    first, second = (line.row(DEPTH_TABLE, symbol)[1] for symbol in range(2))
    assert [int(first[name]) for name in ("bid_count", "ask_count")] == [0, 1]
    assert [int(second[name]) for name in ("bid_count", "ask_count")] == [0, 0]
    assert (line.state(0), line.state(1)) == (BookState.VALID, BookState.VALID)
    line.play(add(3, locate=1), oracle.pack("S", 0, 0, 7, b"O"))
    assert int(line.row(DEPTH_TABLE)[1]["bid_count"]) == 1, "the locate of the day before is nobody's until it is named"


def test_a_halt_is_a_state_of_the_symbol_until_trading_goes_on() -> None:
    line = Line()
    line.play(add(1), add(2, b"S", 100, 101_0000), add(3, locate=3))
    assert line.state() == BookState.VALID
    line.play(oracle.pack("H", *head(1), b"STOCK1  ", b"H", b" ", b"T1  "))
    assert (line.state(0), line.state(1)) == (BookState.HALTED, BookState.VALID)
    assert line.notices[-1]["state"] == BookState.HALTED
    line.play(add(4))
    assert line.state() == BookState.HALTED
    assert int(line.row(BBO_TABLE)[1]["bid_quantity"]) == 200 * SHARES
    line.play(oracle.pack("H", *head(1), b"STOCK1  ", b"T", b" ", b"    "))
    assert line.state() == BookState.VALID
    line.play(oracle.pack("h", *head(1), b"STOCK1  ", b"Q", b"H"))
    assert line.state() == BookState.HALTED


def test_a_halt_of_one_kind_does_not_end_with_another() -> None:
    line = Line()
    line.play(add(1), oracle.pack("h", *head(1), b"STOCK1  ", b"Q", b"H"))
    line.play(oracle.pack("H", *head(1), b"STOCK1  ", b"T", b" ", b"    "))
    assert line.state() == BookState.HALTED
    line.play(oracle.pack("h", *head(1), b"STOCK1  ", b"B", b"T"))
    assert line.state() == BookState.HALTED
    line.play(oracle.pack("h", *head(1), b"STOCK1  ", b"Q", b"T"))
    assert line.state() == BookState.VALID


def test_a_symbol_that_reaches_its_limit_goes_stale_and_harms_no_other() -> None:
    line = Line(symbol_orders_max=2)
    line.play(add(1), add(2), add(3, locate=3))
    assert (line.state(0), line.state(1)) == (BookState.VALID, BookState.VALID)
    line.play(add(4), add(5, locate=3))
    assert (line.state(0), line.state(1)) == (BookState.STALE, BookState.VALID)
    assert line.counters("book")["orders_over_limit"] == 1
    line.play(oracle.pack("D", *head(1), 1), oracle.pack("H", *head(1), b"STOCK1  ", b"T", b" ", b"    "))
    assert line.state() == BookState.STALE


def test_one_symbol_alone_never_takes_the_room_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    line.play(add(1, locate=3), *(add(number, price=100_0000 + 100 * number) for number in range(2, 600)))
    line.play(*(add(number, locate=3, price=100_0000 + 100 * number) for number in range(600, 800)))
    assert (line.state(0), line.state(1)) == (BookState.STALE, BookState.VALID)
    assert [int(line.row(DEPTH_TABLE, symbol)[1]["bid_count"]) for symbol in range(2)] == [ORDERS // 4, 201]
    assert "STOCK1; raise book.symbol_orders_max" in caplog.text


def test_orders_from_before_the_start_are_counted_and_make_their_book_dirty_for_good() -> None:
    line = Line()
    line.play(add(1), add(2, locate=3))
    line.play(oracle.pack("D", *head(1), 77), oracle.pack("U", *head(1), 78, 79, 100, 100_0000))
    assert line.counters("book")["unknown_orders"] == 2
    assert int(line.row(DEPTH_TABLE)[1]["bid_count"]) == 1
    assert line.notices[-1]["state"] == BookState.DIRTY
    line.play(add(3), oracle.pack("H", *head(1), b"STOCK1  ", b"T", b" ", b"    "))
    assert (line.state(0), line.state(1)) == (BookState.DIRTY, BookState.VALID)


def test_an_order_is_of_the_book_that_it_was_added_to_whatever_a_message_says() -> None:
    line = Line()
    line.play(add(1), add(2, locate=3))
    line.play(oracle.pack("D", *head(3), 1))
    assert (int(line.row(BBO_TABLE, 0)[1]["bid_quantity"]), line.state(0)) == (0, BookState.VALID)
    assert int(line.row(BBO_TABLE, 1)[1]["bid_quantity"]) == 100 * SHARES


def test_a_book_of_orders_is_checked_while_it_is_used() -> None:
    line = Line()
    line.play(*(add(number, b"BS"[number % 2 :][:1], price=100_0000 + 100 * number) for number in range(1, 40)))
    for turn in range(1, 300):
        line.now_ns = turn * STEP_NS
        line.step_book()
    counters = line.counters("book")
    assert (int(counters["checks"]) > 0, int(counters["violations"])) == (True, 0)
    poke(int(line.book.context.books[0]["top"]) + top.SPREAD, 7)
    for turn in range(300, 600):
        line.now_ns = turn * STEP_NS
        line.step_book()
    line.book.service(0)
    assert line.state(0) == BookState.STALE
    line.play(add(100), oracle.pack("H", *head(1), b"STOCK1  ", b"T", b" ", b"    "))
    assert (line.state(0), int(line.counters("book")["diffs_ignored"])) == (BookState.STALE, 2)


def test_a_directory_message_names_a_locate_anew() -> None:
    line = Line()
    line.play(
        oracle.pack(
            "R", *head(9), b"STOCK1  ", *[b"N", b"N", 100, b"N", b"C", b"Z ", b"P", b"N", b"N", b"1", b"N", 1, b"N"]
        )
    )
    line.play(oracle.pack("A", *head(9), 1, b"B", 100, b"OTHER   ", 100_0000))
    assert int(line.row(BBO_TABLE)[1]["bid_price"]) == 100_0000 * PRICE


def test_damage_in_a_block_is_counted_and_what_follows_is_used() -> None:
    line = Line()
    good = oracle.framed(add(1), add(2))
    line.feed.offer(frame(good + b"\x00\x07Zabcdef" + oracle.framed(add(3), add(4)), BINARY))
    line.play()
    assert line.counters("feed")["malformed"] == 1
    assert int(line.row(BBO_TABLE)[1]["bid_quantity"]) == 400 * SHARES


def seen(line: Line) -> list[tuple[str, object]]:
    """All that was published, in order, and the newest rows, field by field: but for the times at which it happened."""
    records = [*line.notices, *(line.row(table, symbol)[1] for table in ROWS for symbol in range(line.symbols))]
    return [
        (name, record[name].tolist())
        for record in records
        for name in record.dtype.names or ()
        if name not in ("read_ns", "publish_ns")
    ]


def engine_memory(line: Line) -> bytes:
    engine = line.book.context.engine
    assert engine is not None
    return bytes(bytes_at(engine, engine_bytes(Capacity.of(len(STOCKS), ORDERS))))


def test_two_replays_give_the_same_bytes_however_they_are_cut_into_frames() -> None:
    messages = coherent(order_stream(11, 400))
    lines = []
    for per_frame in (50, 50, 7, 1):
        lines.append(Line())
        lines[-1].play(*messages, per_frame=per_frame)
    assert len(lines[0].notices) > 100
    for line in lines[1:]:
        assert seen(line) == seen(lines[0])
        assert engine_memory(line) == engine_memory(lines[0])


@pytest.mark.parametrize("stage", ["feed", "book"])
def test_after_a_restart_in_the_middle_the_books_are_stale_until_the_end(
    stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line()
    line.play(add(1), add(2, b"S", price=101_0000), add(3, locate=3))
    assert (line.state(0), line.state(1)) == (BookState.VALID, BookState.VALID)
    line.play(oracle.pack("D", *head(1), 99), b"what")  # of no order; of no type
    line.play(add(11, locate=1), add(11))
    line.notices.clear()
    counted = [("feed", "malformed"), ("book", "unknown_orders"), ("book", "orders_refused")]
    before = [int(line.counters(name)[counter]) for name, counter in counted]
    assert before == [1, 1, 1]
    line.feed.offer(frame(oracle.framed(add(4), add(5, locate=3), add(6)), BINARY))
    line.step_feed()  # a part of the block is on its way to the book
    line.restart(stage)
    line.play(add(7), oracle.pack("H", *head(3), b"STOCK3  ", b"T", b" ", b"    "), add(8, locate=3))
    for symbol in range(line.symbols):
        states = [int(notice["state"]) for notice in line.notices if notice["symbol"] == symbol]
        assert BookState.VALID not in states[states.index(BookState.STALE) :]
        assert stage == "feed" or BookState.VALID not in states
        assert line.state(symbol) == states[-1] == BookState.STALE
    line.play(b"what", oracle.pack("D", *head(1), 98), add(8))
    after = [int(line.counters(name)[counter]) for name, counter in counted]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
    assert caplog.text.count("stale until the session ends") == 1


def test_each_of_many_names_is_found_whatever_their_order() -> None:
    names = [f"{letters}{number}" for number in (7, 30, 1) for letters in ("Z", "A", "ABCDEFG", "NINELETTERS")]
    line = Line(*names)
    known = [name for name in names if len(name) <= 8]
    messages = [
        oracle.pack("A", *head(number), number, b"B", 100 + number, name.ljust(8).encode(), 100_0000)
        for number, name in enumerate((*known, "NOBODY", "", "ZZZZZZZZ", "A", "AAAAAAAA"), 1)
    ]
    line.play(*messages)
    found = {name: int(line.row(BBO_TABLE, symbol)[1]["bid_quantity"]) for symbol, name in enumerate(names)}
    assert {name: found[name] for name in known} == {name: SHARES * (100 + number) for number, name in
                                                     enumerate(known, 1)}  # fmt: skip
    assert not any(found[name] for name in names if name not in known)
    assert line.counters("feed")["unknown_symbol"] == 5


def test_text_among_the_blocks_is_counted_and_left_out() -> None:
    line = Line()
    line.feed.offer(frame(diff(1, 1)))
    line.play(add(1))
    line.feed.offer(frame(b"not even that"))
    line.play(add(2))
    assert (int(line.counters("feed")["unrecognised"]), int(line.counters("feed")["frames"])) == (2, 4)
    assert (int(line.row(BBO_TABLE)[1]["bid_quantity"]), line.state()) == (200 * SHARES, BookState.VALID)


def test_every_block_is_shown_whole_once_the_book_has_it() -> None:
    line = Line()
    reader = observed(line)
    messages = coherent(order_stream(4, 120))
    line.play(*messages, per_frame=50)  # of which a poll takes a part
    blocks = [oracle.framed(*messages[at : at + 50]) for at in range(0, len(messages), 50)]
    assert [each.content for each in reader.read()] == blocks
    torn = blocks[0][:-3]
    line.feed.offer(frame(torn, BINARY))
    line.play()
    assert [each.content for each in reader.read()] == [torn]


def test_a_feed_of_binary_messages_holds_nothing_back_and_takes_no_memory_for_it() -> None:
    table = instruments(*(f"S{number}" for number in range(8_000)))
    feed = FeedAgent(table, FeedSettings(), "ws://127.0.0.1:1", "http://127.0.0.1:1", "every", (), Format.ITCH)
    assert sum(array.nbytes for array in _arrays(feed)) < 16_000_000
