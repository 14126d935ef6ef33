"""Risk's hot side: orders from the strategy in, verdicts out; reports from the router in, and on to the strategy.

An input is consumed only when the rings its outcome may go to have room for it, so nothing is ever dropped: a report
waits in the router's ring, an order in the strategy's. The strategy consumes reports whatever its own output does, so
this waiting always ends.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm import ring, seqlock
from shm.atomics import load_word
from shm.clock import now_ns as read_clock
from shm.kernel import kernel, primitive, routine
from shm.layout import record_dtype
from stages.domain.messages import ORDER, REPORT, OrderKind, Reason, ReportKind, ReportOrigin
from stages.domain.orders import ORDER_SLOTS
from stages.domain.samples import WARM_SAMPLES_BYTES, count_noted, note
from stages.domain.warming import warm, warm_records
from stages.risk.check import (
    BBO_BYTES,
    BUY,
    DUPLICATE_ORDER_ID,
    MALFORMED_ORDER,
    NONE,
    OPEN_ORDERS_EXCEED_MAXIMUM,
    ORDER_RATE_EXCEEDED,
    TRADING_STOPPED,
    UNKNOWN_SYMBOL,
    check_order,
    check_record,
    slot_of,
    take_rate,
)

BATCH = 64
"""Most records of each input handled in one poll."""

FOR_REAL: Any = np.int64(0)  # not literals, or Numba compiles two copies of the verdict
REHEARSAL: Any = np.int64(1)

ORDER_BYTES = ORDER.itemsize
REPORT_BYTES = REPORT.itemsize
NEW = int(OrderKind.NEW)
CANCEL = int(OrderKind.CANCEL)
DENIED = int(ReportKind.DENIED)
CANCEL_REJECTED = int(ReportKind.CANCEL_REJECTED)
UNKNOWN_ORDER = int(Reason.UNKNOWN_ORDER)
WORKING_AGAIN, POSITION, STATE_END = int(ReportKind.WORKING), int(ReportKind.POSITION), int(ReportKind.STATE_END)
BY_RISK, RETOLD = int(ReportOrigin.RISK), int(ReportOrigin.RETOLD)
NOT_TELLING = 2**62

STATE = record_dtype(
    [
        ("orders_in", "<i8"),  # ring addresses, by what they carry and from where
        ("reports_in", "<i8"),
        ("orders_out", "<i8"),
        ("reports_out", "<i8"),
        ("bbo_table", "<i8"),
        ("bbo_row_bytes", "<i8"),
        ("transport_hop", "<i8"),  # histogram addresses
        ("check_hop", "<i8"),
        ("order", "<i8"),  # addresses of the scratch records
        ("report", "<i8"),
        ("bbo", "<i8"),
        ("order_seq", "<i8"),  # of the last record published into each ring
        ("report_seq", "<i8"),
        ("last_order_id", "<i8"),
        ("age_ns_max", "<i8"),
        ("rate_window_ns", "<i8"),
        ("rate_cursor", "<i8"),
        ("rate_count", "<i8"),
        ("is_stopped", "<i8"),
        ("open_orders", "<i8"),
        ("rehearsal", "<i8"),  # address of the order that is only rehearsed
        ("rehearsal_symbol", "<i8"),
        ("rehearsal_interval_ns", "<i8"),
        ("next_rehearsal_ns", "<i8"),
        ("epoch", "<i8"),  # of this process as the reader of the router's reports
        ("is_rebuilding", "<i8"),  # 1: an earlier process held the views; the router tells them again
        ("told_epoch", "<i8"),  # of the strategy that knows the state
        ("tell_cursor", "<i8"),  # the state is being told from here on: rows, positions, the end; NOT_TELLING
    ],
    256,
)

EXPOSURE = record_dtype(
    [
        ("position_lots", "<i8"),
        ("working_buy_lots", "<i8"),
        ("working_sell_lots", "<i8"),
        ("open_orders", "<i8"),
    ],
    64,
)

WORKING = record_dtype(
    [
        ("order_id", "<i8"),  # stays when the order has ended: a fill may be told after its end
        ("is_open", "<i8"),
        ("symbol", "<i8"),
        ("side", "<i8"),
        ("leaves_lots", "<i8"),
        ("cumulative_lots", "<i8"),
        ("price_ticks", "<i8"),
    ],
    64,
)


WORKING_BYTES = WORKING.itemsize


class Context(NamedTuple):
    """Risk's private memory and its counters; shared memory is behind the addresses in `state`."""

    state: NDArray[np.void]
    clock: NDArray[np.int64]
    counters: NDArray[np.void]
    samples: NDArray[np.int64]
    denied: NDArray[np.int64]
    """Denials by Reason, for the log."""
    limits: NDArray[np.void]
    exposures: NDArray[np.void]
    working: NDArray[np.void]
    accepted_ns: NDArray[np.int64]
    order: NDArray[np.void]
    rehearsal: NDArray[np.void]
    report: NDArray[np.void]
    bbo: NDArray[np.void]


@routine
def poll(context: Context, now_ns: int) -> int:
    """Handle up to BATCH reports, then up to BATCH orders. Returns how many there were."""
    state = context.state[0]
    handled = 0
    for _ in range(BATCH):
        if ring.available(state["reports_in"], 1) < 1 or ring.room(state["reports_out"], 1) < 1:
            break
        forward_report(context)
        handled += 1
    if state["tell_cursor"] != NOT_TELLING and state["is_rebuilding"] == 0:
        handled += tell_state(context)
    for _ in range(BATCH):
        if ring.available(state["orders_in"], 1) < 1 or state["is_rebuilding"] != 0:
            break
        # Both, before deciding: which of them the verdict needs is not known yet, and a verdict is given once.
        if ring.room(state["orders_out"], 1) < 1 or ring.room(state["reports_out"], 1) < 1:
            context.counters[0]["backpressure"] += 1
            break
        judge(context, now_ns)
        handled += 1
    if handled == 0:
        if context.samples[0] > 0:
            count_noted(context.samples)
        if ring.reader_epoch(state["reports_out"]) != state["told_epoch"]:
            state["told_epoch"], state["tell_cursor"] = ring.reader_epoch(state["reports_out"]), 0
            handled = 1  # the next poll tells it: no cycle to sleep after
        if now_ns >= state["next_rehearsal_ns"]:
            state["next_rehearsal_ns"] = now_ns + state["rehearsal_interval_ns"]
            rehearse(context, now_ns)
    return handled


@kernel
def poll_once(context: Context, now_ns: int) -> int:
    """One `poll`, entered from Python: for lines that are stepped by hand, and to set up rehearsals."""
    return poll(context, now_ns)


@primitive
def judge(context: Context, now_ns: int) -> None:
    """Decide on the oldest order: forward it or answer it."""
    state, counters = context.state[0], context.counters[0]
    popped_ns = read_clock(context.clock)
    ring.copy_record(state["order"], ring.peek_record(state["orders_in"]), ORDER_BYTES)
    order = context.order[0]
    published_ns = order["publish_ns"]
    is_cancel = np.int64(order["kind"]) == CANCEL
    reason = _verdict_on_cancel(context, order) if is_cancel else _verdict(context, order, now_ns, FOR_REAL)
    decided_ns = read_clock(context.clock)
    if reason == NONE:
        order["cause_seq"] = order["seq"]
        order["seq"] = state["order_seq"] + 1
        order["publish_ns"] = decided_ns
        ring.try_push(state["orders_out"], state["order"])
        state["order_seq"] += 1
        counters["forwarded"] += 1
    else:
        _answer(context, order, CANCEL_REJECTED if is_cancel else DENIED, reason, decided_ns)
        context.denied[reason] += 1
        if is_cancel:
            counters["cancels_refused"] += 1
        else:
            counters["denied_by_risk"] += 1
    ring.advance(state["orders_in"], 1)
    counters["messages_in"] += 1
    counters["messages_out"] += 1
    note(context.samples, state["transport_hop"], popped_ns - published_ns)
    note(context.samples, state["check_hop"], decided_ns - popped_ns)


@primitive
def rehearse(context: Context, now_ns: int) -> None:
    """Judge an order that nobody sent, and ask for the memory that the next real one will need.

    Orders are rare, and what milliseconds of polling leave in the caches is polling: a check out of the blue took 240
    ns instead of 70. Each rehearsal takes the next symbol, at its bid, for the least value allowed.
    """
    state = context.state[0]
    order = context.rehearsal[0]
    symbol = state["rehearsal_symbol"]
    state["rehearsal_symbol"] = 0 if symbol + 1 >= len(context.limits) else symbol + 1
    limits = context.limits[symbol]
    row = state["bbo_table"] + symbol * state["bbo_row_bytes"]
    if limits["is_configured"] == 0 or seqlock.read(row, state["bbo"], BBO_BYTES) < 1:
        return
    price = context.bbo[0]["bid_price"] // limits["tick"]
    if price <= 0 or ring.room(state["orders_out"], 1) < 1:
        return
    order["symbol"] = symbol
    order["order_id"] = state["last_order_id"] + 1
    order["price_ticks"] = price
    order["quantity_lots"] = max(limits["minimum_lots"], limits["minimum_notional"] // price + 1)
    _verdict(context, order, now_ns, REHEARSAL)
    warm(context.working.ctypes.data + slot_of(order["order_id"]) * WORKING_BYTES, 2 * WORKING_BYTES)
    warm(ring.claim(state["orders_out"], 0), 2 * ORDER_BYTES)
    warm_records(context.counters)
    warm_records(context.exposures)
    warm_records(context.limits)
    warm(context.samples.ctypes.data, WARM_SAMPLES_BYTES)
    warm(ring.slot(state["orders_in"], load_word(state["orders_in"] + ring.HEAD)), 2 * ORDER_BYTES)


@routine
def _verdict(context: Context, order: np.void, now_ns: int, is_rehearsal: int) -> int:
    """Reason to deny, or NONE; an order that may go is booked as working before it goes. A rehearsal books nothing.

    Not inlined: the rehearsal must run the very instructions that it is to keep in the cache.
    """
    state = context.state[0]
    if np.int64(order["kind"]) != NEW:
        return MALFORMED_ORDER
    reason = check_record(order, len(context.limits))
    if reason != NONE:
        return reason
    if state["is_stopped"] != 0:
        return TRADING_STOPPED
    order_id = order["order_id"]
    # Ids ascend by contract: one that is not above the last was used before, in this run or in a loop gone wrong.
    if order_id <= state["last_order_id"]:
        return DUPLICATE_ORDER_ID
    if is_rehearsal == 0:
        state["last_order_id"] = order_id
    symbol = np.int64(order["symbol"])
    exposure = context.exposures[symbol]
    reason = check_order(state, order, context.limits[symbol], exposure, context.bbo[0], now_ns)
    if reason != NONE:
        return reason
    working = context.working[slot_of(order_id)]
    if working["is_open"] != 0:
        return OPEN_ORDERS_EXCEED_MAXIMUM
    if is_rehearsal != 0:
        return NONE if context.accepted_ns[state["rate_cursor"]] <= now_ns else ORDER_RATE_EXCEEDED
    if not take_rate(state, context.accepted_ns, now_ns):
        return ORDER_RATE_EXCEEDED
    working["order_id"] = order_id
    working["is_open"] = 1
    working["symbol"] = symbol
    working["side"] = np.int64(order["side"])
    working["price_ticks"] = order["price_ticks"]
    working["leaves_lots"] = order["quantity_lots"]
    working["cumulative_lots"] = 0
    open_row(context, working)
    return NONE


@primitive
def open_row(context: Context, working: np.void) -> None:
    """The order in `working` counts as working from now on."""
    exposure = context.exposures[working["symbol"]]
    _work(exposure, working["side"], working["leaves_lots"])
    exposure["open_orders"] += 1
    context.state[0]["open_orders"] += 1


@primitive
def _verdict_on_cancel(context: Context, order: np.void) -> int:
    """Cancels reduce risk: never throttled, stopped or judged; but there must be such an order."""
    if np.int64(order["symbol"]) >= len(context.limits):
        return UNKNOWN_SYMBOL
    working = context.working[slot_of(order["order_id"])]
    if order["order_id"] < 1 or working["order_id"] != order["order_id"] or working["is_open"] == 0:
        return UNKNOWN_ORDER
    if working["symbol"] != np.int64(order["symbol"]) or working["side"] != np.int64(order["side"]):
        return MALFORMED_ORDER
    return NONE


@primitive
def _work(exposure: np.void, side: int, lots: int) -> None:
    """Change the lots that work on a side by `lots`."""
    if side == BUY:
        exposure["working_buy_lots"] += lots
    else:
        exposure["working_sell_lots"] += lots


@primitive
def _answer(context: Context, order: np.void, kind: int, reason: int, publish_ns: int) -> None:
    """Publish risk's own report on an order that goes no further."""
    report = context.report[0]
    _clear(report)
    report["kind"] = kind
    report["side"] = order["side"]
    report["symbol"] = order["symbol"]
    report["reason"] = reason
    report["final"] = 1 if kind == DENIED else 0  # an order whose cancel is refused lives on
    report["order_id"] = order["order_id"]
    report["price_ticks"] = order["price_ticks"]
    report["read_ns"] = order["read_ns"]
    report["publish_ns"] = publish_ns
    report["cause_seq"] = order["seq"]
    _push_report(context)


@primitive
def _push_report(context: Context) -> None:
    """Publish the scratch report under the next seq."""
    state, report = context.state[0], context.report[0]
    report["seq"] = state["report_seq"] + 1
    ring.try_push(state["reports_out"], state["report"])
    state["report_seq"] += 1


@primitive
def forward_report(context: Context) -> None:
    """Take the oldest report into the exposure and hand it on."""
    state, counters = context.state[0], context.counters[0]
    ring.copy_record(state["report"], ring.peek_record(state["reports_in"]), REPORT_BYTES)
    report = context.report[0]
    is_news = _take_told(context, report) if np.int64(report["kind"]) >= POSITION else _take_report(context, report)
    # What the router only tells again, and is known, is not news to the strategy either.
    if is_news or report["origin"] != RETOLD:
        report["cause_seq"] = report["seq"]
        report["publish_ns"] = read_clock(context.clock)
        _push_report(context)
        counters["messages_out"] += 1
    ring.advance(state["reports_in"], 1)
    counters["messages_in"] += 1
    counters["reports"] += 1


@routine
def _take_told(context: Context, report: np.void) -> bool:
    """A position, or the end of a state told again. Never news: the strategy is told by us."""
    state = context.state[0]
    if np.int64(report["kind"]) == POSITION:
        exposure = context.exposures[np.int64(report["symbol"])]
        if exposure["position_lots"] != report["cumulative_lots"] and state["is_rebuilding"] == 0:
            context.counters[0]["position_differences"] += 1
        exposure["position_lots"] = report["cumulative_lots"]
    elif report["execution_id"] == state["epoch"]:
        state["is_rebuilding"] = 0
    state["last_order_id"] = max(state["last_order_id"], report["order_id"])
    return False


@routine
def _take_report(context: Context, report: np.void) -> bool:
    """Positions and working lots by cumulative quantity: a report told twice changes nothing. Returns if it is news.

    A fill counts after the order's end as well: the position follows the router's, which follows the venue.
    """
    state = context.state[0]
    working = context.working[slot_of(report["order_id"])]
    is_final = np.int64(report["final"]) != 0
    if state["is_rebuilding"] != 0 and np.int64(report["kind"]) == WORKING_AGAIN:
        _restore(context, working, report)
        return False
    is_ours = working["order_id"] == report["order_id"]
    filled = report["cumulative_lots"] - working["cumulative_lots"]
    if not is_ours or (working["is_open"] == 0 and filled <= 0):
        if report["origin"] != RETOLD:
            context.counters[0]["reports_unmatched"] += 1
        return False
    exposure = context.exposures[working["symbol"]]
    side = working["side"]
    if filled > 0:
        working["cumulative_lots"] = report["cumulative_lots"]
        exposure["position_lots"] += filled if side == BUY else -filled
    if working["is_open"] == 0:
        return True
    if filled > 0:
        leaves = working["leaves_lots"] - filled
        _work(exposure, side, -filled)
        working["leaves_lots"] = leaves
    if is_final:
        _close_row(context, working)
    return filled > 0 or is_final


@primitive
def _close_row(context: Context, working: np.void) -> None:
    exposure = context.exposures[working["symbol"]]
    _work(exposure, working["side"], -working["leaves_lots"])
    exposure["open_orders"] -= 1
    context.state[0]["open_orders"] -= 1
    working["is_open"] = 0


@routine
def _restore(context: Context, working: np.void, report: np.void) -> None:
    """An open order as the router tells it. The positions that it tells afterwards contain its fills."""
    if working["is_open"] != 0:
        _close_row(context, working)
    working["order_id"] = report["order_id"]
    working["is_open"] = 1
    working["symbol"] = np.int64(report["symbol"])
    working["side"] = np.int64(report["side"])
    working["price_ticks"] = report["price_ticks"]
    working["leaves_lots"] = report["leaves_lots"]
    working["cumulative_lots"] = report["cumulative_lots"]
    open_row(context, working)
    context.state[0]["last_order_id"] = max(context.state[0]["last_order_id"], report["order_id"])


@routine
def tell_state(context: Context) -> int:
    """Tell a strategy that starts anew what is open and what is held, as far as there is room."""
    state, report = context.state[0], context.report[0]
    told = 0
    while told < BATCH and ring.room(state["reports_out"], 1) >= 1:
        number = state["tell_cursor"]
        state["tell_cursor"] = number + 1
        told += 1
        _clear(report)
        report["publish_ns"] = read_clock(context.clock)
        if number < ORDER_SLOTS:
            working = context.working[number]
            if working["is_open"] == 0:
                continue
            report["kind"], report["symbol"], report["side"] = WORKING_AGAIN, working["symbol"], working["side"]
            report["order_id"], report["price_ticks"] = working["order_id"], working["price_ticks"]
            report["cumulative_lots"], report["leaves_lots"] = working["cumulative_lots"], working["leaves_lots"]
        elif number < ORDER_SLOTS + len(context.exposures):
            report["kind"], report["symbol"] = POSITION, number - ORDER_SLOTS
            report["cumulative_lots"] = context.exposures[number - ORDER_SLOTS]["position_lots"]
        else:
            report["kind"] = STATE_END
            report["order_id"], report["execution_id"] = state["last_order_id"], state["told_epoch"]
            state["tell_cursor"] = NOT_TELLING
        _push_report(context)
        context.counters[0]["messages_out"] += 1
        if state["tell_cursor"] == NOT_TELLING:
            break
    return told


@primitive
def _clear(report: np.void) -> None:
    """An empty report of our own."""
    report["kind"], report["symbol"], report["side"] = 0, 0, 0
    report["reason"], report["maker"], report["final"] = 0, 0, 0
    report["order_id"], report["price_ticks"] = 0, 0
    report["last_price_ticks"], report["last_quantity_lots"] = 0, 0
    report["cumulative_lots"], report["leaves_lots"] = 0, 0
    report["execution_id"], report["venue_code"] = 0, 0
    report["exchange_time_ns"], report["read_ns"] = 0, 0
    report["cause_seq"], report["origin"] = 0, BY_RISK


assert ORDER_SLOTS & (ORDER_SLOTS - 1) == 0
