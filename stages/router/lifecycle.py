"""What happens to an order: transitions by the one table, positions, and the reports that tell the others.

Everything the venue says becomes "the order is now in this state, and so much of it is filled". A report is idempotent
by cumulative quantity and by execution id. A fill is a fact in every state, an ended order's too: the position follows
the venue, never our wish.

One message of the venue makes at most REPORTS_PER_MESSAGE reports; callers see to the room before they read one.
"""

import numpy as np

from shm import ring, seqlock
from shm.clock import now_ns as read_clock
from shm.kernel import kernel, primitive, routine
from stages.domain.messages import POSITION, REPORT, Reason, ReportKind, Side
from stages.domain.orders import ALLOWED, IS_OPEN, ORDER_SLOTS, SLOT_MASK, OrderState
from stages.domain.samples import note
from stages.router import journal
from stages.router.position import MANTISSA, apply_fee, apply_fill, multiply_divide
from stages.router.records import Context, plain

REPORTS_PER_MESSAGE = 3
"""ACKED, FILLED, and an end without a fill."""

BUY = plain(Side.BUY)
FREE = plain(OrderState.FREE)
PENDING_NEW = plain(OrderState.PENDING_NEW)
WORKING = plain(OrderState.WORKING)
PENDING_CANCEL = plain(OrderState.PENDING_CANCEL)
FILLED = plain(OrderState.FILLED)
CANCELLED = plain(OrderState.CANCELLED)
EXPIRED = plain(OrderState.EXPIRED)
REJECTED = plain(OrderState.REJECTED)
UNKNOWN = plain(OrderState.UNKNOWN)

REPORT_ACKED = plain(ReportKind.ACKED)
REPORT_FILLED = plain(ReportKind.FILLED)
REPORT_CANCELLED = plain(ReportKind.CANCELLED)
REPORT_EXPIRED = plain(ReportKind.EXPIRED)
REPORT_REJECTED = plain(ReportKind.REJECTED)
REPORT_CANCEL_REJECTED = plain(ReportKind.CANCEL_REJECTED)
REPORT_UNKNOWN = plain(ReportKind.UNKNOWN)

NONE = plain(Reason.NONE)
NOT_FINAL, IS_FINAL = plain(0), plain(1)
POSITION_BYTES = POSITION.itemsize
REPORT_BYTES = REPORT.itemsize


@routine
def set_state(context: Context, row: np.void, target: int) -> bool:
    """Move an order to another state if the table allows it; counts what it does not."""
    current = row["state"]
    if not ALLOWED[current, target]:
        context.counters[0]["illegal_transitions"] += 1
        return False
    if current == UNKNOWN:
        context.counters[0]["unknown"] -= 1
    if target == UNKNOWN:
        context.counters[0]["unknown"] += 1
        context.counters[0]["became_unknown"] += 1
    row["state"] = target
    return True


@routine
def emit(context: Context, row: np.void, kind: int, reason: int, final: int) -> None:
    """Write a report of an order; of this fill, when the caller has set the last_* fields of the scratch report.

    Risk sees it only with `publish_reports`: all reports of one cause go out together.
    """
    state, report = context.state[0], context.report[0]
    report["kind"] = kind
    report["side"] = row["side"]
    report["symbol"] = row["symbol"]
    report["reason"] = reason
    report["final"] = final
    report["order_id"] = row["order_id"]
    report["price_ticks"] = row["price_ticks"]
    report["cumulative_lots"] = row["cumulative_lots"]
    report["leaves_lots"] = row["quantity_lots"] - row["cumulative_lots"] if IS_OPEN[row["state"]] else 0
    report["read_ns"] = state["read_ns"]
    report["seq"] = state["report_seq"] + 1
    report["cause_seq"] = state["cause_seq"]
    report["origin"] = state["origin"]
    report["publish_ns"] = read_clock(context.clock)
    ring.copy_fresh(ring.claim(state["reports_out"], state["staged"]), state["report"], REPORT_BYTES)
    state["staged"] += 1
    state["report_seq"] += 1
    context.counters[0]["messages_out"] += 1
    _clear_details(report)


@primitive
def _clear_details(report: np.void) -> None:
    report["maker"] = 0
    report["last_price_ticks"] = 0
    report["last_quantity_lots"] = 0
    report["execution_id"] = 0
    report["venue_code"] = 0
    report["exchange_time_ns"] = 0


@primitive
def publish_reports(context: Context) -> None:
    """Let risk see what was written."""
    state = context.state[0]
    if state["staged"] > 0:
        ring.commit(state["reports_out"], state["staged"])
        state["staged"] = 0


@routine
def settle(context: Context, row: np.void) -> None:
    """Write down what a message of the venue changed, then tell it: what risk knows, a successor of ours knows too."""
    if context.state[0]["staged"] > 0:
        journal.append(context, row["order_id"] & SLOT_MASK)
        publish_reports(context)


@kernel
def publish_position(context: Context, symbol: int) -> None:
    """Publish a symbol's row of the position table."""
    state = context.state[0]
    seqlock.write(
        state["position_table"] + symbol * state["position_row_bytes"],
        state["positions"] + symbol * POSITION_BYTES,
        POSITION_BYTES,
    )


@kernel
def publish_positions(context: Context) -> None:
    """Publish all of them; from Python one by one, 8,000 take 0.1 s of a restart."""
    for symbol in range(len(context.positions)):
        publish_position(context, symbol)


@primitive
def work(context: Context, row: np.void, lots: int, orders: int) -> None:
    """Change what works at the venue by `lots` and `orders`."""
    position = context.positions[row["symbol"]]
    if row["side"] == BUY:
        position["working_buy_lots"] += lots
    else:
        position["working_sell_lots"] += lots
    position["open_orders"] += orders
    context.state[0]["open_orders"] += orders


@routine
def apply_execution(context: Context) -> None:
    """Take the event (an executionReport, or an order.status answer in its form) into its order."""
    event, counters = context.event[0], context.counters[0]
    row = context.orders[event["order_id"] & SLOT_MASK]
    is_ours = row["order_id"] == event["order_id"] and row["state"] != FREE and row["symbol"] == event["symbol"]
    if not is_ours:
        counters["reports_unmatched"] += 1
        return
    if event["execution_id"] != 0 and event["execution_id"] == row["execution_id"]:
        counters["duplicate_reports"] += 1
        return
    was_open = IS_OPEN[row["state"]]
    lots = event["cumulative_quantity"] // context.grid[row["symbol"]]["lot"] - row["cumulative_lots"]
    target = event["target"]
    if lots < 0 or (not was_open and lots == 0):
        counters["duplicate_reports"] += 1
        return
    row["execution_id"] = event["execution_id"]
    if was_open and target != REJECTED:
        accept(context, row)
    if lots > 0:
        _fill(context, row, lots, not was_open or target == FILLED, was_open)
    if was_open:
        _move(context, row, target, lots)
    settle(context, row)
    publish_position(context, row["symbol"])


@routine
def accept(context: Context, row: np.void) -> None:
    """First evidence that the venue has the order."""
    if context.event[0]["venue_order_id"] > 0:
        row["venue_order_id"] = context.event[0]["venue_order_id"]
    was_unknown = row["state"] == UNKNOWN
    if was_unknown or row["state"] == PENDING_NEW:
        set_state(context, row, WORKING)
    if row["is_acked"] != 0:
        return
    row["is_acked"] = 1
    context.counters[0]["acked"] += 1
    if row["sent_ns"] > 0 and not was_unknown:  # an answer to a question is no acknowledgement to time
        note(context.samples, context.state[0]["ack_hop"], context.state[0]["read_ns"] - row["sent_ns"])
    emit(context, row, REPORT_ACKED, NONE, NOT_FINAL)


@routine
def _fill(context: Context, row: np.void, lots: int, is_final: bool, was_open: bool) -> None:
    event, report, counters = context.event[0], context.report[0], context.counters[0]
    grid = context.grid[row["symbol"]]
    position = context.positions[row["symbol"]]
    quote = event["cumulative_quote"] - row["cumulative_quote"]
    last_price = event["last_price"]
    counters["fills"] += 1
    if row["cumulative_lots"] == 0:
        counters["filled"] += 1
    if lots * grid["lot"] != event["last_quantity"]:
        # Part of this fill was never reported to us: its money is known from the totals, its commission is not.
        counters["fills_without_fee"] += 1
        position["fees_unconverted"] += 1
        last_price = multiply_divide(max(quote, 0), MANTISSA, lots * grid["lot"])
    row["cumulative_lots"] += lots
    row["cumulative_quote"] = event["cumulative_quote"]
    apply_fill(position, row["side"], lots, quote)
    asset = event["commission_asset"]
    is_quote, is_base = asset == grid["quote_asset"], asset == grid["base_asset"]
    apply_fee(position, event["commission"], is_quote, is_base, last_price)
    if was_open:
        work(context, row, -lots, 0)
    report["last_price_ticks"] = last_price // grid["tick"]
    report["last_quantity_lots"] = lots
    report["maker"] = event["is_maker"]
    report["execution_id"] = event["execution_id"]
    report["exchange_time_ns"] = event["exchange_time_ns"]
    if is_final and was_open:
        _close(context, row, FILLED)
    emit(context, row, REPORT_FILLED, NONE, IS_FINAL if is_final else NOT_FINAL)


@primitive
def _move(context: Context, row: np.void, target: int, lots: int) -> None:
    """To `target`, unless the order is there or a cancel is under way for it."""
    if row["state"] == target or (target == WORKING and row["state"] == PENDING_CANCEL):
        return
    if target == WORKING:
        set_state(context, row, WORKING)
        return
    event = context.event[0]
    context.report[0]["execution_id"] = event["execution_id"]
    context.report[0]["exchange_time_ns"] = event["exchange_time_ns"]
    if target == FILLED:
        end(context, row, FILLED, REPORT_FILLED, NONE)  # its last fill was booked before
    elif target == CANCELLED:
        context.counters[0]["cancelled"] += 1
        end(context, row, CANCELLED, REPORT_CANCELLED, NONE)
    elif target == EXPIRED:
        context.counters[0]["expired"] += 1
        end(context, row, EXPIRED, REPORT_EXPIRED, NONE)
    else:
        context.counters[0]["rejected_by_venue"] += 1
        end(context, row, REJECTED, REPORT_REJECTED, VENUE_OTHER)


@primitive
def _close(context: Context, row: np.void, target: int) -> None:
    """Take what is left of an order off the working totals."""
    work(context, row, -(row["quantity_lots"] - row["cumulative_lots"]), -1)
    set_state(context, row, target)


@routine
def end(context: Context, row: np.void, target: int, kind: int, reason: int) -> None:
    """End an open order and say so."""
    _close(context, row, target)
    emit(context, row, kind, reason, IS_FINAL)


VENUE_OTHER = plain(Reason.VENUE_OTHER)

assert ORDER_SLOTS == SLOT_MASK + 1
