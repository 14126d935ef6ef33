"""Bytes into the receive buffer: from a socket that never blocks, or from memory."""

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_word
from shm.clock import REALTIME_OFFSET_NS
from shm.clock import now_ns as read_clock
from shm.kernel import routine
from shm.libc import EAGAIN, EINTR, MSG_DONTWAIT, errno_value, memmove, recv, recvmsg, setsockopt
from stages.domain.codecs import websocket_frames
from stages.domain.samples import note
from stages.feed.context import END_OF_STREAM, MEMORY_SOURCE, MESSAGE, Context

READ_BYTES_MAX = 262_144
"""Most bytes of one read: more would make the first message in it wait for the copying of the last."""
SPACE_BYTES_MIN = 65_536
SAMPLE_MASK = 63
"""One read in 64 asks for the kernel's receive time, and re-arms quick acknowledgements."""

_IPPROTO_TCP, _TCP_QUICKACK = 6, 12
_SOL_SOCKET, SO_TIMESTAMPNS = 1, 35


def _offset(field: str) -> int:
    assert MESSAGE.fields is not None
    return int(MESSAGE.fields[field][1])


_IOVEC, _CONTROL, _ONE = _offset("base"), _offset("header_bytes"), _offset("one")
_CONTROL_BYTES = _ONE - _CONTROL
_TIMESTAMP_BYTES = 32
"""cmsg_len of a timespec: a header of 16 bytes and two words."""
# The C layouts that the kernel of the operating system sees: struct msghdr is 56 bytes, iovec follows.
assert [_offset(name) for name in ("iovec", "control", "control_bytes", "base", "bytes")] == [16, 32, 40, 56, 64]
assert _offset("seconds") - _CONTROL == 16


@routine
def read_bytes(context: Context) -> int:
    """Read once into the buffer. Returns the bytes read; 0 when there is nothing or the connection ended (`lost`)."""
    state = context.state[0]
    if load_word(state["cutter"] + websocket_frames.POSITION) == state["fill"] or (
        state["buffer_end"] - state["fill"] < SPACE_BYTES_MIN
    ):
        state["fill"] = websocket_frames.compact(state["cutter"], state["buffer"], state["fill"])
    space = min(state["buffer_end"] - state["fill"], READ_BYTES_MAX)
    if state["descriptor"] == MEMORY_SOURCE:
        count = min(space, state["source_end"] - state["source_at"])
        if count <= 0:
            return 0
        memmove(state["fill"], state["source_at"], count)
        state["source_at"] += count
        state["read_ns"] = read_clock(context.clock)
    elif state["reads"] & SAMPLE_MASK == 0:
        count = _read_stamped(context, context.message, space)
    else:
        count = recv(state["descriptor"], state["fill"], space, MSG_DONTWAIT)
        if count > 0:
            state["read_ns"] = read_clock(context.clock)
    if count > 0:
        state["fill"] += count
        state["reads"] += 1
        return count
    if count == 0:
        state["lost"] = END_OF_STREAM
    else:
        error = errno_value()
        if error not in (EAGAIN, EINTR):
            state["lost"] = error
    return 0


@routine
def _read_stamped(context: Context, header: NDArray[np.void] | None, space: int) -> int:
    """As recv, with the time at which the operating system received the bytes (SO_TIMESTAMPNS, CLOCK_REALTIME)."""
    if header is None:
        return 0
    state, message = context.state[0], header[0]
    base = state["message"]
    message["iovec"], message["iovec_count"] = base + _IOVEC, 1
    message["control"], message["control_bytes"] = base + _CONTROL, _CONTROL_BYTES
    message["base"], message["bytes"] = state["fill"], space
    message["header_bytes"] = 0
    count = recvmsg(state["descriptor"], base, MSG_DONTWAIT)
    if count <= 0:
        return count
    state["read_ns"] = read_clock(context.clock)
    is_stamped = message["header_level"] == _SOL_SOCKET and message["header_type"] == SO_TIMESTAMPNS
    if message["header_bytes"] == _TIMESTAMP_BYTES and is_stamped:
        received_ns = message["seconds"] * 1_000_000_000 + message["nanoseconds"] - context.clock[REALTIME_OFFSET_NS]
        note(context.samples, state["queue_hop"], state["read_ns"] - received_ns)
    message["one"] = 1
    setsockopt(state["descriptor"], _IPPROTO_TCP, _TCP_QUICKACK, base + _ONE, 4)
    return count
