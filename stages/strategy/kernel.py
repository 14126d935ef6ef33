"""The parts of the strategy's poll that do not depend on the strategy: inputs, the order view, publication.

The poll itself (`poll_strategy`) is generated around them, because it calls the user's functions by name; see
`compose`. Reports come before notices: a decision should know its own fills.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm import ring
from shm.atomics import load_word, store_word
from shm.clock import now_ns as read_clock
from shm.kernel import primitive, routine
from shm.layout import record_dtype
from stages.domain.edges import RINGS, STRATEGY_TO_RISK
from stages.domain.messages import NOTICE, ORDER, REPORT, BookState, NoticeKind, Origin, ReportKind
from stages.domain.orders import ORDER_SLOTS
from stages.domain.samples import count_noted, note
from stages.domain.warming import warm, warm_records
from stages.strategy.api import (
    BUY,
    CANCELLING,
    FREE,
    MAXIMUM_OUTPUTS,
    ORDER_BYTES,
    ORDER_VIEW,
    WORKING,
    Book,
    Report,
    StrategyContext,
    Trade,
    cancel,
    slot_of,
)

BATCH = 64
"""Most reports, and most notices, handled in one poll."""

ROOM_IN_REPLAYS = 512
"""With delivery "every" a notice waits until this many orders fit, so that `busy` cannot depend on the machine: it
leaves MAXIMUM_OUTPUTS to the notice and the rest to reports, which never wait (or the line could lock up)."""

ORDER_VIEW_BYTES = ORDER_VIEW.itemsize
NOTICE_BYTES = NOTICE.itemsize
REPORT_BYTES = REPORT.itemsize
TRADE_NOTICE = int(NoticeKind.TRADE)
VALID, HALTED = int(BookState.VALID), int(BookState.HALTED)
MARKET_DATA = int(Origin.MARKET_DATA)
REPORT_ORIGIN = int(Origin.REPORT)
OF_ITSELF = int(Origin.TIMER)
ACKED = int(ReportKind.ACKED)
CANCEL_REJECTED = int(ReportKind.CANCEL_REJECTED)
UNKNOWN = int(ReportKind.UNKNOWN)
WORKING_AGAIN, POSITION, STATE_END = int(ReportKind.WORKING), int(ReportKind.POSITION), int(ReportKind.STATE_END)

assert ORDER.fields is not None
PUBLISH_NS = ORDER.fields["publish_ns"][1]

ENGINE = record_dtype(
    [
        ("notices_in", "<i8"),  # ring addresses
        ("reports_in", "<i8"),
        ("orders_out", "<i8"),
        ("transport_hop", "<i8"),  # histogram addresses
        ("decide_hop", "<i8"),
        ("notice", "<i8"),  # addresses of the scratch records
        ("report", "<i8"),
        ("outgoing", "<i8"),
        ("pending", "<i8"),  # outputs of the current handler, claimed and not yet published
        ("order_seq", "<i8"),
        ("last_order_id", "<i8"),
        ("origin", "<i8"),  # of the current input
        ("version", "<i8"),
        ("read_ns", "<i8"),
        ("cause_seq", "<i8"),
        ("popped_ns", "<i8"),
        ("is_deciding", "<i8"),  # 0 once quiesced
        ("is_every", "<i8"),
        ("warming_interval_ns", "<i8"),
        ("next_warming_ns", "<i8"),
        ("epoch", "<i8"),  # of this process as the reader of risk's reports
        ("is_rebuilding", "<i8"),  # 1: an earlier process held the views; risk tells them again
        ("unwanted_id", "<i8"),  # orders up to this id are to be cancelled, whoever asked for them; 0: none
    ],
    256,
)


class Context(NamedTuple):
    """The strategy stage's private memory and its counters."""

    engine: NDArray[np.void]
    clock: NDArray[np.int64]
    counters: NDArray[np.void]
    samples: NDArray[np.int64]
    notice: NDArray[np.void]
    report: NDArray[np.void]
    outgoing: NDArray[np.void]
    positions: NDArray[np.int64]
    working_buys: NDArray[np.int64]
    working_sells: NDArray[np.int64]
    orders: NDArray[np.void]
    parameters: NDArray[np.int64]
    """Values in the order of PARAMETERS."""
    instruments: NDArray[np.void]
    state: NDArray[np.void]


@primitive
def user_context(context: Context, parameters: Any, now_ns: int) -> StrategyContext:
    """What the handlers get; `parameters` is the strategy's own NamedTuple."""
    return StrategyContext(
        context.positions,
        context.working_buys,
        context.working_sells,
        context.orders,
        parameters,
        context.instruments,
        context.state,
        now_ns,
        context.engine,
        context.counters,
        context.outgoing,
    )


@primitive
def take_report(context: Context) -> bool:
    """Copy the oldest report, bring positions and orders up to date by it. False when there is none."""
    engine = context.engine[0]
    source = ring.peek_record(engine["reports_in"])
    if source == 0:
        return False
    ring.copy_record(engine["report"], source, REPORT_BYTES)
    report = context.report[0]
    engine["origin"] = REPORT_ORIGIN
    engine["version"] = 0
    engine["read_ns"] = report["read_ns"]
    engine["cause_seq"] = report["seq"]
    if np.int64(report["kind"]) >= WORKING_AGAIN:
        _take_told(context, report)
    else:
        _apply(context, report)
    return True


@primitive
def is_for_handler(context: Context) -> bool:
    """Whether the current report is told to the strategy: not while an earlier process's state is taken over."""
    return bool(context.engine[0]["is_rebuilding"] == 0 and np.int64(context.report[0]["kind"]) < POSITION)


@primitive
def is_taking_over(context: Context) -> bool:
    """Whether the current report is the last of the state that an earlier process leaves to this one."""
    engine, report = context.engine[0], context.report[0]
    if engine["is_rebuilding"] == 0 or np.int64(report["kind"]) != STATE_END:
        return False
    is_for_us: bool = report["execution_id"] == engine["epoch"]
    return is_for_us


@primitive
def take_over(context: Context, has_handler: bool) -> None:
    """All is told: decide from now on. Orders that no `on_restart` takes over are cancelled: nobody would mind them."""
    engine = context.engine[0]
    engine["is_rebuilding"] = 0
    if not has_handler:
        engine["unwanted_id"] = engine["last_order_id"]


@routine
def cancel_unwanted(context: Context, ctx: StrategyContext) -> int:
    """Ask to cancel the orders up to `unwanted_id`, as many as one publication takes. Returns how many it took."""
    engine = context.engine[0]
    if engine["is_rebuilding"] != 0:
        return 0
    engine["origin"], engine["version"], engine["read_ns"], engine["cause_seq"] = OF_ITSELF, 0, 0, 0
    is_room = True
    for slot in range(ORDER_SLOTS):
        order = context.orders[slot]
        is_unwanted = order["status"] != FREE and order["order_id"] <= engine["unwanted_id"]
        if is_unwanted and is_room:
            is_room = cancel(ctx, order["order_id"])
    if is_room and engine["is_deciding"] != 0:  # else a cancel that was refused is asked for again
        engine["unwanted_id"] = 0
    asked = engine["pending"]
    _publish(context)
    return asked


@routine
def _take_told(context: Context, report: np.void) -> None:
    """State told again: taken as it is by a strategy that starts anew, else as any report."""
    engine = context.engine[0]
    kind = np.int64(report["kind"])
    if kind == STATE_END:
        engine["last_order_id"] = max(engine["last_order_id"], report["order_id"])
    elif engine["is_rebuilding"] == 0:
        if kind == WORKING_AGAIN:
            _apply(context, report)
        elif context.positions[np.int64(report["symbol"])] != report["cumulative_lots"]:
            context.counters[0]["position_differences"] += 1
            context.positions[np.int64(report["symbol"])] = report["cumulative_lots"]
    elif kind == POSITION:
        context.positions[np.int64(report["symbol"])] = report["cumulative_lots"]
    else:
        _restore(context, report)


@primitive
def _restore(context: Context, report: np.void) -> None:
    """An open order as risk tells it; a cancel that an earlier process asked for stays asked for."""
    order = context.orders[slot_of(report["order_id"])]
    if order["status"] != FREE:
        _work(context, order, -order["leaves_lots"])
    if order["status"] != CANCELLING or order["order_id"] != report["order_id"]:
        order["status"] = WORKING
    order["order_id"] = report["order_id"]
    order["symbol"], order["side"] = np.int64(report["symbol"]), np.int64(report["side"])
    order["price_ticks"] = report["price_ticks"]
    order["leaves_lots"], order["cumulative_lots"] = report["leaves_lots"], report["cumulative_lots"]
    order["quantity_lots"] = report["leaves_lots"] + report["cumulative_lots"]
    _work(context, order, order["leaves_lots"])


@routine
def _apply(context: Context, report: np.void) -> None:
    """By cumulative quantity: a report told twice changes nothing. A fill counts after the order's end as well."""
    order = context.orders[slot_of(report["order_id"])]
    is_ours = order["order_id"] == report["order_id"]
    filled = report["cumulative_lots"] - order["cumulative_lots"]
    if not is_ours or (order["status"] == FREE and filled <= 0):
        context.counters[0]["reports_unmatched"] += 1
        return
    if filled > 0:
        order["cumulative_lots"] = report["cumulative_lots"]
        context.positions[order["symbol"]] += filled if order["side"] == BUY else -filled
        context.counters[0]["fills"] += 1
    if order["status"] == FREE:
        return
    if filled > 0:
        order["leaves_lots"] -= filled
        _work(context, order, -filled)
    kind = np.int64(report["kind"])
    if np.int64(report["final"]) != 0:
        _work(context, order, -order["leaves_lots"])
        order["status"] = FREE
    elif kind in (CANCEL_REJECTED, UNKNOWN) or (kind in (ACKED, WORKING_AGAIN) and order["status"] != CANCELLING):
        order["status"] = WORKING  # UNKNOWN: a cancel that was under way may be lost, and may be asked for again


@primitive
def _work(context: Context, order: np.void, lots: int) -> None:
    if order["side"] == BUY:
        context.working_buys[order["symbol"]] += lots
    else:
        context.working_sells[order["symbol"]] += lots


@primitive
def report_event(context: Context) -> Report:
    """The current report as the handler sees it."""
    report = context.report[0]
    # Narrow unsigned fields become int64 here: two of them in one expression of the user's would turn unsigned.
    symbol: Any = np.int64(report["symbol"])
    kind: Any = np.int64(report["kind"])
    reason: Any = np.int64(report["reason"])
    side: Any = np.int64(report["side"])
    return Report(
        symbol,
        kind,
        reason,
        report["order_id"],
        side,
        report["price_ticks"],
        report["last_price_ticks"],
        report["last_quantity_lots"],
        report["cumulative_lots"],
        report["leaves_lots"],
        np.int64(report["final"]) != 0,
    )


@primitive
def finish_report(context: Context) -> None:
    """Publish what the handler asked for, then consume the report."""
    _publish(context)
    ring.advance(context.engine[0]["reports_in"], 1)
    context.counters[0]["messages_in"] += 1
    context.counters[0]["reports"] += 1


@primitive
def take_notice(context: Context) -> bool:
    """Copy the oldest notice. False when there is none, or when it must wait for room (delivery "every")."""
    engine = context.engine[0]
    source = ring.peek_record(engine["notices_in"])
    if source == 0 or engine["is_rebuilding"] != 0:
        return False
    if engine["is_every"] != 0 and ring.room(engine["orders_out"], ROOM_IN_REPLAYS) < ROOM_IN_REPLAYS:
        context.counters[0]["backpressure"] += 1
        return False
    engine["popped_ns"] = read_clock(context.clock)
    ring.copy_record(engine["notice"], source, NOTICE_BYTES)
    notice = context.notice[0]
    engine["origin"] = MARKET_DATA
    engine["version"] = notice["version"]
    engine["read_ns"] = notice["read_ns"]
    engine["cause_seq"] = notice["seq"]
    return True


@routine
def keep_warm(context: Context, now_ns: int) -> None:
    """Between two ticks: ask for the memory that the next decision needs. Its code is the user's, so it is not run."""
    engine = context.engine[0]
    if now_ns < engine["next_warming_ns"]:
        return
    engine["next_warming_ns"] = now_ns + engine["warming_interval_ns"]
    warm_records(context.counters)
    warm_records(context.notice)
    warm_records(context.outgoing)
    warm_records(context.state)
    warm(context.orders.ctypes.data + slot_of(engine["last_order_id"] + 1) * ORDER_VIEW_BYTES, 2 * ORDER_VIEW_BYTES)
    warm(ring.claim(engine["orders_out"], 0), 2 * ORDER_BYTES)
    warm(ring.slot(engine["notices_in"], load_word(engine["notices_in"] + ring.HEAD)), NOTICE_BYTES)


@primitive
def is_trade(context: Context) -> bool:
    """Whether the current notice is of a trade (else it is of the book)."""
    return np.int64(context.notice[0]["kind"]) == TRADE_NOTICE


@primitive
def book_event(context: Context) -> Book:
    """The current notice as the handler of books sees it."""
    notice = context.notice[0]
    symbol: Any = np.int64(notice["symbol"])
    instrument = context.instruments[symbol]
    tick, lot = instrument["tick"], instrument["lot"]
    bid_lots = notice["bid_quantity"] // lot
    ask_lots = notice["ask_quantity"] // lot
    is_valid = (
        np.int64(notice["state"]) == VALID
        and notice["bid_quantity"] > 0
        and notice["ask_quantity"] > 0
        and notice["bid_price"] < notice["ask_price"]
    )
    return Book(
        symbol,
        is_valid,
        notice["bid_price"] // tick,
        bid_lots,
        (notice["ask_price"] + tick - 1) // tick,
        ask_lots,
        notice["version"],
        notice["exchange_time_ns"],
        notice["read_ns"],
        np.int64(notice["state"]) == HALTED,
    )


@primitive
def trade_event(context: Context) -> Trade:
    """The current notice as the handler of trades sees it."""
    notice = context.notice[0]
    symbol: Any = np.int64(notice["symbol"])
    side: Any = np.int64(notice["trade_side"])
    instrument = context.instruments[symbol]
    return Trade(
        symbol,
        side,
        notice["trade_price"] // instrument["tick"],
        notice["trade_quantity"] // instrument["lot"],
        notice["exchange_time_ns"],
        notice["read_ns"],
    )


@primitive
def finish_notice(context: Context) -> None:
    """Publish what the handler asked for, then consume the notice and account its hops."""
    engine, counters = context.engine[0], context.counters[0]
    decided_ns = _publish(context)
    ring.advance(engine["notices_in"], 1)
    counters["messages_in"] += 1
    counters["notices"] += 1
    note(context.samples, engine["transport_hop"], engine["popped_ns"] - context.notice[0]["publish_ns"])
    note(context.samples, engine["decide_hop"], decided_ns - engine["popped_ns"])


@primitive
def rest(context: Context) -> None:
    """A poll found nothing to do: time to count the latencies noted before."""
    if context.samples[0] > 0:
        count_noted(context.samples)


@primitive
def _publish(context: Context) -> int:
    """Stamp and publish the handler's outputs with one release store. Returns the stamp: when it had decided."""
    engine = context.engine[0]
    decided_ns = read_clock(context.clock)
    pending = engine["pending"]
    for index in range(pending):
        store_word(ring.claim(engine["orders_out"], index) + PUBLISH_NS, decided_ns)
    if pending > 0:
        ring.commit(engine["orders_out"], pending)
        engine["order_seq"] += pending
        engine["pending"] = 0
        context.counters[0]["messages_out"] += pending
    return decided_ns


assert ROOM_IN_REPLAYS >= MAXIMUM_OUTPUTS
assert RINGS[STRATEGY_TO_RISK].sizes[0] >= 2 * ROOM_IN_REPLAYS, "nobody is rung for more room (Agent.sleep_ns_max)"
