"""What takes datagrams off the sockets in the benchmark of lines: the feed's own parts, and what they could have been.

Each loop takes all that is there. A tally counts the messages, and those that are not the one that is expected: an
order's reference is its sequence number.
"""

# mypy: disable-error-code="no-untyped-def"

import ctypes

import numpy as np
from numba import types

from shm import ring
from shm.atomics import JIT, load_u32, load_word, store_word
from shm.clock import now_ns as read_clock
from shm.kernel import kernel, primitive, routine
from shm.layout import field_offset, record_dtype
from shm.libc import MSG_DONTWAIT
from stages.domain.codecs.arbitration import offer, take
from stages.domain.codecs.big_endian import load_big_u64
from stages.domain.codecs.itch import MESSAGES
from stages.domain.messages import MARKET
from stages.feed.context import Context
from stages.feed.lines.datagrams import NOTHING, receive
from stages.feed.lines.packets import take_packets

BATCH, BUFFER_BYTES = 32, 2_048
TALLY = record_dtype([("expected", "<i8"), ("messages", "<i8"), ("wrong", "<i8")], 64)
# struct mmsghdr and iovec of 64-bit Linux.
MMSGHDR = record_dtype(
    [
        ("name", "<i8"), ("name_bytes", "<i8"), ("iovec", "<i8"), ("iovec_count", "<i8"), ("control", "<i8"),
        ("control_bytes", "<i8"), ("flags", "<i8"), ("bytes", "<u4"),
    ],
    64,
)  # fmt: skip
IOVEC = np.dtype([("base", "<i8"), ("bytes", "<i8")])
_BYTES = field_offset(MMSGHDR, "bytes")
_REFERENCE_AT = 2 + field_offset(MESSAGES["A"], "order_reference")
_LAST_ID = field_offset(MARKET, "last_id")

if JIT:
    recvmmsg = types.ExternalFunction(
        "recvmmsg", types.int32(types.int32, types.int64, types.uint32, types.int32, types.int64)
    )
else:
    _recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
    _recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p]

    def recvmmsg(descriptor, headers, count, flags, timeout):
        return _recvmmsg(int(descriptor), int(headers), int(count), int(flags), int(timeout) or None)


@primitive
def _look(tally: int, number: int) -> None:
    expected = load_word(tally)
    if number != expected:
        store_word(tally + 16, load_word(tally + 16) + 1)
    store_word(tally, expected + 1)
    store_word(tally + 8, load_word(tally + 8) + 1)


@routine
def _take_all(arbiter: int, tally: int) -> None:
    block = take(arbiter)
    while block != 0:
        _look(tally, load_big_u64(block + _REFERENCE_AT))
        block = take(arbiter)


@kernel
def take_messages(context: Context, arbiter: int, tally: int) -> None:
    """The feed's own: one datagram at a time, the lines in turn."""
    state, lines = context.state[0], context.lines
    if lines is not None:
        size = receive(context, lines)
        while size != NOTHING:
            offer(arbiter, lines[0]["line"], state["buffer"], state["buffer"] + size, state["read_ns"])
            _take_all(arbiter, tally)
            size = receive(context, lines)


@kernel
def take_messages_batched(context: Context, arbiter: int, tally: int, headers: int, buffers: int) -> None:
    """Up to BATCH datagrams of a line with one system call, then those of the next one."""
    lines = context.lines
    if lines is not None:
        empty, line, count = 0, 0, lines[0]["count"]
        while empty < count:
            got = recvmmsg(lines[0]["descriptors"][line], headers, BATCH, MSG_DONTWAIT, 0)
            read_ns = read_clock(context.clock)
            empty = empty + 1 if got <= 0 else 0
            for index in range(got):
                packet = buffers + index * BUFFER_BYTES
                offer(arbiter, line, packet, packet + load_u32(headers + index * 64 + _BYTES), read_ns)
                _take_all(arbiter, tally)
            line = line + 1 if line + 1 < count else 0


@kernel
def take_events(context: Context, tally: int) -> None:
    """All of the feed's path: to the events that it stages for the book, one message a poll."""
    state = context.state[0]
    staging = state["staging"]
    while take_packets(context, context.packets, context.lines, context.directory, state["read_ns"], 1) != 0:
        staged = ring.available(staging, 1)
        for index in range(staged):
            _look(tally, load_word(ring.slot(staging, load_word(staging + ring.HEAD) + index) + _LAST_ID))
        ring.advance(staging, staged)


class Batch:
    """Memory for `recvmmsg`."""

    def __init__(self) -> None:
        self._buffers = np.zeros((BATCH, BUFFER_BYTES), np.uint8)
        self._vectors, self._headers = np.zeros(BATCH, IOVEC), np.zeros(BATCH, MMSGHDR)
        self.buffers, self.headers = self._buffers.ctypes.data, self._headers.ctypes.data
        self._vectors["base"] = self.buffers + BUFFER_BYTES * np.arange(BATCH)
        self._vectors["bytes"] = BUFFER_BYTES
        self._headers["iovec"] = self._vectors.ctypes.data + IOVEC.itemsize * np.arange(BATCH)
        self._headers["iovec_count"] = 1
