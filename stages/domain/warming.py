"""Keeping memory at hand that the next tick will need: cache lines asked for in idle cycles, changed by nobody.

Rings advance, so a record's slot was last touched a lap ago; rows and levels of a symbol were last touched a tick ago.
Either may be milliseconds, after which a line costs 100 ns, and its page's translation as much again.
"""

import numpy as np
from numpy.typing import NDArray

from shm.atomics import prefetch
from shm.kernel import primitive, routine

LINE_BYTES = 64
REHEARSAL_NS = 15_000
"""Least time between two rehearsals of an agent on a core of its own; each delays what just comes by under 1 us."""
SHARED_REHEARSAL_NS = 1_000_000
"""The same where other agents' processes wait for the core."""
WARM_BYTES_MAX = 16_384
"""Most that is asked for of one array: the records of thousands of symbols would take the caches, and 100 us."""


@routine
def warm(address: int, size: int) -> None:
    """Ask for the cache lines of `size` bytes at `address`, or of the first of them, where they are many."""
    for offset in range(0, min(size, WARM_BYTES_MAX), LINE_BYTES):
        prefetch(address + offset)


@primitive
def warm_records(records: NDArray[np.void]) -> None:
    """Ask for all of a small array of records, and for the beginning of a large one."""
    warm(records.ctypes.data, records.size * records.itemsize)
