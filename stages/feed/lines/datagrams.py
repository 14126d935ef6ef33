"""Datagrams into the receive buffer, one at a time: from the sockets of several lines in turn, or from memory."""

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_word
from shm.clock import now_ns as read_clock
from shm.kernel import primitive, routine
from shm.libc import EAGAIN, EINTR, MSG_DONTWAIT, errno_value, memmove, recv
from stages.domain.tap import show
from stages.feed.context import MEMORY_SOURCE, Context

DATAGRAM_BYTES_MAX = 65_536
"""Room for one; the longest that UDP can carry has 65,507."""
NOTHING = -1
LINE_SHIFT = 32
"""In memory a datagram stands behind a word, its size and its line << LINE_SHIFT, in whole words."""


@routine
def receive(context: Context, lines: NDArray[np.void]) -> int:
    """Read one datagram into the buffer; `lines` says by which line. Returns its bytes, or NOTHING.

    The one before is done with, and the book has it: it is shown to whoever observes.
    """
    state = context.state[0]
    if lines[0]["bytes"] > 0:
        show(state["tap"], state["buffer"], lines[0]["bytes"], state["read_ns"], lines[0]["line"])
        lines[0]["bytes"] = 0
    if state["descriptor"] == MEMORY_SOURCE:
        return _copy_next(context, lines)
    for _ in range(lines[0]["count"]):
        line = lines[0]["turn"]
        lines[0]["turn"] = line + 1 if line + 1 < lines[0]["count"] else 0
        size = recv(lines[0]["descriptors"][line], state["buffer"], DATAGRAM_BYTES_MAX, MSG_DONTWAIT)
        if size >= 0:
            _note_read(context, lines, line, size)
            return size
        error = errno_value()
        if error not in (EAGAIN, EINTR):
            lines[0]["error"], lines[0]["error_line"] = error, line
    return NOTHING


@primitive
def _copy_next(context: Context, lines: NDArray[np.void]) -> int:
    state = context.state[0]
    at = state["source_at"]
    if at >= state["source_end"]:
        return NOTHING
    size, line = load_word(at) & 0xFFFF, load_word(at) >> LINE_SHIFT
    memmove(state["buffer"], at + 8, size)
    state["source_at"] = at + 8 + (size + 7) // 8 * 8
    _note_read(context, lines, line, size)
    return size


@primitive
def _note_read(context: Context, lines: NDArray[np.void], line: int, size: int) -> None:
    state = context.state[0]
    state["read_ns"] = read_clock(context.clock)
    state["reads"] += 1
    lines[0]["line"], lines[0]["bytes"] = line, size
    lines[0]["datagrams"][line] += 1
    context.counters[0]["datagrams"] += 1
