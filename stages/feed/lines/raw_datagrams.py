"""Datagrams of raw messages, one in each or several: nothing says what was lost, so nothing is waited for."""

import numpy as np
from numpy.typing import NDArray

from shm.kernel import routine
from stages.feed.blocks import take_raw_message
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
        take_raw_message(context, raw)
        handled += 1
    return handled + reads
