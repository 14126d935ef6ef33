"""The one outbound byte queue: orders, cancels, pongs and questions, whole frames in order.

An order is encoded only when the queue is empty, so it goes to the socket in the same call and never waits behind
anything; if the socket takes only a part, the rest is sent before anything else.
"""

from shm import libc
from shm.atomics import load_u8, store_u8
from shm.clock import now_ns as read_clock
from shm.kernel import kernel, primitive, routine
from stages.domain.codecs.websocket_frames import HEADER_BYTES_MAX, finish_client_frame
from stages.domain.samples import note
from stages.router.records import NO_CAUSE, OUT_BYTES, QUEUE_FULL, SEND_FAILED, Context, plain

TEXT, PONG = plain(0x1), plain(0xA)
NO_ERROR = plain(0)
SPACE = plain(ord(" "))
REQUEST_HEADER_BYTES = 8
REQUEST_BYTES_MIN = 126
"""From here to 65,535 bytes a client frame's header has 8 bytes, so that requests are written one behind the other."""
NO_SLOT, NOT_COUNTED = -1, -1
"""In place of the row of an order, and of a stamp that counts for tick to trade."""


@primitive
def next_mask(context: Context) -> int:
    """The next masking key: xorshift64 (Marsaglia 2003), seeded from the system's entropy."""
    x = context.state[0]["mask_state"]
    x ^= x << 13
    x ^= (x >> 7) & 0x01FFFFFFFFFFFFFF  # a logical shift: int64 would drag its sign in
    x ^= x << 17
    context.state[0]["mask_state"] = x
    return x & 0xFFFFFFFF


@routine
def lose(context: Context, cause: int, error: int) -> None:
    """The connection is gone: every open order is now UNKNOWN, from row 0 on, as far as there is room to say so."""
    state = context.state[0]
    if state["lost_cause"] == NO_CAUSE:
        state["lost_cause"] = cause
        state["lost_errno"] = error
    state["fd"] = -1
    state["unknown_cursor"] = 0
    state["out_head"] = state["out_base"]
    state["out_tail"] = state["out_base"]
    state["sending_count"] = 0
    context.counters[0]["connections_lost"] += 1


@primitive
def is_idle(context: Context) -> bool:
    """Whether everything queued was handed to the kernel."""
    return context.state[0]["out_head"] == context.state[0]["out_tail"]


@primitive
def rewind(context: Context) -> None:
    """An empty queue starts again at the front of its memory."""
    state = context.state[0]
    state["out_head"] = state["out_base"]
    state["out_tail"] = state["out_base"]


@primitive
def text_address(context: Context) -> int:
    """Where the text of the next request is to be written."""
    return context.state[0]["out_tail"] + REQUEST_HEADER_BYTES


@primitive
def frame_request(context: Context, text_bytes: int) -> None:
    """Queue the text written at `text_address`, filled up with spaces to a length whose header is of the one size."""
    state = context.state[0]
    text = text_address(context)
    while text_bytes < REQUEST_BYTES_MIN:
        store_u8(text + text_bytes, SPACE)
        text_bytes += 1
    finish_client_frame(text, text_bytes, TEXT, next_mask(context))
    state["out_tail"] = text + text_bytes


@primitive
def queue_request(context: Context, text_bytes: int, slot: int, read_ns: int) -> int:
    """Queue a request's text; remember the row of a new order (NO_SLOT for a cancel). Returns when it was ready."""
    state = context.state[0]
    frame_request(context, text_bytes)
    sending = context.sending[state["sending_count"]]
    sending["slot"], sending["read_ns"] = slot, read_ns
    state["sending_count"] += 1
    return read_clock(context.clock)


@kernel
def append_frame(context: Context, source: int, payload_bytes: int, opcode: int) -> bool:
    """Queue a copy of a payload behind what is there. False, and the connection is given up, when there is no room."""
    state = context.state[0]
    if state["out_head"] == state["out_tail"]:
        state["out_head"] = state["out_base"]
        state["out_tail"] = state["out_base"]
    tail = state["out_tail"]
    payload = tail + HEADER_BYTES_MAX
    if payload + payload_bytes > state["out_base"] + OUT_BYTES:
        lose(context, QUEUE_FULL, NO_ERROR)
        return False
    for index in range(payload_bytes):
        store_u8(payload + index, load_u8(source + index))
    frame = finish_client_frame(payload, payload_bytes, opcode, next_mask(context))
    size = payload + payload_bytes - frame
    libc.memmove(tail, frame, size)  # the header is shorter than the room kept for it
    state["out_tail"] = tail + size
    return True


@routine
def flush(context: Context) -> None:
    """Hand to the kernel as much of the queue as it takes now."""
    state = context.state[0]
    head, tail = state["out_head"], state["out_tail"]
    if head == tail or state["fd"] < 0:
        return
    sent = libc.send(state["fd"], head, tail - head, libc.MSG_DONTWAIT | libc.MSG_NOSIGNAL)
    if sent < 0:
        error = libc.errno_value()
        if error != libc.EAGAIN and error != libc.EINTR:
            lose(context, SEND_FAILED, error)
        return
    state["out_head"] = head + sent
    if sent < tail - head:
        context.counters[0]["short_sends"] += 1
    else:
        _sent(context)


@primitive
def _sent(context: Context) -> None:
    """The last byte of every request queued is with the operating system."""
    state = context.state[0]
    now = read_clock(context.clock)
    for index in range(state["sending_count"]):
        sending = context.sending[index]
        if sending["slot"] != NO_SLOT:
            context.orders[sending["slot"]]["sent_ns"] = now
        if sending["read_ns"] != NOT_COUNTED:
            note(context.samples, state["tick_to_trade_hop"], now - sending["read_ns"])
    state["sending_count"] = 0
