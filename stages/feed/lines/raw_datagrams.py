"""Datagrams of raw messages, one in each or several: nothing says what was lost, so nothing is waited for."""

import numpy as np
from numpy.typing import NDArray

from shm.clock import now_ns as read_clock
from shm.kernel import primitive, routine
from stages.domain.codecs.raw import MESSAGE_BYTES, TRUNCATED, UNKNOWN_TYPE, problem_count, take_datagram
from stages.domain.codecs.raw_market import stage_raw
from stages.feed.blocks import finish_message
from stages.feed.context import Context
from stages.feed.lines.datagrams import NOTHING, receive


@routine
def take_raw(context: Context, raw: NDArray[np.void] | None, lines: NDArray[np.void] | None, limit: int) -> int:
    """Stage the events of up to `limit` messages, reading one datagram at most. Returns 0 when there was nothing."""
    if raw is None:
        return 0
    if lines is None:
        return 0
    state, counters = context.state[0], context.counters[0]
    handled, reads = 0, 0
    while handled < limit:
        if state["message_at"] >= state["block_end"]:
            size = receive(context, lines) if reads == 0 else NOTHING
            if size == NOTHING:
                break
            reads = 1
            counters["frames"] += 1
            state["message_at"], state["block_end"] = state["buffer"], state["buffer"] + size
        message = take_datagram(raw[0]["reader"], state["message_at"], state["block_end"])
        state["message_at"] += MESSAGE_BYTES
        if message == 0:
            counters["short_datagrams"] = problem_count(raw[0]["reader"], TRUNCATED)
            counters["unknown_types"] = problem_count(raw[0]["reader"], UNKNOWN_TYPE)
        else:
            _stage(context, raw[0]["table"], message)
        handled += 1
    return handled + reads


@primitive
def _stage(context: Context, table: int, message: int) -> None:
    state = context.state[0]
    begin_ns = read_clock(context.clock)
    state["messages"] += 1
    code = stage_raw(table, message, state["staging"], state["messages"], state["read_ns"])
    finish_message(context, code, begin_ns)
