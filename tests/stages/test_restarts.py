"""Strategy and risk, killed between any two polls, over a router that keeps the truth: every view equal in the end.

The router here is a dictionary: it takes orders, fills and cancels them at random, and tells its state to a reader that
starts anew, as `stages.router` does. A stage dies by being replaced; one killed between its publication and the
consumption of the input is one whose ring's head stands one record back.
"""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm import ring
from shm.atomics import peek, poke
from shm.clock import calibrate
from shm.layout import record_at
from stages.domain.edges import (
    BBO_TABLE,
    BOOK_TO_STRATEGY,
    RISK_TO_ROUTER,
    RISK_TO_STRATEGY,
    ROUTER_TO_RISK,
    STRATEGY_TO_RISK,
)
from stages.domain.messages import (
    BBO,
    NOTICE,
    ORDER,
    REPORT,
    BookState,
    NoticeKind,
    OrderKind,
    Reason,
    ReportKind,
    ReportOrigin,
    Side,
)
from stages.risk.agent import RiskAgent
from stages.risk.kernel import poll_once as poll_risk
from stages.risk.settings import RiskSettings
from stages.strategy.agent import StrategyAgent
from stages.strategy.api import FREE
from stages.strategy.settings import StrategySettings
from tests.stages.private_memory import PrivateSegments, attach, instruments, pop
from tests.stages.strategy.support import compose

CLOCK = calibrate(0.002)
TICK = 10**6
BID = 6_000_000
LIMITS = RiskSettings(order_rate_max=10_000, order_notional_quote_max=100_000, position_notional_quote_max=10_000_000)


@pytest.fixture(scope="module", params=["market_maker", "spread"])
def module(request: pytest.FixtureRequest) -> Any:
    return compose(request.param)


@dataclass
class Resting:
    """An order as the router has it."""

    record: np.void
    cumulative: int = 0
    is_open: bool = True

    @property
    def leaves(self) -> int:
        return int(self.record["quantity_lots"]) - self.cumulative if self.is_open else 0


class Triangle:
    """Strategy, risk and the router's stand-in, over rings of their own."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.strategy, self.risk = self._new_strategy(), self._new_risk()
        self.segments = PrivateSegments([self.strategy, self.risk], {STRATEGY_TO_RISK: 64, RISK_TO_ROUTER: 64})
        attach(self.strategy, self.segments, CLOCK)
        attach(self.risk, self.segments, CLOCK)
        self.orders: dict[int, Resting] = {}
        self.positions = [0, 0]
        self.seq = self.notice_seq = 0
        self.told_epoch = 1
        self.set_market(BID, 10)

    def _new_strategy(self) -> StrategyAgent:
        return StrategyAgent(instruments(), StrategySettings(), self.module.STRATEGY, "conflate")

    def _new_risk(self) -> RiskAgent:
        return RiskAgent(instruments(), LIMITS, "every")

    # -- what happens

    def set_market(self, bid: int, spread: int) -> None:
        self.bid, self.ask = bid, bid + spread
        for symbol in (0, 1):
            row = np.zeros(1, BBO)
            row["bid_price"], row["ask_price"] = self.bid * TICK, self.ask * TICK
            row["bid_quantity"] = row["ask_quantity"] = 10**8
            row["state"] = BookState.VALID
            self.segments.write_row(BBO_TABLE, symbol, row)

    def tick(self, symbol: int) -> None:
        record = np.zeros(1, NOTICE)
        self.notice_seq += 1
        record["kind"], record["state"], record["symbol"] = NoticeKind.BOOK, BookState.VALID, symbol
        record["bid_price"], record["ask_price"] = self.bid * TICK, self.ask * TICK
        record["bid_quantity"] = record["ask_quantity"] = 10**8
        record["seq"] = self.notice_seq
        self.segments.push(BOOK_TO_STRATEGY, record)

    def run_strategy(self) -> int:
        return int(self.module.poll_once(self.strategy.context, 0))

    def run_risk(self) -> int:
        return int(poll_risk(self.risk.context, 0))

    def kill_strategy(self) -> None:
        self.strategy = self._new_strategy()
        attach(self.strategy, self.segments, CLOCK)

    def kill_risk(self) -> None:
        self.risk = self._new_risk()
        attach(self.risk, self.segments, CLOCK)

    def unconsume(self, name: str, outputs: tuple[str, ...]) -> None:
        """As killed after publishing the outcome of the newest input and before consuming it, if there was one."""
        head = self.segments[name].address + ring.HEAD
        if peek(head) == 0:
            return
        dtype = ORDER if name == STRATEGY_TO_RISK else REPORT
        last = self._record(name, peek(head) - 1, dtype)
        for output in outputs:
            base = self.segments[output].address
            if peek(base + ring.TAIL) == 0:
                continue
            out = self._record(output, peek(base + ring.TAIL) - 1, ORDER if output == RISK_TO_ROUTER else REPORT)
            is_of_order = output == RISK_TO_ROUTER or out["origin"] == ReportOrigin.RISK
            if out["cause_seq"] == last["seq"] and is_of_order == (name == STRATEGY_TO_RISK):
                poke(head, peek(head) - 1)
                return

    def _record(self, name: str, number: int, dtype: np.dtype) -> np.void:
        address = ring.slot_address(self.segments[name].address, number)
        return record_at(address, dtype)

    # -- the router's stand-in

    def _say(self, kind: ReportKind, order: Resting | None = None, **fields: int) -> None:
        record = np.zeros(1, REPORT)
        self.seq += 1
        record["kind"], record["seq"] = kind, self.seq
        if order is not None:
            for name in ("order_id", "side", "symbol", "price_ticks"):
                record[name] = order.record[name]
            record["cumulative_lots"], record["leaves_lots"] = order.cumulative, order.leaves
            record["final"] = not order.is_open
        for name, value in fields.items():
            record[name] = value
        assert self.segments.push(ROUTER_TO_RISK, record)

    def take_order(self) -> None:
        record = np.zeros(1, ORDER)
        if not pop(self.segments[RISK_TO_ROUTER].address, record.ctypes.data):
            return
        order_id = int(record[0]["order_id"])
        if record[0]["kind"] == OrderKind.NEW:
            assert order_id not in self.orders, f"order {order_id} came twice"
            self.orders[order_id] = Resting(record[0].copy())
            self._say(ReportKind.ACKED, self.orders[order_id])
        elif (resting := self.orders[order_id]).is_open:
            resting.is_open = False
            self._say(ReportKind.CANCELLED, resting)
        else:
            self._say(ReportKind.CANCEL_REJECTED, resting, final=0, reason=Reason.UNKNOWN_ORDER)

    def fill(self, dice: random.Random) -> None:
        resting = [order for order in self.orders.values() if order.is_open]
        if not resting:
            return
        order = dice.choice(resting)
        lots = dice.randint(1, order.leaves)
        order.cumulative += lots
        symbol = int(order.record["symbol"])
        self.positions[symbol] += lots if order.record["side"] == Side.BUY else -lots
        order.is_open = order.leaves > 0
        self._say(ReportKind.FILLED, order, last_quantity_lots=lots)

    def tell(self) -> None:
        epoch = peek(self.segments[ROUTER_TO_RISK].address + ring.READER_EPOCH)
        if epoch == self.told_epoch:
            return
        self.told_epoch = epoch
        for order in self.orders.values():
            kind = ReportKind.WORKING if order.is_open else ReportKind.CANCELLED
            self._say(kind, order, origin=ReportOrigin.RETOLD)
        for symbol, held in enumerate(self.positions):
            self._say(ReportKind.POSITION, symbol=symbol, cumulative_lots=held, origin=ReportOrigin.RETOLD)
        self._say(
            ReportKind.STATE_END, order_id=max(self.orders, default=0), execution_id=epoch, origin=ReportOrigin.RETOLD
        )

    # -- the end

    def settle(self) -> None:
        quiet = 0
        for _ in range(600):
            self.tell()
            self.take_order()
            handled = self.run_risk() + self.run_strategy()
            waiting = self.segments.unread(RISK_TO_ROUTER) + self.segments.unread(ROUTER_TO_RISK)
            quiet = 0 if handled or waiting else quiet + 1
            if quiet == 3:  # a stage sees in an idle poll that its reader is new, and tells it in the next
                return
        raise AssertionError("the line does not come to rest")

    def compare(self) -> None:
        risk, strategy = self.risk.context, self.strategy.context
        assert not risk.state[0]["is_rebuilding"]
        assert not strategy.engine[0]["is_rebuilding"]
        open_here = {order_id: order for order_id, order in self.orders.items() if order.is_open}
        working = {int(row["order_id"]): row for row in risk.working if row["is_open"]}
        assert {key: int(row["leaves_lots"]) for key, row in working.items()} == {
            key: order.leaves for key, order in open_here.items()
        }
        views = {int(row["order_id"]): row for row in strategy.orders if row["status"] != FREE}
        assert {key: int(row["leaves_lots"]) for key, row in views.items()} == {
            key: order.leaves for key, order in open_here.items()
        }
        assert [int(row["position_lots"]) for row in risk.exposures] == self.positions
        assert list(strategy.positions) == self.positions
        for symbol in (0, 1):
            for side, in_risk, in_strategy in (
                (Side.BUY, "working_buy_lots", strategy.working_buys),
                (Side.SELL, "working_sell_lots", strategy.working_sells),
            ):
                lots = sum(
                    order.leaves
                    for order in open_here.values()
                    if order.record["symbol"] == symbol and order.record["side"] == side
                )
                assert (int(risk.exposures[symbol][in_risk]), int(in_strategy[symbol])) == (lots, lots)
        assert int(risk.state[0]["open_orders"]) == len(open_here)


STEPS = ("tick", "tick", "strategy", "strategy", "risk", "risk", "take", "take", "fill", "tell", "market")
DEATHS = ("kill strategy", "kill risk", "kill risk late", "kill strategy late")


@settings(deadline=None, max_examples=120)
@given(st.integers(0, 2**32), st.integers(10, 150), st.floats(0.0, 0.2))
def test_whoever_is_killed_all_views_are_the_routers_in_the_end(
    module: Any, seed: int, steps: int, share_of_deaths: float
) -> None:
    dice = random.Random(seed)
    line = Triangle(module)
    for _ in range(steps):
        match dice.choice(DEATHS) if dice.random() < share_of_deaths else dice.choice(STEPS):
            case "tick":
                line.tick(dice.randint(0, 1))
            case "market":
                line.set_market(BID + dice.randint(-20, 20), dice.choice((1, 10)))
            case "strategy":
                line.run_strategy()
            case "risk":
                line.run_risk()
            case "take":
                line.take_order()
            case "fill":
                line.fill(dice)
            case "tell":
                line.tell()
            case "kill strategy":
                line.kill_strategy()
            case "kill risk":
                line.kill_risk()
            case "kill risk late":
                line.run_risk()
                line.unconsume(STRATEGY_TO_RISK, (RISK_TO_ROUTER, RISK_TO_STRATEGY))
                line.kill_risk()
            case "kill strategy late":
                line.run_strategy()
                line.kill_strategy()
    line.settle()
    line.compare()


def test_a_strategy_without_on_restart_has_its_orders_cancelled_and_trades_on() -> None:
    line = Triangle(compose("spread"))
    line.tick(0)
    line.settle()
    (first,) = line.orders
    line.kill_strategy()
    line.settle()
    assert not line.orders[first].is_open
    line.tick(0)
    line.settle()
    assert [order.is_open for order in line.orders.values()] == [False, True]
    line.compare()


def test_a_market_maker_takes_its_quotes_over() -> None:
    line = Triangle(compose("market_maker"))
    line.tick(0)
    line.settle()
    quotes = set(line.orders)
    line.kill_strategy()
    line.settle()
    line.tick(0)
    line.settle()
    assert {key for key, order in line.orders.items() if order.is_open} == quotes == set(line.orders)


def test_no_order_is_judged_before_a_new_risk_knows_all() -> None:
    line = Triangle(compose("market_maker"))
    line.kill_risk()
    line.tick(0)
    line.run_strategy()
    line.run_risk()
    assert line.segments.unread(RISK_TO_ROUTER) == 0
    line.settle()
    assert len(line.orders) == 2
