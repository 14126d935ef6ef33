"""The strategy stage: hosts one strategy, compiled into the line's own poll (see `compose`)."""

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shm.clock import CLOCK_WORDS
from shm.control import State
from shm.counters import Counter
from shm.histogram import HISTOGRAM_BYTES
from shm.ring import cursors
from shm.segment import Segment
from stages.agent import Agent, Array, Attention, Hop, SegmentUse
from stages.domain.edges import BOOK_TO_STRATEGY, RISK_TO_STRATEGY, STRATEGY_TO_RISK, edges
from stages.domain.messages import NOTICE, ORDER, REPORT
from stages.domain.orders import ORDER_SLOTS
from stages.domain.samples import new_samples
from stages.strategy.api import ORDER_VIEW
from stages.strategy.kernel import ENGINE, Context
from stages.strategy.loader import Strategy, parameter_values
from stages.strategy.settings import StrategySettings

log = logging.getLogger(__name__)


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

    def start(self, attention: Attention) -> None:
        values = ", ".join(
            f"{name}={value}" for name, value in zip(self.strategy.parameters, self.context.parameters, strict=False)
        )
        log.info("%s: %s", self.strategy.path, values or "no parameters")

    def state(self) -> State:
        is_deciding = bool(self.context.engine[0]["is_deciding"])
        return State.RUNNING if is_deciding else State.QUIET

    def quiesce(self) -> None:
        """Decide nothing from now on; notices and reports are still consumed, so that nobody waits for this stage."""
        self.context.engine[0]["is_deciding"] = 0

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
