"""An object taken from the pool and given back: beside the same algorithm in C++, and Python's own queues.

`last_in` gives back what was taken last; `shuffled` keeps 512 of 1,024 objects out and gives back another one each
time. Every handle must be one that was free, every return must be accepted, and in the end the pool must agree.
"""

import ctypes
import mmap
import queue
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import compiled_reference, machine
from bench.laps import CPP, OURS, Lap, Race, absent, budget, pinned
from shm import pool
from shm.atomics import load_word, store_word
from shm.kernel import kernel
from shm.pool import NO_HANDLE, Pool, format_pool, pool_bytes

CAPACITY, HELD, OBJECT_BYTES = 1024, 512, 64
PAIR_NS_MAX = 20.0


@kernel
def _take_and_give(base: int, count: int) -> int:
    wrong = 0
    for _ in range(count):
        handle = pool.acquire(base)
        if handle == NO_HANDLE or not pool.release(base, handle):
            wrong += 1
    return wrong


@kernel
def _take_and_give_shuffled(base: int, handles: int, order: int, held: int, count: int) -> int:
    wrong = 0
    for index in range(count):
        at = handles + 8 * load_word(order + 8 * (index & (held - 1)))
        if not pool.release(base, load_word(at)):
            wrong += 1
        handle = pool.acquire(base)
        store_word(at, handle)
        if handle == NO_HANDLE:
            wrong += 1
    return wrong


class _Contestant:
    """A pool of its own, and the two loops over it."""

    def __init__(self, last_in: Any, shuffled: Any) -> None:
        self._last_in, self._shuffled = last_in, shuffled
        self._memory = mmap.mmap(-1, -(-pool_bytes(CAPACITY, OBJECT_BYTES) // 4096) * 4096)
        self._base = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        format_pool(self._base, CAPACITY, OBJECT_BYTES)
        self._pool = Pool(self._base, np.dtype(f"V{OBJECT_BYTES}"))
        self._order = np.random.default_rng(1).permutation(HELD)
        self._handles = np.array([self._pool.acquire() for _ in range(HELD)], np.int64)

    def last_in(self, count: int) -> Callable[[], int]:
        wrong = int(self._last_in(self._base, count))
        return lambda: wrong + self._disagreements()

    def shuffled(self, count: int) -> Callable[[], int]:
        addresses = self._handles.ctypes.data, self._order.ctypes.data
        wrong = int(self._shuffled(self._base, *addresses, HELD, count))
        return lambda: wrong + self._disagreements()

    def _disagreements(self) -> int:
        is_same = sorted(self._pool.held()) == sorted(self._handles.tolist())
        return int(not is_same) + self._pool.refused + abs(self._pool.free - (CAPACITY - HELD))


def _deque_lap(count: int) -> Callable[[], int]:
    free = deque(range(CAPACITY))
    for _ in range(count):
        free.append(free.pop())
    return lambda: abs(len(free) - CAPACITY)


def _queue_lap(count: int) -> Callable[[], int]:
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(CAPACITY):
        free.put(index)
    for _ in range(count):
        free.put(free.get())
    return lambda: abs(free.qsize() - CAPACITY)


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document."""
    ours = _Contestant(_take_and_give, _take_and_give_shuffled)
    modes: dict[str, dict[str, Lap]] = {"last_in": {OURS: ours.last_in}, "shuffled": {OURS: ours.shuffled}}
    with compiled_reference(Path(__file__).parent / "pool.cpp", "-shared", "-fPIC") as path:
        if path is not None:
            library = ctypes.CDLL(str(path))
            loops = library.take_and_give, library.take_and_give_shuffled
            for loop, arguments in zip(loops, (2, 5), strict=True):
                loop.argtypes, loop.restype = [ctypes.c_int64] * arguments, ctypes.c_int64
            cpp = _Contestant(*loops)
            modes["last_in"][CPP], modes["shuffled"][CPP] = cpp.last_in, cpp.shuffled
        modes["last_in"] |= {"collections.deque": _deque_lap, "queue.SimpleQueue": _queue_lap}
        race = Race(modes, quick=quick)
        with pinned(0):
            race.run()
    return {
        "bench": "pool",
        "machine": machine(),
        "results": [*race.results(), *absent([CPP] if path is None else [], "no g++")],
        "ratios": race.ratios(),
        "budgets": [budget(f"acquire and release, {mode}, ns", race.ours(mode), PAIR_NS_MAX) for mode in modes],
    }
