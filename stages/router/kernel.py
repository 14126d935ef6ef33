"""The router's hot side: orders to the venue first, then what the venue says, then what a stop asks for.

An order is taken from its ring only when the outbound queue is empty, that is, when the socket took all that came
before; the venue's side is read only while the ring to risk has room. So neither side can lose anything.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm import libc, ring
from shm.clock import REALTIME_OFFSET_NS
from shm.clock import now_ns as read_clock
from shm.kernel import kernel, primitive, routine
from stages.agent import Poll
from stages.domain.codecs.binance_orders import (
    CANCEL_BY_CLIENT_ID,
    CANCEL_BY_ORDER_ID,
    TEMPLATE_BYTES,
    TEMPLATES_PER_SYMBOL,
    encode_cancel,
    encode_place,
    place_template,
)
from stages.domain.messages import ORDER, OrderKind, OrderType, Origin, Reason, ReportKind, ReportOrigin
from stages.domain.orders import IS_OPEN, ORDER_SLOTS, SLOT_MASK, OrderState
from stages.domain.samples import WARM_SAMPLES_BYTES, count_noted, note
from stages.domain.warming import warm, warm_records
from stages.router import journal
from stages.router.inbound import receive
from stages.router.lifecycle import (
    FREE,
    IS_FINAL,
    NONE,
    NOT_FINAL,
    PENDING_CANCEL,
    PENDING_NEW,
    REPORT_CANCEL_REJECTED,
    REPORT_CANCELLED,
    REPORT_EXPIRED,
    REPORT_FILLED,
    REPORT_REJECTED,
    REPORT_UNKNOWN,
    UNKNOWN,
    WORKING,
    emit,
    publish_position,
    publish_reports,
    set_state,
    work,
)
from stages.router.outbound import (
    NO_SLOT,
    NOT_COUNTED,
    flush,
    frame_request,
    is_idle,
    queue_request,
    rewind,
    text_address,
)
from stages.router.records import NOT_TELLING, ORDER_ROW, ORDERS_PER_POLL, Context, plain

SEND_REHEARSAL_NS = 50_000
"""Least time between two sends to ourselves: one takes about 8 us."""
DRAIN_BYTES_MAX = 1 << 20

ROWS_PER_POLL = 128
"""Rows of the order table looked at in one poll, when all have to be."""

ORDER_BYTES, ORDER_ROW_BYTES = ORDER.itemsize, ORDER_ROW.itemsize
NEW = int(OrderKind.NEW)
MARKET = int(OrderType.MARKET)
MARKET_DATA = int(Origin.MARKET_DATA)
TRADING_STOPPED = plain(Reason.TRADING_STOPPED)
NOT_CONNECTED = plain(Reason.NOT_CONNECTED)
NO_ANSWER = plain(Reason.NO_ANSWER)
ROUTER_FULL = plain(Reason.ROUTER_FULL)
UNKNOWN_ORDER = plain(Reason.UNKNOWN_ORDER)
SERVICE = int(Poll.SERVICE)
NEWS, RETOLD = plain(ReportOrigin.ROUTER), plain(ReportOrigin.RETOLD)
REPORT_POSITION, REPORT_STATE_END = plain(ReportKind.POSITION), plain(ReportKind.STATE_END)


def _kinds_of_states() -> NDArray[np.int64]:
    kinds = np.full(len(OrderState), int(ReportKind.WORKING), np.int64)
    kinds[OrderState.FILLED], kinds[OrderState.CANCELLED] = REPORT_FILLED, REPORT_CANCELLED
    kinds[OrderState.EXPIRED], kinds[OrderState.REJECTED] = REPORT_EXPIRED, REPORT_REJECTED
    return kinds


KIND_OF_STATE = _kinds_of_states()
"""Kind of the report that tells an order's state again."""


@routine
def poll(context: Context, now_ns: int) -> int:
    """One turn of the router. Returns how much it handled, or Poll.SERVICE when the cold side has something to do."""
    state = context.state[0]
    if not journal.has_room(context):
        return SERVICE
    flush(context)
    handled = take_orders(context)
    if state["tell_cursor"] != NOT_TELLING:
        handled += tell_state(context)
    if state["unknown_cursor"] < ORDER_SLOTS:  # first, or what a new session says would meet orders not yet marked
        handled += mark_unknown(context)
    elif state["fd"] >= 0:
        handled += receive(context)
        if state["is_cancelling"] != 0:
            handled += sweep(context, now_ns)
    if state["cold_text"] != 0 or state["lost_cause"] != 0:
        return SERVICE
    if handled == 0:
        if context.samples[0] > 0:
            count_noted(context.samples)
        if ring.reader_epoch(state["reports_out"]) != state["told_epoch"]:
            state["told_epoch"], state["tell_cursor"] = ring.reader_epoch(state["reports_out"]), 0
        if now_ns >= state["next_rehearsal_ns"] and is_idle(context):
            state["next_rehearsal_ns"] = now_ns + state["rehearsal_interval_ns"]
            rehearse(context, now_ns)
    return handled


@kernel
def poll_once(context: Context, now_ns: int) -> int:
    """One `poll`, entered from Python: for lines that are stepped by hand, and to set up rehearsals."""
    return poll(context, now_ns)


@primitive
def take_orders(context: Context) -> int:
    """Answer, or encode and send, up to ORDERS_PER_POLL orders and cancels; what is sent goes out in one call.

    One call, because it costs 5 us whatever it carries: the second order of a decision does not wait for the first's.
    """
    state = context.state[0]
    if not is_idle(context):
        return 0
    rewind(context)
    handled = 0
    while handled < ORDERS_PER_POLL and ring.room(state["reports_out"], 1) >= 1:
        source = ring.peek_record(state["orders_in"])
        if source == 0:
            break
        popped_ns = read_clock(context.clock)
        ring.copy_record(state["order"], source, ORDER_BYTES)
        order = context.order[0]
        if np.int64(order["kind"]) == NEW:
            _take_new(context, order, popped_ns)
        else:
            _take_cancel(context, order, popped_ns)
        note(context.samples, state["transport_hop"], popped_ns - order["publish_ns"])
        context.counters[0]["messages_in"] += 1
        handled += 1
    send_queued(context)
    return handled


@routine
def _take_new(context: Context, order: np.void, popped_ns: int) -> None:
    state, counters = context.state[0], context.counters[0]
    row = context.orders[order["order_id"] & SLOT_MASK]
    reason = NONE
    if state["is_stopped"] != 0:
        reason = TRADING_STOPPED
    elif not _is_connected(state):
        reason = NOT_CONNECTED
    elif IS_OPEN[row["state"]]:
        reason = ROUTER_FULL
    if reason != NONE:
        counters["refused"] += 1
        _answer(context, order, REPORT_REJECTED, reason, IS_FINAL)
        return
    text_bytes = encode_new(context, order, popped_ns)
    read_ns = order["read_ns"] if np.int64(order["origin"]) == MARKET_DATA else NOT_COUNTED
    slot = order["order_id"] & SLOT_MASK
    note(context.samples, state["encode_hop"], queue_request(context, text_bytes, slot, read_ns) - popped_ns)
    row["order_id"] = order["order_id"]
    set_state(context, row, PENDING_NEW)
    row["symbol"] = np.int64(order["symbol"])
    row["side"] = np.int64(order["side"])
    row["price_ticks"] = order["price_ticks"]
    row["quantity_lots"] = order["quantity_lots"]
    row["cumulative_lots"] = 0
    row["cumulative_quote"] = 0
    row["venue_order_id"] = 0
    row["execution_id"] = 0
    row["sent_ns"] = 0
    row["is_acked"] = 0
    row["requested_ns"] = popped_ns
    row["asked_ns"] = 0
    counters["sent"] += 1
    work(context, row, row["quantity_lots"], 1)
    state["last_order_id"] = order["order_id"]
    # Written down, then consumed, then sent: whatever dies in between, it is sent at most once, and never forgotten.
    _take(context, order, slot)


@primitive
def _take(context: Context, order: np.void, slot: int) -> None:
    """The order record is acted on: write down what became of row `slot`, then consume it."""
    context.state[0]["taken_seq"] = order["seq"]
    journal.append(context, slot)
    ring.advance(context.state[0]["orders_in"], 1)


@primitive
def send_queued(context: Context) -> None:
    """Send what was encoded; then publish the positions that it changes: nobody waits for those."""
    state = context.state[0]
    count = state["sending_count"]
    if count == 0:
        return
    ready_ns = read_clock(context.clock)
    flush(context)
    sent_ns = read_clock(context.clock)
    for index in range(count):
        note(context.samples, state["send_hop"], sent_ns - ready_ns)
        slot = context.sending[index]["slot"]
        if slot != NO_SLOT:
            publish_position(context, context.orders[slot]["symbol"])


@routine
def encode_new(context: Context, order: np.void, now_ns: int) -> int:
    """Write a new order's text behind what is queued; returns its length. Not inlined, for the rehearsal's sake."""
    state = context.state[0]
    symbol: Any = np.int64(order["symbol"])
    side: Any = np.int64(order["side"])
    order_type: Any = np.int64(order["order_type"])
    time_in_force: Any = np.int64(order["time_in_force"])
    grid = context.grid[symbol]
    template = place_template(side, order_type, time_in_force)
    at = text_address(context)
    return (
        encode_place(
            at,
            _template(state, symbol, template),
            order["order_id"],
            order["quantity_lots"] * grid["quantity_units"],
            grid["quantity_decimals"],
            order["price_ticks"] * grid["price_units"],
            grid["price_decimals"],
            order_type != MARKET,
            _timestamp_us(context, now_ns),
        )
        - at
    )


@primitive
def rehearse(context: Context, now_ns: int) -> None:
    """Encode and frame an order where the next one will be, and send it to ourselves, to keep a real one's way cached.

    Without it an order out of the blue took 1000 ns to encode instead of 230, and the operating system twice as long
    to send it (62 us against 32 on a bad day; a rehearsal each 1 ms is enough). The queue is empty again afterwards.
    """
    state, order = context.state[0], context.rehearsal[0]
    order["order_id"] = state["last_order_id"] + 1
    if IS_OPEN[context.orders[order["order_id"] & SLOT_MASK]["state"]]:
        return
    rewind(context)
    frame_request(context, encode_new(context, order, now_ns))
    if state["rehearsal_fd"] >= 0 and now_ns >= state["next_send_rehearsal_ns"]:
        state["next_send_rehearsal_ns"] = now_ns + SEND_REHEARSAL_NS
        head = state["out_head"]
        libc.send(state["rehearsal_fd"], head, state["out_tail"] - head, libc.MSG_DONTWAIT | libc.MSG_NOSIGNAL)
        libc.recv(state["rehearsal_sink"], head, DRAIN_BYTES_MAX, libc.MSG_DONTWAIT | libc.MSG_TRUNC)
    rewind(context)
    slot = order["order_id"] & SLOT_MASK
    warm(context.orders.ctypes.data + slot * ORDER_ROW_BYTES, 2 * ORDER_ROW_BYTES)
    warm(state["templates"], len(context.grid) * TEMPLATES_PER_SYMBOL * TEMPLATE_BYTES)
    warm_records(context.counters)
    warm_records(context.positions)
    warm_records(context.sending)
    warm(context.samples.ctypes.data, WARM_SAMPLES_BYTES)
    warm(state["position_table"], len(context.grid) * state["position_row_bytes"])


@routine
def _take_cancel(context: Context, order: np.void, popped_ns: int) -> None:
    state = context.state[0]
    row = context.orders[order["order_id"] & SLOT_MASK]
    reason = NONE
    if row["order_id"] != order["order_id"] or row["state"] == FREE or not IS_OPEN[row["state"]]:
        reason = UNKNOWN_ORDER
    elif not _is_connected(state) or row["state"] == UNKNOWN:
        reason = NOT_CONNECTED  # its fate is being asked for; the answer is reported
    if reason != NONE:
        context.counters[0]["cancels_not_sent"] += 1
        _answer(context, order, REPORT_CANCEL_REJECTED, reason, NOT_FINAL)
        return
    if row["state"] != PENDING_CANCEL:
        queue_cancel(context, row, popped_ns)
    _take(context, order, order["order_id"] & SLOT_MASK)


@primitive
def _is_connected(state: np.void) -> bool:
    return state["fd"] >= 0 and state["unknown_cursor"] >= ORDER_SLOTS


@primitive
def _template(state: np.void, symbol: int, index: int) -> int:
    return state["templates"] + (symbol * TEMPLATES_PER_SYMBOL + index) * TEMPLATE_BYTES


@primitive
def _timestamp_us(context: Context, now_ns: int) -> int:
    return (now_ns + context.clock[REALTIME_OFFSET_NS]) // 1_000


@routine
def queue_cancel(context: Context, row: np.void, now_ns: int) -> None:
    """Encode a cancel of an open order; `send_queued` sends it."""
    state = context.state[0]
    index = CANCEL_BY_ORDER_ID if row["venue_order_id"] > 0 else CANCEL_BY_CLIENT_ID
    at = text_address(context)
    end = encode_cancel(
        at,
        _template(state, row["symbol"], index),
        row["order_id"],
        row["venue_order_id"],
        _timestamp_us(context, now_ns),
    )
    set_state(context, row, PENDING_CANCEL)
    row["requested_ns"] = now_ns
    note(context.samples, state["encode_hop"], queue_request(context, end - at, NO_SLOT, NOT_COUNTED) - now_ns)
    context.counters[0]["cancels_sent"] += 1


@routine
def _answer(context: Context, order: np.void, kind: int, reason: int, final: int) -> None:
    """Publish the router's own report on an order it does not send, then consume the order."""
    state = context.state[0]
    row = context.orders[ORDER_SLOTS]  # beyond the table: describes an order that has no row
    row["order_id"] = order["order_id"]
    row["state"] = FREE
    row["symbol"] = np.int64(order["symbol"])
    row["side"] = np.int64(order["side"])
    row["price_ticks"] = order["price_ticks"]
    row["quantity_lots"] = order["quantity_lots"]
    own = context.orders[order["order_id"] & SLOT_MASK]
    row["cumulative_lots"] = own["cumulative_lots"] if own["order_id"] == order["order_id"] else 0
    state["cause_seq"] = order["seq"]
    read_ns = state["read_ns"]
    state["read_ns"] = order["read_ns"]
    emit(context, row, kind, reason, final)
    publish_reports(context)
    state["read_ns"] = read_ns
    ring.advance(state["orders_in"], 1)


@routine
def mark_unknown(context: Context) -> int:
    """After a lost connection: the next rows' open orders become UNKNOWN. Returns how many rows were looked at."""
    state = context.state[0]
    state["cause_seq"] = 0
    looked = 0
    for _ in range(ROWS_PER_POLL):
        cursor = state["unknown_cursor"]
        if cursor >= ORDER_SLOTS or ring.room(state["reports_out"], 1) < 1:
            break
        row = context.orders[cursor]
        if IS_OPEN[row["state"]] and row["state"] != UNKNOWN:
            set_state(context, row, UNKNOWN)
            emit(context, row, REPORT_UNKNOWN, NOT_CONNECTED, NOT_FINAL)
            publish_reports(context)
        state["unknown_cursor"] = cursor + 1
        looked += 1
    return looked


@kernel
def write_all(context: Context) -> None:
    """Write down every order and every position there is: the beginning of a journal's next file.

    A position of zeros is what a reader begins with: of thousands of symbols most were never traded.
    """
    for slot in range(ORDER_SLOTS):
        if context.orders[slot]["order_id"] > 0:
            journal.append(context, slot)
    scratch = context.orders[ORDER_SLOTS]  # beyond the table: an order of the symbol, that is none
    for symbol in range(len(context.positions)):
        scratch["order_id"], scratch["state"], scratch["symbol"] = 0, FREE, symbol
        if journal.is_any(context, symbol):
            journal.append(context, ORDER_SLOTS)


@routine
def tell_state(context: Context) -> int:
    """Tell risk the state of every order and position, as far as there is room: after a start of its, or of ours.

    Rows first, then positions, then the end: whoever starts with nothing takes the rows as they are, moves positions
    by what comes in between, and has them right when it has got them. What is no news changes nothing.
    """
    state, report = context.state[0], context.report[0]
    state["cause_seq"], state["origin"] = 0, RETOLD
    scratch = context.orders[ORDER_SLOTS]
    told = 0
    while told < ROWS_PER_POLL and ring.room(state["reports_out"], told + 1) > told + 1:
        number = state["tell_cursor"]
        if number < ORDER_SLOTS:
            row = context.orders[number]
            if row["state"] != FREE:
                final = NOT_FINAL if IS_OPEN[row["state"]] else IS_FINAL
                report["execution_id"] = row["execution_id"]
                emit(context, row, KIND_OF_STATE[row["state"]], NONE, final)
        elif number < ORDER_SLOTS + len(context.positions):
            scratch["order_id"], scratch["state"], scratch["symbol"] = 0, FREE, number - ORDER_SLOTS
            scratch["cumulative_lots"] = context.positions[number - ORDER_SLOTS]["quantity_lots"]
            emit(context, scratch, REPORT_POSITION, NONE, NOT_FINAL)
        else:
            scratch["order_id"], scratch["state"], scratch["symbol"] = state["last_order_id"], FREE, 0
            scratch["cumulative_lots"] = 0
            report["execution_id"] = state["told_epoch"]
            emit(context, scratch, REPORT_STATE_END, NONE, NOT_FINAL)
        told += 1
        state["tell_cursor"] = number + 1
        if number == ORDER_SLOTS + len(context.positions):
            state["tell_cursor"] = NOT_TELLING
            break
    publish_reports(context)
    state["origin"] = NEWS
    return told


@kernel
def mark_overdue(context: Context, now_ns: int) -> None:
    """Orders and cancels that the venue leaves without an answer: their orders become UNKNOWN, so that it is asked."""
    state = context.state[0]
    state["cause_seq"] = 0
    for slot in range(ORDER_SLOTS):
        row = context.orders[slot]
        is_pending = row["state"] == PENDING_NEW or row["state"] == PENDING_CANCEL
        if not is_pending or now_ns - row["requested_ns"] < state["answer_wait_ns"]:
            continue
        if ring.room(state["reports_out"], 1) < 1:
            break
        set_state(context, row, UNKNOWN)
        emit(context, row, REPORT_UNKNOWN, NO_ANSWER, NOT_FINAL)
        publish_reports(context)


@routine
def sweep(context: Context, now_ns: int) -> int:
    """Cancel what works, row by row, again and again, until nothing does. Returns how many cancels were sent."""
    state = context.state[0]
    if state["open_orders"] == 0 or now_ns < state["next_sweep_ns"]:
        return 0
    if not is_idle(context) or state["fd"] < 0:
        return 0
    rewind(context)
    sent = 0
    for _ in range(ROWS_PER_POLL):
        row = context.orders[state["sweep_cursor"]]
        if row["state"] == WORKING:
            queue_cancel(context, row, read_clock(context.clock))
            sent += 1
        state["sweep_cursor"] += 1
        if state["sweep_cursor"] == ORDER_SLOTS:
            state["sweep_cursor"] = 0
            state["next_sweep_ns"] = now_ns + state["sweep_interval_ns"]
            break
        if sent == ORDERS_PER_POLL:
            break
    send_queued(context)
    return sent
