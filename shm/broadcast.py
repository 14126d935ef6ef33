"""Broadcast ring: one writing process, any number of observers, a writer that never waits.

Byte picture (offsets from the ring's base address, which is a multiple of 128):

      0  capacity, record_bytes              written once at creation
    128  claimed, published, attended        the writer's line
    256  capacity * record_bytes of records

Record n stands in slot n modulo the capacity, a power of two. `published` counts the records ever published, `claimed`
the records whose slots the writer may have touched; both only grow, and `claimed >= published`. Record n is whole from
`published > n` until `claimed > n + capacity`. Observers map the ring read-only: where an observer stands is two words
of its own private memory (`cursor`, `lost`), so that no observer can slow the writer or fool another.

Order, argued for weak memory. Writer: relaxed store of `claimed`, release fence (no record word may become visible
before the claim), relaxed word stores, release store of `published`. Observer: acquire load of `published` (the words
of every record below it are visible), relaxed word loads, acquire fence (no word load may sink below it), relaxed load
of `claimed`. Had a word come from record n + capacity or later, the two fences would have made that record's claim
visible to the last load. So a copy that passes the check holds the words of record n alone.

A writer killed at any instruction leaves `published` at the last whole batch; what it had claimed beyond that stays
claimed, and the records whose slots it may have spoilt count as lost. A restarted writer continues from `published`
and never lowers `claimed`: a first batch shorter than the killed one would otherwise declare spoilt slots whole.

`attended` is for writers that publish only while somebody observes (`shm.presence`): 1 while they do. The ring itself
does not look at it.

Observers lose what they are too slow for, and count it exactly: every published record is either returned once, in
order, or counted in `lost`. Every function is bounded; nobody waits for anybody.
"""

from typing import Any

import numpy as np

from shm.atomics import (
    fence_acquire,
    fence_release,
    load_acquire,
    load_relaxed,
    load_word,
    peek,
    poke,
    store_relaxed,
    store_release,
    store_word,
)
from shm.kernel import kernel, primitive
from shm.layout import align_up, padded

CAPACITY = 0
RECORD_BYTES = 8
CLAIMED = 128
PUBLISHED = 136
ATTENDED = 144
RECORDS = 256

CURSOR = 0
LOST = 8
OBSERVER_BYTES = 16
"""An observer's private words: the number of the record it reads next, and how many it lost so far."""

LAPPED = -1


def broadcast_bytes(capacity: int, record_bytes: int) -> int:
    """Bytes of a broadcast ring of `capacity` records. Raises ValueError for sizes it cannot have."""
    if capacity < 1 or capacity & (capacity - 1):
        raise ValueError(f"broadcast capacity={capacity} must be a power of two")
    if record_bytes < 1:
        raise ValueError(f"broadcast record_bytes={record_bytes} must be positive")
    return RECORDS + capacity * align_up(record_bytes, 8)


def format_broadcast(base: int, capacity: int, record_bytes: int) -> None:
    """Write the header of a fresh, zeroed broadcast ring at `base`."""
    broadcast_bytes(capacity, record_bytes)
    poke(base + CAPACITY, capacity)
    poke(base + RECORD_BYTES, align_up(record_bytes, 8))


@primitive
def _slot(base: int, number: int) -> int:
    return base + RECORDS + (number & (load_word(base + CAPACITY) - 1)) * load_word(base + RECORD_BYTES)


@primitive
def _half(capacity: int) -> int:
    return capacity >> 1 if capacity > 1 else 1


@primitive
def publish(base: int, records: int, count: int) -> None:
    """Writer: publish `count` records from address `records`, whoever is still reading what they overwrite.

    They become visible half a capacity at a time, so that a long batch never takes every record from the observers.
    """
    record_bytes = load_word(base + RECORD_BYTES)
    limit = _half(load_word(base + CAPACITY))
    published = load_word(base + PUBLISHED)
    source = records
    left = count
    while left > 0:
        batch = left if left < limit else limit
        if published + batch - load_word(base + CLAIMED) > 0:
            store_relaxed(base + CLAIMED, published + batch)
        fence_release()
        for index in range(batch):
            slot = _slot(base, published + index)
            for offset in range(0, record_bytes, 8):
                store_relaxed(slot + offset, load_word(source + offset))
            source += record_bytes
        published += batch
        store_release(base + PUBLISHED, published)
        left -= batch


@primitive
def observe(base: int, observer: int, records: int, count: int) -> int:
    """Observer: copy up to `count` records to address `records`; returns how many, 0 when there is nothing new.

    `observer` is the address of its private words. LAPPED: the writer overtook it; `lost` has grown, the cursor stands
    on a record that is whole, and the next call may succeed. What was copied by then is not to be looked at.
    """
    cursor = load_word(observer + CURSOR)
    published = load_acquire(base + PUBLISHED)
    unread = published - cursor
    if unread <= 0:
        return 0
    capacity = load_word(base + CAPACITY)
    taken = count if count < unread else unread
    if unread <= capacity:
        record_bytes = load_word(base + RECORD_BYTES)
        target = records
        for index in range(taken):
            slot = _slot(base, cursor + index)
            for offset in range(0, record_bytes, 8):
                store_word(target + offset, load_relaxed(slot + offset))
            target += record_bytes
        fence_acquire()
        if load_relaxed(base + CLAIMED) - cursor <= capacity:
            store_word(observer + CURSOR, cursor + taken)
            return taken
    # Half a capacity behind the newest: on the oldest whole record the writer would overtake it again at once.
    resume = published - _half(capacity)
    oldest = load_relaxed(base + CLAIMED) - capacity
    if oldest - resume > 0:
        resume = oldest
    store_word(observer + LOST, load_word(observer + LOST) + resume - cursor)
    store_word(observer + CURSOR, resume)
    return LAPPED


@kernel
def _publish(base: int, records: int, count: int) -> None:
    publish(base, records, count)


@kernel
def _observe(base: int, observer: int, records: int, count: int) -> int:
    return observe(base, observer, records, count)


def _padded_as_in(base: int, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if peek(base + RECORD_BYTES) != padded(dtype).itemsize:
        raise ValueError(
            f"broadcast ring of record_bytes={peek(base + RECORD_BYTES)}, not of {dtype.itemsize} ({dtype})"
        )
    return padded(dtype)


class Broadcaster:
    """The writer's end, for ordinary Python. One at a time for a ring; a second one is a second writer."""

    def __init__(self, base: int, dtype: np.dtype[Any]) -> None:
        self._base, self._dtype, self._padded = base, dtype, _padded_as_in(base, dtype)

    def publish(self, records: np.ndarray[Any, Any]) -> None:
        """Publish `records`, an array of the ring's dtype."""
        if records.dtype != self._dtype:
            raise ValueError(f"records of {records.dtype}, ring of {self._dtype}")
        copy = np.zeros(records.size, self._padded)
        copy["record"] = records
        _publish(self._base, copy.ctypes.data, copy.size)


class Observer:
    """An observer's end, for ordinary Python, over a mapping that may be read-only."""

    def __init__(self, base: int, dtype: np.dtype[Any], *, batch: int = 256, from_oldest: bool = False) -> None:
        """Reads what is published from now on, or from the oldest record that is still whole.

        `batch` is the most records one `read` returns. The mapping of `base` must outlive the observer.
        """
        self._base = base
        self._words = np.zeros(OBSERVER_BYTES // 8, np.int64)
        self._records = np.zeros(batch, _padded_as_in(base, dtype))
        oldest = max(0, peek(base + CLAIMED) - peek(base + CAPACITY))
        self._words[CURSOR // 8] = oldest if from_oldest else peek(base + PUBLISHED)

    @property
    def cursor(self) -> int:
        """Number of the record that is read next."""
        return int(self._words[CURSOR // 8])

    @property
    def lost(self) -> int:
        """Records that were overwritten before this observer read them."""
        return int(self._words[LOST // 8])

    def read(self) -> np.ndarray[Any, Any]:
        """A copy of the next records, oldest first; empty when there is nothing new or the writer overtook us."""
        count = _observe(self._base, self._words.ctypes.data, self._records.ctypes.data, self._records.size)
        return self._records["record"][: max(0, count)].copy()
