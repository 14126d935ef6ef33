"""The strategy stage: hosts one strategy, compiled into the line's own poll (see `compose`)."""

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shm import adopt, ring
from shm.atomics import peek
from shm.clock import CLOCK_WORDS
from shm.control import State
from shm.counters import Counter
from shm.histogram import HISTOGRAM_BYTES
from shm.layout import bytes_at, record_at
from shm.ring import cursors
from shm.segment import Segment
from stages.agent import Agent, Array, Attention, ColdKernel, Hop, SegmentUse
from stages.domain.edges import BOOK_TO_STRATEGY, RISK_TO_STRATEGY, STRATEGY_TO_RISK, edges
from stages.domain.messages import NOTICE, ORDER, REPORT, OrderKind, Origin, Side
from stages.domain.orders import ORDER_SLOTS, SLOT_MASK
from stages.domain.samples import new_samples
from stages.strategy.api import CANCELLING, FREE, ORDER_VIEW, PENDING
from stages.strategy.kernel import ENGINE, Context
from stages.strategy.loader import Strategy, parameter_values
from stages.strategy.settings import StrategySettings

log = logging.getLogger(__name__)

NO_SEQ = 2**62
"""Beyond every seq and order id."""
NOTICE_SEQ = int(NOTICE.fields["seq"][1])  # type: ignore[index]  # it has fields
REPORT_SEQ = int(REPORT.fields["seq"][1])  # type: ignore[index]


class StrategyAgent(Agent):
    """Feeds notices and reports to `strategy`, and its orders to risk.

    Raises StrategyError when `settings.parameters` do not suit the strategy.
    """

    name = "strategy"
    counters = (
        Counter("messages_in", "Notices and reports consumed", "messages"),
        Counter("messages_out", "Orders and cancels published", "orders"),
        Counter("notices", "Notices of the book consumed", "notices"),
        Counter("reports", "Reports of our orders consumed", "reports"),
        Counter("reports_unmatched", "Reports of orders that had ended or were never placed", "reports"),
        Counter("submitted", "New orders asked for", "orders"),
        Counter("cancels_submitted", "Cancels asked for", "cancels"),
        Counter("busy", "Orders and cancels not taken because the ring to risk or the order table was full", "orders"),
        Counter("fills", "Reports that brought a fill", "reports"),
        Counter("position_differences", "Positions risk told otherwise than held here; stays 0", "positions"),
        Counter("backpressure", "Polls in which a notice waited for room in the ring to risk (replays)", "polls"),
    )
    hops = (Hop("book>strategy"), Hop("strategy.decide", 1_000))

    def __init__(
        self, instruments: NDArray[np.void], settings: StrategySettings, strategy: Strategy, delivery: str
    ) -> None:
        self.strategy = strategy
        self._symbols = len(instruments)
        page = np.zeros(1, self.page())
        self.context = Context(
            engine=np.zeros(1, ENGINE),
            clock=np.zeros(CLOCK_WORDS, np.int64),
            counters=page["counters"],
            samples=new_samples(),
            notice=np.zeros(1, NOTICE),
            report=np.zeros(1, REPORT),
            outgoing=np.zeros(1, ORDER),
            positions=np.zeros(self._symbols, np.int64),
            working_buys=np.zeros(self._symbols, np.int64),
            working_sells=np.zeros(self._symbols, np.int64),
            orders=np.zeros(ORDER_SLOTS, ORDER_VIEW),
            parameters=parameter_values(strategy, settings.parameters),
            instruments=instruments.copy(),
            state=np.zeros(self._symbols, strategy.state_dtype),
        )
        engine = self.context.engine[0]
        engine["is_deciding"] = 1
        engine["is_every"] = delivery == "every"

    def cold_kernels(self) -> list[ColdKernel]:
        return [adopt.COLD_KERNEL]

    @property
    def source(self) -> str:
        return str(self.strategy.path)

    def rehearse_every(self, interval_ns: int, *, has_twin: bool) -> None:
        self.context.engine[0]["warming_interval_ns"] = interval_ns

    def uses(self) -> list[SegmentUse]:
        layouts = edges(self._symbols)
        rings = (BOOK_TO_STRATEGY, RISK_TO_STRATEGY, STRATEGY_TO_RISK)
        return [SegmentUse(name, layouts[name], True) for name in rings]

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        self.context = self.context._replace(counters=page["counters"], clock=clock)
        engine = self.context.engine[0]
        engine["notices_in"] = segments[BOOK_TO_STRATEGY].address
        engine["reports_in"] = segments[RISK_TO_STRATEGY].address
        engine["orders_out"] = segments[STRATEGY_TO_RISK].address
        engine["transport_hop"] = page["hops"].ctypes.data
        engine["decide_hop"] = page["hops"].ctypes.data + HISTOGRAM_BYTES
        for name in ("notice", "report", "outgoing"):
            engine[name] = getattr(self.context, name).ctypes.data
        ring.begin_reading(int(engine["notices_in"]))
        engine["epoch"] = ring.begin_reading(int(engine["reports_in"]))
        if ring.begin_writing(int(engine["orders_out"])) > 1:
            self._go_on()

    def _go_on(self) -> None:
        """An earlier process of this stage was killed: its orders are taken over, it starts from the newest state.

        Risk tells what it has judged and the positions; what it has not judged yet stands in the ring to it. The book
        tells the newest state of every symbol, so what it told before is left out (but with delivery "every").
        """
        engine = self.context.engine[0]
        engine["is_rebuilding"] = 1
        adopted = 0
        if last := ring.newest(int(engine["orders_out"])):
            order = record_at(last, ORDER)
            engine["order_seq"] = order["seq"]
            if order["origin"] == Origin.REPORT:
                adopted = adopt.skip(int(engine["reports_in"]), REPORT_SEQ, int(order["cause_seq"]))
            elif order["origin"] == Origin.MARKET_DATA:
                adopted = adopt.skip(int(engine["notices_in"]), NOTICE_SEQ, int(order["cause_seq"]))
        if not engine["is_every"]:
            adopt.skip(int(engine["notices_in"]), NOTICE_SEQ, NO_SEQ)
        under_way = self._restore_sent()
        log.warning("going on for an earlier strategy: %d orders under way, %d inputs adopted", under_way, adopted)

    def _restore_sent(self) -> int:
        """Take the orders in the ring to risk into the view; returns how many. No id in the ring is ever used again.

        Risk goes on judging them meanwhile: what it has judged it tells, after the news of it.
        """
        engine = self.context.engine[0]
        base = int(engine["orders_out"])
        head, tail = cursors(base)
        count = 0
        slots = np.frombuffer(bytes_at(base + ring.RECORDS, peek(base + ring.CAPACITY) * ORDER.itemsize), ORDER)
        engine["last_order_id"] = max(engine["last_order_id"], slots["order_id"].max())  # one by one: 20 ms
        for number in range(head, tail):
            sent = record_at(ring.slot_address(base, number), ORDER)
            order = self.context.orders[int(sent["order_id"]) & SLOT_MASK]
            count += 1
            if sent["kind"] == OrderKind.NEW:
                for name in ("order_id", "symbol", "side", "price_ticks", "quantity_lots"):
                    order[name] = sent[name]
                order["leaves_lots"], order["cumulative_lots"] = sent["quantity_lots"], 0
                works = self.context.working_buys if sent["side"] == Side.BUY else self.context.working_sells
                works[int(sent["symbol"])] += sent["quantity_lots"]
                order["status"] = PENDING
            elif order["order_id"] == sent["order_id"]:
                order["status"] = CANCELLING
        return count

    def is_synced(self) -> bool:
        return not self.context.engine[0]["is_rebuilding"]

    def start(self, attention: Attention) -> None:
        values = ", ".join(
            f"{name}={value}" for name, value in zip(self.strategy.parameters, self.context.parameters, strict=False)
        )
        log.info("%s: %s", self.strategy.path, values or "no parameters")

    def state(self) -> State:
        if self.context.engine[0]["is_deciding"] or (self.context.orders["status"] != FREE).any():
            return State.RUNNING
        return State.QUIET

    def quiesce(self) -> None:
        """Decide nothing from now on, and cancel what works; notices and reports are still consumed."""
        engine = self.context.engine[0]
        engine["is_deciding"] = 0
        engine["unwanted_id"] = NO_SEQ

    def give_up(self) -> None:
        """What a handler that raised had asked for is not sent."""
        self.context.engine[0]["pending"] = 0
        self.quiesce()

    def idle_input(self) -> bool:
        engine = self.context.engine[0]
        for address in (int(engine["notices_in"]), int(engine["reports_in"])):
            head, tail = cursors(address)
            if head != tail:
                return False
        return True
