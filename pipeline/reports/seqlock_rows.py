"""Rows of a seqlock table read by ordinary Python, for reports and status lines.

The same protocol as `shm.seqlock.try_read`, without entering compiled code: a report must not compile anything.
"""

from typing import Any

import numpy as np

from shm.atomics import peek
from shm.segment import Segment
from shm.seqlock import CELLS, READ_TRIES, VERSION, cell_bytes, row_bytes


def read_row(segment: Segment, dtype: np.dtype, row: int) -> np.ndarray[Any, Any] | None:
    """A copy of the newest value of `row`, shape (1,); None when there is none yet, or none untorn in 64 tries."""
    base = row * row_bytes(dtype.itemsize)
    for _ in range(READ_TRIES):
        version = peek(segment.address + base + VERSION)
        if version == 0:
            return None
        cell = base + CELLS + (version & 1) * cell_bytes(dtype.itemsize)
        if peek(segment.address + cell) != 2 * version:
            continue
        copy = segment.view(dtype, 1, cell + 8).copy()
        if peek(segment.address + cell) == 2 * version:
            return copy
    return None
