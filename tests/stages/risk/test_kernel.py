"""The risk kernel against the oracle, over random sequences of markets, orders and reports; and its ring discipline."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm import ring
from shm.clock import calibrate
from stages.domain.edges import BBO_TABLE, RISK_TO_ROUTER, RISK_TO_STRATEGY, ROUTER_TO_RISK, STRATEGY_TO_RISK
from stages.domain.messages import BBO, ORDER, REPORT, BookState, OrderKind, Reason, ReportKind
from stages.risk.agent import RiskAgent
from stages.risk.check import basis_points_of, exceeds
from stages.risk.kernel import poll_once
from stages.risk.settings import RiskSettings, SymbolLimits
from tests.oracle import risk as oracle
from tests.stages.private_memory import PrivateSegments, attach, instruments

from shm.kernel import kernel  # isort: skip

CLOCK = calibrate(0.002)
SETTINGS = RiskSettings(
    order_notional_quote_max=2_000,
    position_notional_quote_max=5_000,
    collar_bps=50,
    market_data_age_ms_max=10,
    open_orders_max=4,
    order_rate_max=5,
    order_rate_window_ms=3,
    symbols={"ETHUSDT": SymbolLimits(order_quantity_max="0.5", order_notional_quote_min=50, collar_bps=200)},
)


class Line:
    """A risk agent between private rings."""

    def __init__(self, limits: RiskSettings = SETTINGS, delivery: str = "conflate", **capacities: int) -> None:
        self.agent = RiskAgent(instruments(), limits, delivery)
        names = {name.replace("_", "-"): capacity for name, capacity in capacities.items()}
        self.segments = PrivateSegments([self.agent], names)
        self.page = attach(self.agent, self.segments, CLOCK)
        self.seq = 0

    def market(self, symbol: int, bid: int, ask: int, read_ns: int, **fields: int) -> None:
        row = np.zeros(1, BBO)
        row["bid_price"], row["ask_price"], row["read_ns"] = bid, ask, read_ns
        row["bid_quantity"] = row["ask_quantity"] = 10**8
        row["state"] = BookState.VALID
        for name, value in fields.items():
            row[name] = value
        self.segments.write_row(BBO_TABLE, symbol, row)

    def order(self, **fields: Any) -> None:
        record = np.zeros(1, ORDER)
        self.seq += 1
        values = {"kind": OrderKind.NEW, "order_type": 1, "time_in_force": 1, "seq": self.seq, "read_ns": 7} | fields
        for name, value in values.items():
            record[name] = value
        assert self.segments.push(STRATEGY_TO_RISK, record)

    def report(self, **fields: Any) -> None:
        record = np.zeros(1, REPORT)
        self.seq += 1
        for name, value in ({"kind": ReportKind.FILLED, "seq": self.seq} | fields).items():
            record[name] = value
        assert self.segments.push(ROUTER_TO_RISK, record)

    def poll(self, now_ns: int = 0) -> int:
        return int(poll_once(self.agent.context, now_ns))

    def forwarded(self) -> list[np.void]:
        return self.segments.pop_all(RISK_TO_ROUTER, ORDER)

    def answers(self) -> list[np.void]:
        return self.segments.pop_all(RISK_TO_STRATEGY, REPORT)

    def count(self, name: str) -> int:
        return int(self.page["counters"][name][0])


def oracle_of(line: Line) -> oracle.Risk:
    rows = line.agent.context.limits
    fields = oracle.Limits.__dataclass_fields__
    return oracle.Risk(
        limits={index: oracle.Limits(**{name: int(row[name]) for name in fields}) for index, row in enumerate(rows)},
        markets={0: oracle.Market(), 1: oracle.Market()},
        age_ns_max=10_000_000,
        rate_max=5,
        rate_window_ns=3_000_000,
    )


BIDS = {0: 60_000 * 10**8, 1: 2_500 * 10**8}
TICK = 10**6

markets = st.tuples(
    st.just("market"),
    st.integers(0, 1),
    st.integers(-3, 3),  # ticks the bid moves
    st.integers(-1, 200),  # spread in ticks
    st.sampled_from([BookState.VALID] * 6 + [BookState.DIRTY, BookState.EMPTY, BookState.STALE, BookState.HALTED]),
    st.sampled_from([10**8, 10**8, 10**8, 0]),
)
orders = st.tuples(
    st.just("order"),
    st.sampled_from([1, 1, 1, 1, 1, 1, 2, 500, 0]),  # id step
    st.sampled_from([0, 0, 1, 1, 2]),
    st.sampled_from([0, 0, 0, 1, 1, 1, 2]),
    st.sampled_from([1, 1, 1, 1, 2, 3, 0, 4]),
    st.sampled_from([1, 1, 1, 2, 3, 0]),
    st.one_of(st.integers(-60, 60), st.integers(-40_000, 40_000), st.sampled_from([-(2**62), 2**62, 2**63 - 2**40])),
    st.one_of(st.integers(0, 4_000), st.sampled_from([2**31, 2**62, 2**63 - 1])),
)
reports = st.tuples(st.just("report"), st.integers(0, 20), st.integers(0, 4_000), st.booleans())
waits = st.tuples(st.just("wait"), st.sampled_from([1_000, 700_000, 2_999_999, 3_000_000, 11_000_000]))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(markets, orders, orders, orders, reports, waits), max_size=80))
def test_every_verdict_is_the_oracles_and_so_is_the_view(steps: list[tuple[Any, ...]]) -> None:
    line = Line()
    expected = oracle_of(line)
    now_ns, order_id = 10**9, 0
    for symbol, bid in BIDS.items():
        line.market(symbol, bid, bid + TICK, now_ns)
        expected.markets[symbol] = oracle.Market(bid, 10**8, bid + TICK, 10**8, now_ns, BookState.VALID, True)
    for step in steps:
        if step[0] == "wait":
            now_ns += step[1]
        elif step[0] == "market":
            _, symbol, move, spread, state, quantity = step
            bid = BIDS[symbol] + move * TICK
            line.market(symbol, bid, bid + spread * TICK, now_ns, state=state, ask_quantity=quantity)
            expected.markets[symbol] = oracle.Market(bid, 10**8, bid + spread * TICK, quantity, now_ns, state, True)
        elif step[0] == "order":
            _, id_step, symbol, side, kind, tif, offset, lots = step
            order_id += id_step
            price = min(BIDS.get(symbol, 0) // TICK + offset, 2**63 - 1) if kind != 3 or offset > 50 else 0
            line.order(
                order_id=order_id, symbol=symbol, side=side, order_type=kind, time_in_force=tif,
                price_ticks=price, quantity_lots=lots,
            )  # fmt: skip
            reason = expected.judge(oracle.Order(order_id, symbol, side, kind, tif, price, lots), now_ns)
            line.poll(now_ns)
            if reason == Reason.NONE:
                (forwarded,) = line.forwarded()
                assert forwarded["order_id"] == order_id
                assert forwarded["cause_seq"] == line.seq
                assert line.answers() == []
            else:
                (answer,) = line.answers()
                assert Reason(int(answer["reason"])) == reason
                assert (answer["kind"], answer["final"]) == (ReportKind.DENIED, 1)
                assert line.forwarded() == []
        else:
            _, nth, cumulative, final = step
            told = expected.open | {order.order_id: order for order in expected.ended.values()}
            if told:
                known = sorted(told)[nth % len(told)]
                cumulative = min(cumulative, told[known].lots)
                line.report(order_id=known, cumulative_lots=cumulative, final=final)
                expected.report(known, cumulative, final)
                line.poll(now_ns)
                assert len(line.answers()) == 1
        for symbol in BIDS:
            view = line.agent.context.exposures[symbol]
            assert view["position_lots"] == expected.positions.get(symbol, 0)
            assert view["working_buy_lots"] == expected.working(symbol, 0)
            assert view["working_sell_lots"] == expected.working(symbol, 1)
            assert view["open_orders"] == sum(o.symbol == symbol for o in expected.open.values())


@kernel
def product_exceeds(a: int, b: int, limit: int) -> bool:
    return exceeds(a, b, limit)


@kernel
def share(price: int, bps: int) -> int:
    return basis_points_of(price, bps)


words = st.one_of(st.integers(0, 2**63 - 1), st.sampled_from([2**k for k in range(63)]), st.integers(0, 100))


@settings(deadline=None)
@given(words, words, st.one_of(st.integers(0, 2**62), st.just(2**62)))
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_product_beyond_64_bits_still_compares_exactly(a: int, b: int, limit: int) -> None:
    assert bool(product_exceeds(np.int64(a), np.int64(b), np.int64(limit))) == (a * b > limit)


@settings(deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 10_000))
def test_basis_points_round_down_exactly(price: int, bps: int) -> None:
    assert share(price, bps) == price * bps // 10_000


def test_a_denial_keeps_the_read_stamp_and_names_the_order() -> None:
    line = Line()
    line.order(order_id=1, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=10, read_ns=1234)
    line.poll()
    (answer,) = line.answers()
    assert answer["reason"] == Reason.MARKET_DATA_INVALID  # no market was ever published: fail closed
    assert (answer["order_id"], answer["read_ns"], answer["seq"], answer["cause_seq"]) == (1, 1234, 1, 1)
    assert line.count("denied_by_risk") == 1


def test_a_cancel_passes_when_the_order_works_and_is_refused_when_it_does_not() -> None:
    line = Line()
    line.market(0, BIDS[0], BIDS[0] + TICK, 0)
    line.order(order_id=1, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.order(order_id=1, symbol=0, side=0, kind=OrderKind.CANCEL)
    line.order(order_id=2, symbol=0, side=0, kind=OrderKind.CANCEL)
    line.poll()
    assert [int(order["kind"]) for order in line.forwarded()] == [OrderKind.NEW, OrderKind.CANCEL]
    (answer,) = line.answers()
    assert (answer["kind"], answer["reason"], answer["final"]) == (
        ReportKind.CANCEL_REJECTED,
        Reason.UNKNOWN_ORDER,
        0,
    )


def test_a_halt_denies_new_orders_and_lets_cancels_pass() -> None:
    line = Line()
    line.market(0, BIDS[0], BIDS[0] + TICK, 0)
    line.order(order_id=1, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.poll()
    line.market(0, BIDS[0], BIDS[0] + TICK, 0, state=BookState.HALTED)
    line.order(order_id=1, symbol=0, side=0, kind=OrderKind.CANCEL)
    line.order(order_id=2, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.poll()
    assert [int(order["kind"]) for order in line.forwarded()] == [OrderKind.NEW, OrderKind.CANCEL]
    (answer,) = line.answers()
    assert (answer["kind"], answer["reason"]) == (ReportKind.DENIED, Reason.TRADING_HALTED)


def test_cancels_pass_when_trading_is_stopped_and_the_rate_is_used_up() -> None:
    line = Line(SETTINGS.model_copy(update={"order_rate_max": 1}))
    line.market(0, BIDS[0], BIDS[0] + TICK, 0)
    line.order(order_id=1, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.order(order_id=2, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.poll()
    line.agent.quiesce()
    line.order(order_id=3, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.order(order_id=1, symbol=0, side=0, kind=OrderKind.CANCEL)
    line.poll()
    assert [int(order["kind"]) for order in line.forwarded()] == [OrderKind.NEW, OrderKind.CANCEL]
    assert [int(a["reason"]) for a in line.answers()] == [Reason.ORDER_RATE_EXCEEDED, Reason.TRADING_STOPPED]


def test_an_order_waits_while_either_output_is_full() -> None:
    line = Line(risk_strategy=1)
    line.order(order_id=1, symbol=0, side=0, price_ticks=1, quantity_lots=1)
    line.order(order_id=2, symbol=0, side=0, price_ticks=1, quantity_lots=1)
    assert line.poll() == 1
    assert line.segments.unread(STRATEGY_TO_RISK) == 1
    assert len(line.answers()) == 1
    assert line.poll() == 1
    assert line.count("backpressure") == 1


def test_a_report_waits_while_the_strategy_has_no_room_and_none_is_lost() -> None:
    line = Line(risk_strategy=2)
    for order_id in range(1, 6):
        line.report(order_id=order_id)
    taken: list[int] = []
    while len(taken) < 5:
        line.poll()
        taken += [int(report["order_id"]) for report in line.answers()]
    assert taken == [1, 2, 3, 4, 5]
    assert line.count("reports_unmatched") == 5


def test_a_poll_that_finds_a_new_strategy_leaves_work_to_the_next_one_and_says_so() -> None:
    line = Line()
    assert line.poll() == 0
    ring.begin_reading(line.segments[RISK_TO_STRATEGY].address)
    assert line.poll() > 0, "nobody will ring for what the next poll has to tell"
    while line.poll():
        pass
    assert line.answers()[-1]["kind"] == ReportKind.STATE_END


def test_a_replay_at_full_speed_does_not_judge_by_age() -> None:
    line = Line(delivery="every")
    line.market(0, BIDS[0], BIDS[0] + TICK, 0)
    line.order(order_id=1, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.poll(10**15)
    assert len(line.forwarded()) == 1


def test_a_symbol_without_limits_is_denied() -> None:
    line = Line(RiskSettings(use_defaults=False, symbols={"ETHUSDT": SymbolLimits()}))
    line.market(0, BIDS[0], BIDS[0] + TICK, 0)
    line.order(order_id=1, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.poll()
    assert [int(answer["reason"]) for answer in line.answers()] == [Reason.NO_LIMIT_CONFIGURED]


def test_a_fill_told_after_the_orders_end_still_moves_the_position() -> None:
    line = Line()
    line.market(0, BIDS[0], BIDS[0] + TICK, 0)
    line.order(order_id=1, symbol=0, side=0, price_ticks=6_000_000, quantity_lots=100)
    line.poll()
    line.report(order_id=1, kind=ReportKind.REJECTED, final=1)
    line.report(order_id=1, cumulative_lots=40, final=1)
    line.report(order_id=1, cumulative_lots=40, final=1)
    line.poll()
    view = line.agent.context.exposures[0]
    assert [int(view[name]) for name in ("position_lots", "working_buy_lots", "open_orders")] == [40, 0, 0]
    assert line.count("reports_unmatched") == 1
    line.order(order_id=1, symbol=0, side=0, kind=OrderKind.CANCEL)
    line.poll()
    assert [int(answer["reason"]) for answer in line.answers()][-1] == Reason.UNKNOWN_ORDER


def test_a_sell_far_below_the_bid_is_judged_by_what_it_trades_at() -> None:
    line = Line(SETTINGS.model_copy(update={"collar_bps": 10_000}))
    line.market(0, BIDS[0], BIDS[0] + TICK, 0)
    line.order(order_id=1, symbol=0, side=1, price_ticks=600_000, quantity_lots=10_000)  # 0.1 BTC at a tenth of the bid
    line.poll()
    line.order(order_id=2, symbol=0, side=1, price_ticks=600_000, quantity_lots=3_000)
    line.order(order_id=3, symbol=0, side=1, price_ticks=600_000, quantity_lots=3_000)
    line.order(order_id=4, symbol=0, side=1, price_ticks=600_000, quantity_lots=3_000)
    line.poll()
    assert [int(answer["reason"]) for answer in line.answers()] == [
        Reason.NOTIONAL_EXCEEDS_MAXIMUM,
        Reason.POSITION_EXCEEDS_MAXIMUM,
    ]
    assert [int(order["order_id"]) for order in line.forwarded()] == [2, 3]
