"""From the socket to the orders: read, cut frames, parse, apply; in the order of arrival, whatever happens.

Nothing is read, and nothing already read is looked at, while the ring to risk lacks room for what one message can say,
or while the cold side has not yet dealt with a message that the compiled parser did not recognise.
"""

from shm import libc, ring
from shm.atomics import load_word
from shm.clock import now_ns as read_clock
from shm.kernel import kernel, primitive, routine
from stages.domain.codecs import websocket_frames as frames
from stages.domain.codecs.binance_orders import BALANCES, EXECUTION, REPLY, parse_message
from stages.router.lifecycle import REPORTS_PER_MESSAGE, apply_execution
from stages.router.outbound import NO_ERROR, PONG, append_frame, lose
from stages.router.records import CLOSED, IN_BYTES, MESSAGE_BYTES_MAX, PROTOCOL, READ_FAILED, Context
from stages.router.replies import apply_reply

MESSAGES_PER_POLL = 32
READ_BYTES_MIN = IN_BYTES // 4
IPPROTO_TCP, TCP_QUICKACK = 6, 12


@routine
def receive(context: Context) -> int:
    """Handle up to MESSAGES_PER_POLL messages, with at most one read. Returns how many there were."""
    state, counters = context.state[0], context.counters[0]
    handled = 0
    may_read = True
    for _ in range(2 * MESSAGES_PER_POLL):
        if state["fd"] < 0 or state["cold_text"] != 0 or handled == MESSAGES_PER_POLL:
            break
        if ring.room(state["reports_out"], REPORTS_PER_MESSAGE) < REPORTS_PER_MESSAGE:
            counters["backpressure"] += 1
            break
        opcode = frames.cut(state["cutter"], state["in_end"], MESSAGE_BYTES_MAX)
        if opcode == frames.INCOMPLETE:
            if not may_read or not _read(context):
                break
            may_read = False
            continue
        handled += 1
        payload = load_word(state["cutter"] + frames.PAYLOAD)
        size = load_word(state["cutter"] + frames.PAYLOAD_BYTES)
        if opcode == frames.TEXT:
            kind = parse_message(
                payload,
                payload + size,
                context.event,
                state["names"],
                len(context.grid),
                state["prefix"],
                state["prefix_bytes"],
            )
            counters["messages_in"] += 1
            if kind == BALANCES:
                counters["balance_events"] += 1
            elif kind in (EXECUTION, REPLY):
                take_event(context, kind)
            else:
                counters["unrecognised"] += 1
                state["cold_text"], state["cold_bytes"] = payload, size
        elif opcode == frames.PING:
            counters["pings"] += 1
            append_frame(context, payload, size, PONG)
        elif opcode == frames.CLOSE:
            lose(context, CLOSED, NO_ERROR)
        elif opcode < 0:
            lose(context, PROTOCOL, -opcode)
        elif opcode == frames.BINARY:
            state["cold_text"], state["cold_bytes"] = payload, size
    return handled


@routine
def take_event(context: Context, kind: int) -> None:
    """Apply the event, of kind EXECUTION or REPLY."""
    state = context.state[0]
    state["cause_seq"] = 0
    if kind == REPLY:
        apply_reply(context)
    elif context.event[0]["order_id"] > 0:
        apply_execution(context)
    else:
        context.counters[0]["foreign_reports"] += 1


@kernel
def take_cold_event(context: Context, kind: int) -> bool:
    """Apply an event that the cold side has filled in. False, nothing done, while the ring to risk lacks room."""
    if ring.room(context.state[0]["reports_out"], REPORTS_PER_MESSAGE) < REPORTS_PER_MESSAGE:
        return False
    take_event(context, kind)
    return True


@primitive
def _read(context: Context) -> bool:
    """One read into the buffer. False when there was nothing, or the connection is gone."""
    state = context.state[0]
    base, end = state["in_base"], state["in_end"]
    if base + IN_BYTES - end < READ_BYTES_MIN:
        end = frames.compact(state["cutter"], base, end)
        state["in_end"] = end
    count = libc.recv(state["fd"], end, base + IN_BYTES - end, libc.MSG_DONTWAIT)
    if count > 0:
        state["read_ns"] = read_clock(context.clock)
        state["in_end"] = end + count
        # The kernel falls back to delayed acknowledgements by itself; the option does not stay set.
        libc.setsockopt(state["fd"], IPPROTO_TCP, TCP_QUICKACK, state["quick_ack"], 4)
        return True
    if count == 0:
        lose(context, CLOSED, NO_ERROR)
        return False
    error = libc.errno_value()
    if error != libc.EAGAIN and error != libc.EINTR:
        lose(context, READ_FAILED, error)
    return False
