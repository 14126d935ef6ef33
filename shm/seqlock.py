"""Seqlock table: rows of latest values, one writing process, any number of readers, nobody ever waits.

Byte picture of a row (all multiples of 8; rows start on multiples of 64):

      0  version                              number of the newest complete value; 0: none yet
     64  cell 0: mark, payload words
     ..  cell 1: mark, payload words

One process writes all of it. Value v is written to cell v & 1, never to the cell that holds the newest complete value.
While it is being written the cell's mark is 2v + 1, afterwards 2v. Only then does `version` become v.

Order, argued for weak memory too. Writer: relaxed store of the odd mark, release fence (no payload store may become
visible before the odd mark), relaxed word stores, release store of the even mark, release store of the version. A
release *store* of the odd mark followed by plain stores would be wrong: a release orders what stands before it, not
after. Reader: acquire load of the version, acquire load of the mark, relaxed word loads, acquire fence (no payload load
may sink below it), relaxed load of the mark. Both marks equal to 2 * version: every word belongs to that version.

What a writer that dies leaves behind, by the last store it made: in every case the value of `version`, whole, so that
no reader hangs or waits.

    odd mark, payload words   rubbish in the other cell, at which readers look only when `version` says so
    even mark                 a complete value that nobody will see: `version` does not name it
    version                   that value

A restarted writer continues from `version` and writes the same cell anew. A value may be overwritten before anybody
read it: that is its purpose. Versions are int64 and marks twice as much: they last for 2**62 writes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.atomics import (
    fence_acquire,
    fence_release,
    load_acquire,
    load_relaxed,
    load_word,
    peek,
    store_relaxed,
    store_release,
    store_word,
)
from shm.kernel import kernel, primitive
from shm.layout import align_up, padded

VERSION = 0
CELLS = 64
READ_TRIES = 64
"""A reader gives up after this many torn reads: the writer would have to lap it twice in each of them."""


def cell_bytes(payload_bytes: int) -> int:
    """Bytes of one cell: mark and payload, padded to cache lines."""
    return align_up(8 + payload_bytes, 64)


def row_bytes(payload_bytes: int) -> int:
    """Bytes of one row holding a payload of `payload_bytes` (a multiple of 8). Raises ValueError otherwise."""
    if payload_bytes < 8 or payload_bytes % 8:
        raise ValueError(f"seqlock payload_bytes={payload_bytes} must be a positive multiple of 8")
    return align_up(CELLS + 2 * cell_bytes(payload_bytes), 128)


def newest(row: int, payload_bytes: int) -> int:
    """Address of the newest complete payload, for cold code; 0 when there is none.

    It stays whole until two more values are written: at leisure for a writer's successor, a glance for others.
    """
    version = peek(row + VERSION)
    return row + CELLS + (version & 1) * cell_bytes(payload_bytes) + 8 if version > 0 else 0


def newest_rows(
    words: NDArray[np.int64], payload_bytes: int
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]:
    """(rows that have a value, the payload words of each, whether it is whole), for cold code: of thousands, at once.

    words   of a table, a row of it each
    """
    versions = words[:, VERSION // 8].copy()
    rows = np.flatnonzero(versions > 0)
    versions = versions[rows]
    payloads, is_whole = np.empty((len(rows), payload_bytes // 8), np.int64), np.empty(len(rows), np.bool_)
    for parity in range(2):
        these, mark = versions & 1 == parity, (CELLS + parity * cell_bytes(payload_bytes)) // 8
        payloads[these] = words[rows[these], mark + 1 : mark + 1 + payload_bytes // 8]
        is_whole[these] = words[rows[these], mark] == 2 * versions[these]
    return rows, payloads, is_whole


@primitive
def _cell(row: int, version: int, payload_bytes: int) -> int:
    return row + CELLS + (version & 1) * (((8 + payload_bytes + 63) >> 6) << 6)


@primitive
def next_cell(row: int, payload_bytes: int) -> int:
    """Writer: where the next version will be written, its head and its payload."""
    return _cell(row, load_word(row + VERSION) + 1, payload_bytes)


@primitive
def write(row: int, source: int, payload_bytes: int) -> int:
    """Publish the payload at address `source` as the row's next version; returns that version."""
    version = load_word(row + VERSION) + 1
    cell = _cell(row, version, payload_bytes)
    store_relaxed(cell, 2 * version + 1)
    fence_release()
    for offset in range(0, payload_bytes, 8):
        store_relaxed(cell + 8 + offset, load_word(source + offset))
    store_release(cell, 2 * version)
    store_release(row + VERSION, version)
    return version


@primitive
def try_read(row: int, target: int, payload_bytes: int) -> int:
    """Copy the newest value to address `target`. Returns its version, 0 when there is none yet, -1 when torn."""
    version = load_acquire(row + VERSION)
    if version == 0:
        return 0
    cell = _cell(row, version, payload_bytes)
    if load_acquire(cell) != 2 * version:
        return -1
    for offset in range(0, payload_bytes, 8):
        store_word(target + offset, load_relaxed(cell + 8 + offset))
    fence_acquire()
    if load_relaxed(cell) != 2 * version:
        return -1
    return version


@primitive
def read(row: int, target: int, payload_bytes: int) -> int:
    """As `try_read`, repeated up to READ_TRIES times."""
    version = -1
    for _ in range(READ_TRIES):
        version = try_read(row, target, payload_bytes)
        if version >= 0:
            break
    return version


@kernel
def _write(row: int, source: int, payload_bytes: int) -> int:
    return write(row, source, payload_bytes)


@kernel
def _read(row: int, target: int, payload_bytes: int) -> int:
    return read(row, target, payload_bytes)


class SeqlockTable:
    """A seqlock table for ordinary Python, over the same bytes. The mapping of `base` must outlive the object."""

    def __init__(self, base: int, dtype: np.dtype[Any], rows: int) -> None:
        """`rows` rows of `dtype` at address `base`, laid out as the layout of the segment says (`seqlock_layout`)."""
        self._base, self._dtype, self._padded, self.rows = base, dtype, padded(dtype), rows

    def write(self, row: int, record: np.ndarray[Any, Any]) -> int:
        """Publish a 1-element array as the row's value; returns its version. The process must be the only writer."""
        if record.dtype != self._dtype or record.size != 1:
            raise ValueError(f"{record.size} records of {record.dtype}, a row holds one of {self._dtype}")
        copy = np.zeros(1, self._padded)
        copy["record"] = record
        return int(_write(self._address(row), copy.ctypes.data, self._padded.itemsize))

    def read(self, row: int) -> tuple[int, np.ndarray[Any, Any]]:
        """(version, 1-element array). Version 0: nothing written yet; -1: the writer was always faster than we."""
        copy = np.zeros(1, self._padded)
        version = int(_read(self._address(row), copy.ctypes.data, self._padded.itemsize))
        return version, copy["record"].copy()

    def _address(self, row: int) -> int:
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        return self._base + row * row_bytes(self._padded.itemsize)
