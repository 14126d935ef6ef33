"""The latest value, read and written: beside the same algorithm in C++, and multiprocessing's array under its lock.

`read_64` and `read_704` read a value that nobody is writing, of the size of a best bid and ask and of a depth of 20
levels; `write_64` writes one that nobody reads; each on one core. Then the same writes while processes on other cores
look at the value (`bench.crowd`). Every value read is checked word by word; torn tries are told and not counted.
"""

import ctypes
import mmap
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.crowd import differs, measure
from bench.harness import compiled_reference, machine
from bench.laps import CPP, OURS, Lap, Race, absent, budget, pinned
from shm import seqlock
from shm.atomics import load_word, peek, store_word
from shm.kernel import kernel, primitive
from shm.seqlock import row_bytes

BBO_BYTES, DEPTH_BYTES = 64, 704
READ_NS_MAX = 20.0
LOCKED = "multiprocessing.Array"


@primitive
def _fill(payload: int, number: int, payload_bytes: int) -> None:
    for word in range(payload_bytes >> 3):
        store_word(payload + 8 * word, 1000 * number + word)


@kernel
def _read_all(row: int, scratch: int, payload_bytes: int, count: int) -> int:
    wrong = 0
    for _ in range(count):
        number = seqlock.try_read(row, scratch, payload_bytes)
        if number < 1 or differs(scratch, number, payload_bytes):
            wrong += 1
    return wrong


@kernel
def _write_all(row: int, scratch: int, payload_bytes: int, count: int) -> int:
    for _ in range(count):
        _fill(scratch, load_word(row + seqlock.VERSION) + 1, payload_bytes)
        seqlock.write(row, scratch, payload_bytes)
    return 0


class _Row:
    """A row in memory that children share, and the loops over it."""

    def __init__(self, payload_bytes: int, read: Callable[..., int], write: Callable[..., int]) -> None:
        self._read, self._write, self._payload_bytes = read, write, payload_bytes
        self._memory = mmap.mmap(-1, -(-row_bytes(payload_bytes) // 4096) * 4096)
        self.address = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        self._scratch = np.zeros(payload_bytes // 8, np.int64)
        self.write(1)

    def read(self, count: int) -> Callable[[], int]:
        wrong = int(self._read(self.address, self._scratch.ctypes.data, self._payload_bytes, count))
        return lambda: wrong

    def write(self, count: int) -> Callable[[], int]:
        before = peek(self.address + seqlock.VERSION)
        self._write(self.address, self._scratch.ctypes.data, self._payload_bytes, count)
        return lambda: abs(peek(self.address + seqlock.VERSION) - before - count) + self.read(1)()


def _locked_laps(payload_bytes: int) -> tuple[Lap, Lap]:
    """Read and write of an array that one lock guards."""
    array = multiprocessing.Array(ctypes.c_int64, payload_bytes // 8)
    values = list(range(payload_bytes // 8))

    def write(count: int) -> Callable[[], int]:
        for _ in range(count):
            with array.get_lock():
                array[:] = values
        return lambda: int(array[:] != values)

    def read(count: int) -> Callable[[], int]:
        wrong = 0
        for _ in range(count):
            with array.get_lock():
                wrong += array[:] != values
        return lambda: wrong

    write(1)
    return read, write


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document."""
    cores = sorted(os.sched_getaffinity(0))
    bbo, depth = (_Row(size, _read_all, _write_all) for size in (BBO_BYTES, DEPTH_BYTES))
    rows = {OURS: (bbo, depth)}
    with compiled_reference(Path(__file__).parent / "seqlock.cpp", "-shared", "-fPIC") as path:
        if path is not None:
            library = ctypes.CDLL(str(path))
            for loop in (library.read_all, library.write_all):
                loop.argtypes, loop.restype = [ctypes.c_int64] * 4, ctypes.c_int64
            cpp_bbo, cpp_depth = (_Row(size, library.read_all, library.write_all) for size in (BBO_BYTES, DEPTH_BYTES))
            rows[CPP] = cpp_bbo, cpp_depth
        locked_read, locked_write = _locked_laps(BBO_BYTES)
        modes: dict[str, dict[str, Lap]] = {
            "read_64": {name: row.read for name, (row, _) in rows.items()} | {LOCKED: locked_read},
            "read_704": {name: row.read for name, (_, row) in rows.items()},
            "write_64": {name: row.write for name, (row, _) in rows.items()} | {LOCKED: locked_write},
        }
        race = Race(modes, quick=quick)
        with pinned(cores[0]):
            race.run()
        crowd: dict[str, Any] = {"rows": [], "budgets": [], "readers": {}}
        if len(cores) > 1:
            crowd = measure({name: (row.address, row.write) for name, (row, _) in rows.items()}, cores, quick=quick)
    return {
        "bench": "seqlock",
        "machine": machine() | {"cores_of_writer_and_readers": cores},
        "results": [*race.results(), *crowd["rows"], *absent([CPP] if path is None else [], "no g++")],
        "ratios": race.ratios(),
        "readers": crowd["readers"],
        "budgets": [budget("read of 64 bytes, uncontended, ns", race.ours("read_64"), READ_NS_MAX), *crowd["budgets"]],
    }
