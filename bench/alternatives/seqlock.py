"""Seqlocks that lost against shm/seqlock.py: a value of 64 bytes, checked word by word, on one core.

    one cell            the classic: half the memory. A reader can do nothing while the writer is in the cell, and a
                        writer that is killed there stops all readers for good; under a busy writer most looks are vain
    full fence          a sequentially consistent fence where a release fence does: right, and dearer on x86 as well
    no version word     the marks alone say which cell is the newest: a reader looks at both, and pulls both lines

`busy_read` is one look from this core while a process on the other writes without pause; `busy_torn_share` are those
that brought no value. Variants of release stores and release fences that are right differ in nothing on x86: both are
plain stores there. Measured as in ring.py (read, write in ns; the winner's cost over it, medians of 120 rounds):

    shm.seqlock         4.5    6.3
    one cell            4.1    6.3    1.11  0.96    lost for its hang and its vain looks
    full fence          4.6    6.6    1.00  0.88
    no version word     4.7    8.0    0.93  0.72

Beside a writer without pause 12 to 32 % of the looks brought no value with two cells, 87 to 93 % with one.

Those that are wrong are in the list of mutants of `python -m tests.shm.interleavings`.
"""

import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np

from bench.crowd import differs
from bench.duel import two_cores
from bench.harness import die_with
from bench.laps import Lap, Race, pinned
from shm import seqlock
from shm.atomics import (
    fence_acquire,
    fence_release,
    fence_seq_cst,
    load_acquire,
    load_relaxed,
    load_word,
    peek,
    store_relaxed,
    store_release,
    store_word,
)
from shm.kernel import primitive
from shm.seqlock import CELLS, VERSION, cell_bytes, row_bytes

WINNER = "shm.seqlock"
PAYLOAD_BYTES = 64
CELL_BYTES = cell_bytes(PAYLOAD_BYTES)
BUSY_LOOKS, BUSY_ROUNDS = 100_000, 10
READY_LIMIT_S = 10.0


@primitive
def store_payload(cell: int, source: int) -> None:
    for offset in range(0, PAYLOAD_BYTES, 8):
        store_relaxed(cell + 8 + offset, load_word(source + offset))


@primitive
def load_payload(cell: int, target: int) -> None:
    for offset in range(0, PAYLOAD_BYTES, 8):
        store_word(target + offset, load_relaxed(cell + 8 + offset))


@primitive
def write_two(row: int, source: int) -> int:
    return seqlock.write(row, source, PAYLOAD_BYTES)


@primitive
def read_two(row: int, target: int) -> int:
    return seqlock.try_read(row, target, PAYLOAD_BYTES)


@primitive
def write_one(row: int, source: int) -> int:
    cell = row + CELLS
    version = load_word(cell) // 2 + 1
    store_relaxed(cell, 2 * version - 1)
    fence_release()
    store_payload(cell, source)
    store_release(cell, 2 * version)
    return version


@primitive
def read_one(row: int, target: int) -> int:
    cell = row + CELLS
    mark = load_acquire(cell)
    if mark & 1:
        return -1
    load_payload(cell, target)
    fence_acquire()
    return mark // 2 if load_relaxed(cell) == mark else -1


@primitive
def write_fenced(row: int, source: int) -> int:
    version = load_word(row + VERSION) + 1
    cell = row + CELLS + (version & 1) * CELL_BYTES
    store_relaxed(cell, 2 * version + 1)
    fence_seq_cst()
    store_payload(cell, source)
    store_release(cell, 2 * version)
    store_release(row + VERSION, version)
    return version


@primitive
def write_unversioned(row: int, source: int) -> int:
    version = max(load_word(row + CELLS), load_word(row + CELLS + CELL_BYTES)) // 2 + 1
    cell = row + CELLS + (version & 1) * CELL_BYTES
    store_relaxed(cell, 2 * version + 1)
    fence_release()
    store_payload(cell, source)
    store_release(cell, 2 * version)
    return version


@primitive
def read_unversioned(row: int, target: int) -> int:
    first, second = load_acquire(row + CELLS), load_acquire(row + CELLS + CELL_BYTES)
    cell = row + CELLS
    mark = first
    if first & 1 or (second & 1 == 0 and second > first):
        cell = row + CELLS + CELL_BYTES
        mark = second
    if mark & 1:
        return -1
    load_payload(cell, target)
    fence_acquire()
    return mark // 2 if load_relaxed(cell) == mark else -1


VARIANTS = {
    WINNER: (write_two, read_two),
    "one cell": (write_one, read_one),
    "full fence": (write_fenced, read_two),
    "no version word": (write_unversioned, read_unversioned),
}


def loops(write: Any, read: Any) -> tuple[Any, Any, Any]:
    """(write count values, read count values, look count times) around a variant."""
    jit = numba.njit(nogil=True, error_model="numpy", _nrt=False)

    @jit
    def write_all(row, scratch, first, count):  # type: ignore[no-untyped-def]
        wrong = 0
        for number in range(first, first + count):
            for word in range(PAYLOAD_BYTES // 8):
                store_word(scratch + 8 * word, 1000 * number + word)
            wrong += write(row, scratch) != number
        return wrong

    @jit
    def read_all(row, scratch, expected, count):  # type: ignore[no-untyped-def]
        wrong = 0
        for _ in range(count):
            number = read(row, scratch)
            wrong += number != expected or differs(scratch, number, PAYLOAD_BYTES)
        return wrong

    @jit
    def look(row, scratch, count):  # type: ignore[no-untyped-def]
        torn, newest = 0, 0
        for _ in range(count):
            number = read(row, scratch)
            if number < 0:
                torn += 1
            elif number < newest or (number > 0 and differs(scratch, number, PAYLOAD_BYTES)):
                return -1
            else:
                newest = number
        return torn

    return write_all, read_all, look


class Variant:
    """A row of its own, and its laps."""

    def __init__(self, write: Any, read: Any) -> None:
        self._memory = mmap.mmap(-1, -(-row_bytes(PAYLOAD_BYTES) // 4096) * 4096)
        self._row = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        self._scratch = np.zeros(PAYLOAD_BYTES // 8, np.int64)
        self._write_all, self._read_all, self._look = loops(write, read)
        self._begin()
        self._look(self._row, self._scratch.ctypes.data, 1)

    def _begin(self) -> None:
        self._memory[:] = bytes(len(self._memory))
        self._newest = 0
        self.write(1)()

    def write(self, count: int) -> Callable[[], int]:
        wrong = int(self._write_all(self._row, self._scratch.ctypes.data, self._newest + 1, count))
        self._newest += count
        return lambda: wrong + self.read(1)()

    def read(self, count: int) -> Callable[[], int]:
        wrong = int(self._read_all(self._row, self._scratch.ctypes.data, self._newest, count))
        return lambda: wrong

    def busy_look(self, core: int, count: int) -> tuple[float, float]:
        """(ns a look, share of them that brought nothing) while a child on `core` writes, which is then killed."""
        self._begin()  # the last child's writer may have died in the only cell
        with self._writer(core):
            limit = time.monotonic() + READY_LIMIT_S
            while self._is_untouched():
                if time.monotonic() > limit:
                    raise RuntimeError(f"nobody writes after {READY_LIMIT_S} s")
            start = time.perf_counter_ns()
            torn = int(self._look(self._row, self._scratch.ctypes.data, count))
            elapsed = time.perf_counter_ns() - start
        if torn < 0:
            raise RuntimeError("a value was read torn, or after a newer one")
        return elapsed / count, torn / count

    def _is_untouched(self) -> bool:
        """Whether the row holds what `_begin` left: value 1, in whichever cell."""
        return max(peek(self._row + CELLS), peek(self._row + CELLS + CELL_BYTES)) == 2

    @contextmanager
    def _writer(self, core: int) -> Iterator[None]:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                die_with(parent)
                os.sched_setaffinity(0, {core})
                while True:
                    self.write(10_000)
            finally:
                os._exit(1)
        try:
            yield
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def run(*, quick: bool = False) -> dict[str, Any]:
    """Results and ratios: the winner's cost over each alternative's."""
    cores = two_cores()
    modes: dict[str, dict[str, Lap]] = {"read_64": {}, "write_64": {}}
    for name, (write, read) in VARIANTS.items():
        variant = Variant(write, read)
        modes["read_64"][name], modes["write_64"][name] = variant.read, variant.write
    race = Race(modes, quick=quick)
    with pinned(cores[0] if cores else min(os.sched_getaffinity(0))):
        race.run()
        busy = _busy(cores[1], 2 if quick else BUSY_ROUNDS) if cores else {}
    results = [row | busy.get(row["name"], {}) | {"name": f"seqlock: {row['name']}"} for row in race.results()]
    return {"results": results, "ratios": race.ratios(WINNER)}


def _busy(core: int, rounds: int) -> dict[str, dict[str, float]]:
    """Columns of each variant's row, of looks while another process writes."""
    variants = {name: Variant(*pair) for name, pair in VARIANTS.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, variant in variants.items():
            found[name].append(variant.busy_look(core, BUSY_LOOKS))
    return {
        name: {
            "busy_read_64_ns_per_op": round(float(np.median([ns for ns, _ in pairs])), 2),
            "busy_torn_share": round(float(np.median([share for _, share in pairs])), 4),
        }
        for name, pairs in found.items()
    }
