"""The router against the paper exchange, which is a process of its own behind real sockets."""

from collections.abc import Iterator

import pytest

from shm.control import State
from stages.domain.messages import OrderType, Reason, ReportKind, Side, TimeInForce
from tests.stages.router.support import Router, url, venue

BID, ASK = 5_990_000, 6_010_000
"""Ticks of BTCUSDT well below and well above the synthetic market, which opens at 60000.00."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with venue(seed=7) as (_, port):
        yield port


@pytest.fixture
def router(port: int) -> Iterator[Router]:
    router = Router(url(port), ask_again_ms=50).start()
    yield router
    router.close()


def test_an_order_is_acknowledged_and_cancelled_and_every_hop_is_measured(router: Router) -> None:
    router.order(1, Side.BUY, BID, 1_000)
    router.until(lambda: router.kinds(1))
    assert router.position(0)["open_orders"] == 1
    assert router.position(0)["working_buy_lots"] == 1_000
    router.cancel(1)
    router.until(lambda: router.final(1) is not None)
    assert router.kinds(1) == [ReportKind.ACKED, ReportKind.CANCELLED]
    assert router.position(0)["open_orders"] == router.position(0)["working_buy_lots"] == 0
    # Order and cancel; tick to trade and acknowledgement are of the order alone. Counted when the router is idle.
    router.until(lambda: [int(hop["total_count"]) for hop in router.page["hops"][0]] == [2, 2, 2, 1, 1])
    assert [int(report["seq"]) for report in router.reports] == [1, 2]


def test_fills_arrive_in_order_and_add_up_to_the_position(router: Router) -> None:
    router.order(1, Side.BUY, ASK, 50_000, time_in_force=TimeInForce.IOC)
    router.until(lambda: router.final(1) is not None)
    fills = [report for report in router.reports if report["kind"] == ReportKind.FILLED]
    assert len(fills) > 1  # 0.5 BTC is more than one resting order
    assert sum(int(fill["last_quantity_lots"]) for fill in fills) == int(fills[-1]["cumulative_lots"])
    router.order(2, Side.SELL, BID, int(fills[-1]["cumulative_lots"]), time_in_force=TimeInForce.IOC)
    router.until(lambda: router.final(2) is not None)
    position = router.position(0)
    assert position["quantity_lots"] == 0
    assert position["cost_quote"] == 0
    assert position["realized_quote"] < 0  # bought at the asks, sold at the bids
    assert position["fees_quote"] > 0  # 0.1 % of both, the buys' charged in BTC
    assert position["fees_unconverted"] == 0
    assert (router.count("filled"), router.count("fills_without_fee")) == (2, 0)


def test_a_partial_fill_leaves_the_rest_working() -> None:
    """Buy more than the whole book offers up to our price; the rest then stands as the best bid."""
    with venue() as (_, port):
        router = Router(url(port)).start()
        lots = 10_000_000
        router.order(1, Side.BUY, ASK, lots)
        router.until(lambda: ReportKind.FILLED in router.kinds(1))
        router.cancel(1)
        router.until(lambda: router.final(1) is not None)
        report = router.final(1)
        assert report is not None
        assert report["kind"] == ReportKind.CANCELLED
        assert 0 < report["cumulative_lots"] < lots
        assert router.position(0)["quantity_lots"] == report["cumulative_lots"]
        assert router.position(0)["working_buy_lots"] == 0
        router.close()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"side": Side.BUY, "price_ticks": BID, "lots": 1}, Reason.VENUE_FILTER),  # below the least notional
        (
            {"side": Side.BUY, "price_ticks": ASK, "lots": 1_000, "order_type": OrderType.LIMIT_MAKER},
            Reason.VENUE_WOULD_MATCH,
        ),
        ({"side": Side.SELL, "price_ticks": ASK, "lots": 12_000_000}, Reason.VENUE_INSUFFICIENT_BALANCE),  # 120 BTC
    ],
)
def test_the_venues_refusals_arrive_with_their_reason(router: Router, fields: dict[str, int], reason: Reason) -> None:
    router.order(1, **fields)
    router.until(lambda: router.final(1) is not None)
    report = router.final(1)
    assert report is not None
    assert (report["kind"], Reason(int(report["reason"]))) == (ReportKind.REJECTED, reason)
    assert report["venue_code"] < 0
    assert router.count("rejected_by_venue") == 1
    assert router.position(0)["open_orders"] == 0


def test_what_cannot_fill_at_once_expires(router: Router) -> None:
    router.order(1, Side.BUY, BID, 1_000, time_in_force=TimeInForce.FOK)
    router.until(lambda: router.final(1) is not None)
    assert router.kinds(1) == [ReportKind.ACKED, ReportKind.EXPIRED]


def test_a_cancel_of_an_order_that_has_ended_is_refused_here(router: Router) -> None:
    router.order(1, Side.BUY, BID, 1_000, time_in_force=TimeInForce.IOC)
    router.until(lambda: router.final(1) is not None)
    router.cancel(1)
    router.cancel(2)
    router.until(lambda: router.kinds(2))
    assert router.kinds(1)[-1] == router.kinds(2)[-1] == ReportKind.CANCEL_REJECTED


def test_a_cancel_may_follow_its_order_at_once(router: Router) -> None:
    router.order(1, Side.SELL, ASK, 1_000)
    router.cancel(1)
    router.until(lambda: router.final(1) is not None)
    assert router.kinds(1) == [ReportKind.ACKED, ReportKind.CANCELLED]


def test_a_market_order_fills(router: Router) -> None:
    router.order(1, Side.SELL, 0, 100, order_type=OrderType.MARKET)
    router.until(lambda: router.final(1) is not None)
    assert router.kinds(1)[-1] == ReportKind.FILLED
    assert router.position(0)["quantity_lots"] == -100


def test_quiescing_cancels_everything_refuses_the_rest_and_then_is_quiet(router: Router) -> None:
    for order_id in range(1, 31):
        router.order(order_id, Side.BUY, BID - order_id, 1_000, symbol=0)
    router.until(lambda: router.count("acked") == 30)
    assert router.agent.state() == State.RUNNING
    router.agent.quiesce()
    router.order(31, Side.BUY, BID, 1_000)
    router.until(lambda: router.agent.state() == State.QUIET)
    assert router.count("cancelled") == 30
    report = router.final(31)
    assert report is not None
    assert report["reason"] == Reason.TRADING_STOPPED


def test_a_lost_connection_leaves_orders_unknown_until_the_venue_has_said(router: Router) -> None:
    router.order(1, Side.BUY, BID, 1_000)
    router.order(2, Side.SELL, ASK, 1_000)
    router.until(lambda: router.count("acked") == 2)
    router.agent._give_up_connection("the test says so")
    router.order(3, Side.BUY, BID, 1_000)
    router.until(lambda: router.final(3) is not None)
    assert Reason(int(router.final(3)["reason"])) == Reason.NOT_CONNECTED  # type: ignore[index]
    router.until(lambda: router.count("became_unknown") == 2 and router.count("unknown") == 0)
    assert router.kinds(1) == [ReportKind.ACKED, ReportKind.UNKNOWN]
    router.cancel(1)
    router.cancel(2)
    router.until(lambda: router.final(1) is not None and router.final(2) is not None)
    assert router.kinds(1)[-1] == ReportKind.CANCELLED
    assert router.position(0)["open_orders"] == 0


def test_a_venue_that_comes_back_without_our_orders_ends_them() -> None:
    with venue() as (process, port):
        router = Router(url(port), backoff_ms_min=20, ask_again_ms=50, not_found_wait_ms=100).start()
        router.order(1, Side.BUY, BID, 1_000)
        router.until(lambda: router.count("acked") == 1)
        process.kill()
        process.wait()
        router.until(lambda: router.count("unknown") == 1)
    with venue(port=port):
        router.until(lambda: router.final(1) is not None)
        report = router.final(1)
        assert report is not None
        assert (report["kind"], report["reason"]) == (ReportKind.REJECTED, Reason.VENUE_UNKNOWN_ORDER)
        router.order(2, Side.BUY, BID, 1_000)
        router.until(lambda: ReportKind.ACKED in router.kinds(2))
        router.close()


def test_two_symbols_keep_their_books_apart(router: Router) -> None:
    router.order(1, Side.BUY, 250_500, 1_000, symbol=1, time_in_force=TimeInForce.IOC)
    router.order(2, Side.SELL, 0, 100, order_type=OrderType.MARKET)
    router.until(lambda: router.final(1) is not None and router.final(2) is not None)
    assert router.position(0)["quantity_lots"] == -100
    assert router.position(1)["quantity_lots"] > 0
