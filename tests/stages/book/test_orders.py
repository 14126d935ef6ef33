"""Books of single orders: what is asked for ahead, of records that wait in the ring, changes nothing."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.line.stepped import SteppedLine, pop
from shm.layout import bytes_at
from stages.book.context import FOUND_WORDS
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE, FEED_TO_BOOK
from stages.domain.messages import MARKET, NOTICE, MarketFlag, MarketKind
from stages.domain.orderbook.batch import AHEAD_TABLE
from stages.domain.orderbook.engine import Capacity, engine_bytes
from stages.feed.context import Format
from tests.stages.feed.stepped import instruments, push

SYMBOLS, ORDERS = ("STOCK1", "STOCK2"), 1_000
KINDS = (MarketKind.ADD, MarketKind.EXECUTE, MarketKind.REDUCE, MarketKind.DELETE, MarketKind.REPLACE)
OTHERS = (MarketKind.START, MarketKind.STATUS, MarketKind.TRADE, MarketKind.RESET)
FEW = st.integers(1, 6)
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from((*KINDS, MarketKind.ADD, MarketKind.ADD, *KINDS, *OTHERS)),
        st.integers(0, 1), st.integers(0, 1), FEW, FEW, FEW, FEW,
    ),
    max_size=80,
)  # fmt: skip
"""(kind, symbol, whether it is a bid, id, price, quantity, new id): of few orders, so that each meets the others."""


def records(messages: Iterable[tuple[int, ...]]) -> np.ndarray:
    """As the feed writes them."""
    rows = list(messages)
    market = np.zeros(len(rows), MARKET)
    market["flags"] = MarketFlag.FIRST | MarketFlag.END
    for number, (record, (kind, symbol, is_bid, order_id, price, quantity, new_id)) in enumerate(
        zip(market, rows, strict=True)
    ):
        record["kind"], record["symbol"], record["bid_count"] = kind, symbol, is_bid
        record["first_id"], record["last_id"] = order_id, number
        record["price"][0], record["quantity"][:2] = price * 1_000_000, (quantity, new_id)
    return market


def published(market: np.ndarray, bursts: Sequence[int], notice_ring: int) -> tuple[list[object], bytes, bytes]:
    """(notices and rows without times, the engine's memory, the counters); so many records wait before each poll."""
    line = SteppedLine(
        instruments(*SYMBOLS), stream_format=Format.ITCH, book=BookSettings(orders_max=ORDERS), notice_ring=notice_ring
    )
    found: list[object] = []
    notice, sent, turn = np.zeros(1, NOTICE), 0, 0
    names = [name for name in NOTICE.names or () if name not in ("publish_ns", "version")]
    while sent < len(market) or line.step_book():
        for record in market[sent : sent + bursts[turn % len(bursts)]]:
            assert push(line.segments[FEED_TO_BOOK].address, record.reshape(1).ctypes.data)
            sent += 1
        turn += 1
        line.step_book()
        while pop(line.segments[BOOK_TO_STRATEGY].address, notice.ctypes.data):
            found.append(notice[0][names].tolist())
    found += [line.row(table, symbol)[1].tobytes() for table in (BBO_TABLE, DEPTH_TABLE) for symbol in range(2)]
    engine = line.book.context.engine
    assert engine is not None
    memory = bytes(bytes_at(engine, engine_bytes(Capacity.of(len(SYMBOLS), ORDERS))))
    return found, memory, line.counters("book").tobytes()


@settings(max_examples=100, deadline=None)
@given(MESSAGES, st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any), st.sampled_from([1, 2, 64]))
def test_however_many_wait_the_same_is_published(
    messages: list[tuple[int, ...]], bursts: list[int], notice_ring: int
) -> None:
    market = records(messages)
    assert published(market, bursts, notice_ring) == published(market, [1], 64)


def test_a_new_book_goes_on_in_the_middle_of_a_ring() -> None:
    """It has looked at nothing, and the records before its first are gone."""
    market = records((MarketKind.ADD, 0, 1, number, number, 1, 1) for number in range(1, 120))
    line = SteppedLine(instruments(*SYMBOLS), stream_format=Format.ITCH, book=BookSettings(orders_max=ORDERS))
    for part in (market[:50], market[50:]):
        for record in part:
            push(line.segments[FEED_TO_BOOK].address, record.reshape(1).ctypes.data)
        line.book = SteppedLine(
            instruments(*SYMBOLS), stream_format=Format.ITCH, book=BookSettings(orders_max=ORDERS)
        ).book
        line._attach(line.book)
        line.step_book()
    depth = line.row(DEPTH_TABLE)[1]
    assert (int(depth["bid_count"]), int(depth["bid_price"][0])) == (69, 119_000_000)


def test_there_is_a_word_for_each_record_that_is_looked_at() -> None:
    assert FOUND_WORDS > AHEAD_TABLE
    assert FOUND_WORDS & FOUND_WORDS - 1 == 0


@pytest.mark.parametrize("of_levels", [True, False])
def test_a_line_of_levels_looks_at_nothing(of_levels: bool) -> None:
    kind = Format.BINANCE if of_levels else Format.ITCH
    line = SteppedLine(instruments(*SYMBOLS), stream_format=kind, book=BookSettings(orders_max=ORDERS))
    for record in records([(MarketKind.TRADE, 0, 1, 1, 1, 1, 1)] * 3):
        push(line.segments[FEED_TO_BOOK].address, record.reshape(1).ctypes.data)
    line.step_book()
    assert int(line.book.context.state[0]["looked_for"]) == (0 if of_levels else 3)


def test_symbols_without_room_are_named_while_they_are_few_and_counted_when_they_are_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [f"S{number}" for number in range(40)]
    room_of_all = BookSettings(orders_max=ORDERS, symbol_orders_max=ORDERS)
    line = SteppedLine(instruments(*names), stream_format=Format.ITCH, book=room_of_all)
    room = [(MarketKind.ADD, 0, 1, number, 1, 1, 0) for number in range(1, ORDERS + 1)]
    over = [(MarketKind.ADD, symbol, 1, 10_000 + symbol, 1, 1, 0) for symbol in range(1, 40)]
    reset = (MarketKind.RESET, 39, 0, 0, 0, 0, 0)  # which has no part in it: it lost messages
    for record in records([*room, reset, *over[:-1]]):
        push(line.segments[FEED_TO_BOOK].address, record.reshape(1).ctypes.data)
        line.step_book()
        while pop(line.segments[BOOK_TO_STRATEGY].address, line.notice.ctypes.data):
            pass
        line.book.service(0)
    assert line.counters("book")["orders_over_limit"] == 38
    said = [record.getMessage() for record in caplog.records if "no room for more orders" in record.getMessage()]
    assert [int(words.partition(": ")[2].partition(" ")[0]) for words in said] == [*range(1, 9), 16, 32]
    assert said[1].endswith("not traded: S1, S2; raise book.orders_max")
    assert said[-1].endswith("S19, S20 and 12 more; raise book.orders_max")
    assert not any("S39" in words for words in said)
