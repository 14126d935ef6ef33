"""Where a feed's events go, whatever brings its bytes: a private ring, where they are made, and the book's."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm import ring
from shm.atomics import peek
from shm.histogram import HISTOGRAM_BYTES
from shm.layout import record_at
from shm.segment import Segment
from stages.agent import Array, SegmentUse
from stages.domain.edges import FEED_TO_BOOK, RINGS
from stages.domain.messages import MARKET
from stages.domain.tap import LAYOUT, TAP, newest_number
from stages.feed.context import Context

STAGING_RECORDS = 16_384
"""Room for the largest snapshot (5000 levels a side: 2500 records) and a full hold behind it."""

USES = (SegmentUse(FEED_TO_BOOK, RINGS[FEED_TO_BOOK], True), SegmentUse(TAP, LAYOUT, True))


def new_staging() -> tuple[NDArray[Any], int]:
    """(memory, address) of the private ring where events are made."""
    memory = np.zeros(ring.ring_bytes(STAGING_RECORDS, MARKET.itemsize) // 8 + 16, np.int64)
    base = -(-memory.ctypes.data // 128) * 128
    ring.format_ring(base, STAGING_RECORDS, MARKET.itemsize)
    return memory, base


def is_empty(base: int) -> bool:
    """Whether nothing waits in a ring."""
    head, tail = ring.cursors(base)
    return head == tail


def attached(context: Context, segments: Mapping[str, Segment], page: Array, clock: Array) -> Context:
    """`context`, pointed at the segments of USES, at the page and at the clock."""
    state = context.state[0]
    state["output"], state["tap"] = segments[FEED_TO_BOOK].address, segments[TAP].address
    state["frames_tapped"] = newest_number(int(state["tap"]))
    hops = page["hops"].ctypes.data
    state["queue_hop"], state["parse_hop"] = hops, hops + HISTOGRAM_BYTES
    output = int(state["output"])
    if ring.begin_writing(output) > 1:  # an earlier feed has written here: what its books said is not kept up
        state["reset_wanted"] = 1
        last = ring.newest(output)
        state["event_seq"] = record_at(last, MARKET)["seq"] if last else 0
    state["reader_epoch"] = peek(output + ring.READER_EPOCH)
    return context._replace(counters=page["counters"], clock=clock)
