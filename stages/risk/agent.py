"""The risk stage: what it needs, what it counts, and its limits in words. The work is in `kernel` and `check`."""

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
from shm.layout import record_at
from shm.ring import cursors
from shm.segment import Segment
from shm.seqlock import row_bytes
from stages.agent import Agent, Array, Attention, ColdKernel, Hop, SegmentUse
from stages.domain.edges import (
    BBO_TABLE,
    RISK_TO_ROUTER,
    RISK_TO_STRATEGY,
    ROUTER_TO_RISK,
    STRATEGY_TO_RISK,
    edges,
)
from stages.domain.instruments import listing
from stages.domain.messages import (
    BBO,
    ORDER,
    REPORT,
    OrderKind,
    OrderType,
    Reason,
    ReportOrigin,
    Side,
    TimeInForce,
)
from stages.domain.orders import ORDER_SLOTS, SLOT_MASK
from stages.domain.samples import new_samples
from stages.risk.kernel import EXPOSURE, NOT_TELLING, STATE, WORKING, Context
from stages.risk.limits import limits_table
from stages.risk.settings import RiskSettings

log = logging.getLogger(__name__)

NEVER_STALE_NS = 2**62
ORDER_SEQ = int(ORDER.fields["seq"][1])  # type: ignore[index]  # it has fields
REPORT_SEQ = int(REPORT.fields["seq"][1])  # type: ignore[index]


class RiskAgent(Agent):
    """Judges every order before it leaves, on limits the strategy cannot touch.

    `delivery` "every" (replays at full speed) takes the age limit off the market data: there an age measures how long
    a ring was waited for, not how old the market is, and a verdict must not depend on the machine's speed. All other
    checks stay. Raises LimitError when limits and instruments contradict each other.
    """

    name = "risk"
    counters = (
        Counter("messages_in", "Orders and reports consumed", "messages"),
        Counter("messages_out", "Orders and reports published", "messages"),
        Counter("forwarded", "Orders and cancels that went on to the router", "orders"),
        Counter("denied_by_risk", "New orders denied, each with a reason the strategy received", "orders"),
        Counter("cancels_refused", "Cancels of orders that risk does not know", "cancels"),
        Counter("reports", "Reports of the router taken into the exposures and handed on", "reports"),
        Counter(
            "reports_unmatched",
            "Reports of orders that had ended or were never seen; handed on all the same",
            "reports",
        ),
        Counter("position_differences", "Positions the router told otherwise than held here; stays 0", "positions"),
        Counter("backpressure", "Polls in which an order had to wait for room in an output ring", "polls"),
    )
    hops = (Hop("strategy>risk"), Hop("risk.check", 100))

    def __init__(self, instruments: NDArray[np.void], settings: RiskSettings, delivery: str) -> None:
        self._instruments = instruments
        self._logged = np.zeros(max(Reason) + 1, np.int64)
        page = np.zeros(1, self.page())
        self.context = Context(
            state=np.zeros(1, STATE),
            clock=np.zeros(CLOCK_WORDS, np.int64),
            counters=page["counters"],
            samples=new_samples(),
            denied=np.zeros(max(Reason) + 1, np.int64),
            limits=limits_table(instruments, settings),
            exposures=np.zeros(len(instruments), EXPOSURE),
            working=np.zeros(ORDER_SLOTS, WORKING),
            accepted_ns=np.zeros(settings.order_rate_max, np.int64),
            order=np.zeros(1, ORDER),
            rehearsal=_rehearsal_order(),
            report=np.zeros(1, REPORT),
            bbo=np.zeros(1, BBO),
        )
        state = self.context.state[0]
        state["rate_window_ns"] = settings.order_rate_window_ms * 1_000_000
        state["age_ns_max"] = settings.market_data_age_ms_max * 1_000_000 if delivery != "every" else NEVER_STALE_NS
        state["bbo_row_bytes"] = row_bytes(BBO.itemsize)
        state["tell_cursor"] = NOT_TELLING

    def cold_kernels(self) -> list[ColdKernel]:
        return [adopt.COLD_KERNEL]

    def rehearse_every(self, interval_ns: int, *, has_twin: bool) -> None:
        self.context.state[0]["rehearsal_interval_ns"] = interval_ns

    def uses(self) -> list[SegmentUse]:
        layouts = edges(len(self._instruments))
        # Cursors are part of a ring, so its reader writes to it too; the table is only read.
        rings = (STRATEGY_TO_RISK, ROUTER_TO_RISK, RISK_TO_ROUTER, RISK_TO_STRATEGY)
        return [SegmentUse(name, layouts[name], True) for name in rings] + [
            SegmentUse(BBO_TABLE, layouts[BBO_TABLE], False)
        ]

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        self.context = self.context._replace(counters=page["counters"], clock=clock)
        state = self.context.state[0]
        state["orders_in"] = segments[STRATEGY_TO_RISK].address
        state["reports_in"] = segments[ROUTER_TO_RISK].address
        state["orders_out"] = segments[RISK_TO_ROUTER].address
        state["reports_out"] = segments[RISK_TO_STRATEGY].address
        state["bbo_table"] = segments[BBO_TABLE].address
        state["transport_hop"] = page["hops"].ctypes.data
        state["check_hop"] = page["hops"].ctypes.data + HISTOGRAM_BYTES
        for name in ("order", "rehearsal", "report", "bbo"):
            state[name] = getattr(self.context, name).ctypes.data
        ring.begin_reading(int(state["orders_in"]))
        state["epoch"] = ring.begin_reading(int(state["reports_in"]))
        ring.begin_writing(int(state["orders_out"]))
        is_first = ring.begin_writing(int(state["reports_out"])) == 1
        # A strategy that is new as well is told by a successor of ours in any case.
        state["told_epoch"] = peek(int(state["reports_out"]) + ring.READER_EPOCH)
        if not is_first:
            self._go_on()

    def _go_on(self) -> None:
        """An earlier process of this stage was killed: adopt what it published, rebuild the views from the router.

        The router tells the orders that it has and the positions. What the earlier process forwarded and the router
        has not taken yet stands in the ring between them. Until all is told no order is judged; reports pass.
        """
        state = self.context.state[0]
        forwarded, reported = ring.newest(int(state["orders_out"])), ring.newest(int(state["reports_out"]))
        judged = taken = 0
        if forwarded:
            order = record_at(forwarded, ORDER)
            state["order_seq"], judged = order["seq"], int(order["cause_seq"])
        if reported:
            report = record_at(reported, REPORT)
            state["report_seq"] = report["seq"]
            if report["origin"] == ReportOrigin.RISK:
                judged = max(judged, int(report["cause_seq"]))
            else:
                taken = int(report["cause_seq"])
        adopted = adopt.skip(int(state["orders_in"]), ORDER_SEQ, judged)
        adopted += adopt.skip(int(state["reports_in"]), REPORT_SEQ, taken)
        under_way = self._restore_forwarded()
        state["is_rebuilding"], state["tell_cursor"] = 1, 0
        log.warning("going on for an earlier risk: %d orders under way, %d inputs adopted", under_way, adopted)

    def _restore_forwarded(self) -> int:
        """Book the new orders in the ring to the router as working; returns how many.

        The router goes on taking them meanwhile: what it has taken it tells, after the news of it.
        """
        base = int(self.context.state[0]["orders_out"])
        head, tail = cursors(base)
        count = 0
        for number in range(head, tail):
            order = record_at(ring.slot_address(base, number), ORDER)
            working = self.context.working[int(order["order_id"]) & SLOT_MASK]
            if order["kind"] != OrderKind.NEW or working["is_open"]:
                continue
            working["order_id"], working["is_open"], working["symbol"] = order["order_id"], 1, order["symbol"]
            working["side"], working["price_ticks"] = order["side"], order["price_ticks"]
            working["leaves_lots"] = order["quantity_lots"]
            self.context.state[0]["last_order_id"] = order["order_id"]
            exposure = self.context.exposures[int(order["symbol"])]
            side = "working_buy_lots" if order["side"] == Side.BUY else "working_sell_lots"
            exposure[side] += order["quantity_lots"]
            exposure["open_orders"] += 1
            self.context.state[0]["open_orders"] += 1
            count += 1
        return count

    def is_synced(self) -> bool:
        return not self.context.state[0]["is_rebuilding"]

    def start(self, attention: Attention) -> None:
        unlimited = self._instruments["symbol"][self.context.limits["is_configured"] == 0]
        if len(unlimited):
            names = listing([name.decode() for name in unlimited])
            log.warning("no limits configured, every order is denied: %s", names)

    def state(self) -> State:
        if not self.context.state[0]["is_stopped"]:
            return State.RUNNING
        return State.RUNNING if self.context.state[0]["open_orders"] or not self.idle_input() else State.QUIET

    def service(self, now_ns: int) -> None:
        """Say which reasons denied orders since the last look: one line per look, not one per order."""
        fresh = self.context.denied - self._logged
        if fresh.any():
            self._logged += fresh
            words = ", ".join(f"{Reason(int(index)).name.lower()} {fresh[index]}" for index in np.nonzero(fresh)[0])
            log.warning("denied: %s", words)

    def quiesce(self) -> None:
        self.context.state[0]["is_stopped"] = 1

    def idle_input(self) -> bool:
        state = self.context.state[0]
        for address in (int(state["orders_in"]), int(state["reports_in"])):
            head, tail = cursors(address)
            if head != tail:
                return False
        return True


def _rehearsal_order() -> NDArray[np.void]:
    order = np.zeros(1, ORDER)
    order["kind"], order["side"] = OrderKind.NEW, Side.BUY
    order["order_type"], order["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    return order
