"""The shipped strategies do what their first paragraphs say."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.domain.messages import BookState, OrderKind, OrderType, Origin, ReportKind, Side
from tests.stages.strategy.support import Stage, compose


@pytest.fixture(scope="module")
def spread() -> Any:
    return compose("spread")


@pytest.fixture(scope="module")
def market_maker() -> Any:
    return compose("market_maker")


def test_spread_quotes_at_mid_only_when_the_spread_is_wide(spread: Any) -> None:
    stage = Stage(spread, spread_ticks=3)
    stage.book(0, 6_000_000, 6_000_003)
    stage.poll()
    assert stage.orders() == []
    stage.book(0, 6_000_000, 6_000_004)
    stage.poll()
    (order,) = stage.orders()
    assert (order["price_ticks"], order["side"], order["order_type"]) == (6_000_002, Side.BUY, OrderType.LIMIT_MAKER)
    stage.book(0, 6_000_000, 6_000_004)
    stage.poll()
    assert stage.orders() == []  # one at a time


def test_spread_cancels_when_stale_or_narrow_and_sells_what_it_bought(spread: Any) -> None:
    stage = Stage(spread)
    stage.book(1, 250_000, 250_010)
    stage.poll()
    (order,) = stage.orders()
    stage.report(1, kind=ReportKind.ACKED)
    stage.book(1, 250_020, 250_030)
    stage.book(1, 250_020, 250_030)
    stage.poll()
    (request,) = stage.orders()
    assert (request["kind"], request["order_id"]) == (OrderKind.CANCEL, 1)
    lots = int(order["quantity_lots"])
    stage.report(1, kind=ReportKind.FILLED, cumulative_lots=lots, final=1, symbol=1)
    stage.book(1, 250_020, 250_030)
    stage.poll()
    (order,) = stage.orders()
    assert (order["side"], order["price_ticks"], order["order_id"]) == (Side.SELL, 250_025, 2)


def test_a_cancel_that_was_lost_with_its_connection_is_asked_for_again(spread: Any) -> None:
    stage = Stage(spread)
    stage.book(1, 250_000, 250_010)
    stage.poll()
    stage.report(1, kind=ReportKind.ACKED)
    stage.book(1, 250_020, 250_030)
    stage.poll()
    assert [order["kind"] for order in stage.orders()] == [OrderKind.NEW, OrderKind.CANCEL]
    stage.report(1, kind=ReportKind.UNKNOWN)  # nobody knows what became of either
    stage.book(1, 250_020, 250_030)
    stage.poll()
    assert [order["kind"] for order in stage.orders()] == [OrderKind.CANCEL]


def test_market_maker_quotes_both_sides_and_never_through_the_book(market_maker: Any) -> None:
    stage = Stage(market_maker, half_spread_ticks=0)
    stage.book(0, 6_000_000, 6_000_001)
    stage.poll()
    bid, ask = stage.orders()
    assert (bid["side"], bid["price_ticks"]) == (Side.BUY, 6_000_000)
    assert (ask["side"], ask["price_ticks"]) == (Side.SELL, 6_000_001)
    # 1000 USDT at 60000.01: 1666 lots of 0.00001
    assert bid["quantity_lots"] == 1_666


def test_market_maker_requotes_on_the_first_tick_after_the_cancel_is_through(market_maker: Any) -> None:
    stage = Stage(market_maker, requote_ticks=2)
    stage.book(0, 6_000_000, 6_000_002)
    stage.poll()
    assert len(stage.orders()) == 2
    stage.book(0, 6_000_001, 6_000_003)  # one tick: the quotes stay
    stage.poll()
    assert stage.orders() == []
    stage.book(0, 6_000_010, 6_000_012)
    stage.poll()
    assert [(int(o["kind"]), int(o["order_id"])) for o in stage.orders()] == [(2, 1), (2, 2)]
    stage.report(1, kind=ReportKind.CANCELLED, final=1)
    stage.poll()
    assert stage.orders() == []
    stage.book(0, 6_000_010, 6_000_012)
    stage.poll()
    (order,) = stage.orders()
    assert (order["side"], order["price_ticks"], order["origin"]) == (Side.BUY, 6_000_010, Origin.MARKET_DATA)


def test_market_maker_leans_against_its_position_and_stops_at_its_limit(market_maker: Any) -> None:
    stage = Stage(market_maker, position_quote=1_000, order_quote=1_000, skew_ticks=10)
    stage.book(0, 6_000_000, 6_000_010)
    stage.poll()
    bid, ask = stage.orders()
    stage.report(1, kind=ReportKind.FILLED, cumulative_lots=int(bid["quantity_lots"]), final=1)
    stage.book(0, 6_000_000, 6_000_010)
    stage.poll()
    (request,) = stage.orders()  # no new bid: the position is full; the ask moves down by the skew
    assert (request["kind"], request["order_id"]) == (OrderKind.CANCEL, int(ask["order_id"]))
    stage.report(2, kind=ReportKind.CANCELLED, final=1)
    stage.book(0, 6_000_000, 6_000_010)
    stage.poll()
    (order,) = stage.orders()
    assert (order["side"], order["price_ticks"]) == (Side.SELL, 6_000_001)


def test_a_refusal_is_not_answered_by_the_same_order_at_once(market_maker: Any) -> None:
    stage = Stage(market_maker)
    stage.book(0, 6_000_000, 6_000_002)
    stage.poll()
    assert len(stage.orders()) == 2
    for order_id, kind in ((1, ReportKind.DENIED), (2, ReportKind.REJECTED)):
        stage.report(order_id, kind=kind, final=1)
    stage.poll()
    assert stage.orders() == []
    stage.book(0, 6_000_000, 6_000_002)
    stage.poll()
    assert len(stage.orders()) == 2


def test_an_invalid_book_pulls_the_quotes(market_maker: Any) -> None:
    stage = Stage(market_maker)
    stage.book(0, 6_000_000, 6_000_002)
    stage.book(0, 6_000_000, 6_000_002, state=BookState.DIRTY)
    stage.poll()
    kinds = [int(order["kind"]) for order in stage.orders()]
    assert kinds == [OrderKind.NEW, OrderKind.NEW, OrderKind.CANCEL, OrderKind.CANCEL]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_market_maker_never_works_more_than_one_order_a_side_nor_beyond_its_limit(
    market_maker: Any, data: st.DataObject
) -> None:
    """An exchange in a dictionary fills, cancels and refuses at random."""
    stage = Stage(market_maker, order_quote=1_000, position_quote=3_000)
    live: dict[int, tuple[int, int, int]] = {}  # id: side, lots, filled
    cancelling: set[int] = set()
    position = 0
    middle = 6_000_000
    for _ in range(data.draw(st.integers(1, 25))):
        middle += data.draw(st.integers(-5, 5))
        stage.book(0, middle, middle + data.draw(st.integers(1, 4)))
        stage.poll()
        for order in stage.orders():
            if order["kind"] == OrderKind.CANCEL:
                cancelling.add(int(order["order_id"]))  # it may have ended meanwhile, the report unread
            else:
                live[int(order["order_id"])] = (int(order["side"]), int(order["quantity_lots"]), 0)
        for side in (0, 1):
            assert sum(mine[0] == side for mine in live.values()) <= 1
        for order_id, (side, lots, filled) in list(live.items()):
            event = data.draw(st.sampled_from(["none", "part", "fill", "end"]))
            if event == "end" and order_id in cancelling:
                stage.report(order_id, kind=ReportKind.CANCELLED, cumulative_lots=filled, final=1)
                del live[order_id]
            elif event in ("part", "fill") and filled < lots:
                step = lots - filled if event == "fill" else data.draw(st.integers(1, lots - filled))
                filled += step
                position += step if side == 0 else -step
                is_final = filled == lots
                stage.report(order_id, kind=ReportKind.FILLED, cumulative_lots=filled, final=is_final)
                live[order_id] = (side, lots, filled)
                if is_final:
                    del live[order_id]
    stage.poll()
    assert stage.agent.context.positions[0] == position
    assert abs(position) <= 3_000 * 10**5 // 59_000  # the limit in lots, at the lowest price drawn


def test_a_fill_told_after_the_orders_end_still_moves_the_position(spread: Any) -> None:
    stage = Stage(spread)
    stage.book(1, 250_000, 250_010)
    stage.poll()
    stage.report(1, kind=ReportKind.REJECTED, final=1, symbol=1)
    stage.report(1, kind=ReportKind.FILLED, cumulative_lots=3, final=1, symbol=1)
    stage.report(1, kind=ReportKind.FILLED, cumulative_lots=3, final=1, symbol=1)
    stage.poll()
    context = stage.agent.context
    assert [int(context.positions[1]), int(context.working_buys[1]), int(context.orders[1]["status"])] == [3, 0, 0]
    assert stage.count("reports_unmatched") == 1
