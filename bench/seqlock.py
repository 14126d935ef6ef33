"""The latest value, read and written: beside the same algorithm in C++, and multiprocessing's array under its lock.

`read_64` and `read_704` read a value that nobody is writing, of the size of a best bid and ask and of a depth of 20
levels; `write_64` writes one that nobody reads; each on one core. `write_64_n` writes while n processes on another core
read without pause. Every value read is checked word by word; torn tries are told and not counted.
"""

import ctypes
import mmap
import multiprocessing
import os
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.duel import two_cores
from bench.harness import compiled_reference, die_with, machine
from bench.laps import CPP, OURS, Lap, Race, absent, budget, pinned
from shm import seqlock
from shm.atomics import load_word, peek, poke, store_word
from shm.kernel import kernel, primitive
from shm.seqlock import row_bytes

BBO_BYTES, DEPTH_BYTES = 64, 704
READERS = (0, 1, 2, 4)
READ_NS_MAX = 20.0
WRITER_SLOWER_MAX = 1.25
"""Four readers against one: more than noise would be a cost of a reader."""
LOCKED = "multiprocessing.Array"
READS_A_CALL = 2000
NOTHING = 0
READY_LIMIT_S = 10.0


@primitive
def _fill(payload: int, number: int, payload_bytes: int) -> None:
    for word in range(payload_bytes >> 3):
        store_word(payload + 8 * word, 1000 * number + word)


@primitive
def _differs(payload: int, number: int, payload_bytes: int) -> bool:
    differs = 0
    for word in range(payload_bytes >> 3):
        differs |= load_word(payload + 8 * word) ^ (1000 * number + word)
    return differs != 0


@kernel
def _read_all(row: int, scratch: int, payload_bytes: int, count: int) -> int:
    wrong = 0
    for _ in range(count):
        number = seqlock.try_read(row, scratch, payload_bytes)
        if number < 1 or _differs(scratch, number, payload_bytes):
            wrong += 1
    return wrong


@kernel
def _read_contended(row: int, scratch: int, payload_bytes: int, count: int, tally: int) -> int:
    """Adds to the words at `tally`: values read, torn tries. Returns how many values were wrong."""
    wrong = 0
    for _ in range(count):
        number = seqlock.try_read(row, scratch, payload_bytes)
        if number < 0:
            store_word(tally + 8, load_word(tally + 8) + 1)
        else:
            store_word(tally, load_word(tally) + 1)
            if number > 0 and _differs(scratch, number, payload_bytes):
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


class Readers:
    """Processes on another core that read, without pause, the row they are shown; up to as many as are asked for.

    Shared words: the row to read, how many are to read it; and per reader a line: whether it reads, tally, wrong.
    """

    def __init__(self, core: int, most: int) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self._words = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        self._most = most
        parent = os.getpid()
        self._pids = [self._fork(index, core, parent) for index in range(most)]

    def _fork(self, index: int, core: int, parent: int) -> int:
        child = os.fork()
        if child == 0:
            try:
                die_with(parent)
                os.sched_setaffinity(0, {core})
                self._read(index)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        return child

    def _line(self, index: int) -> int:
        return self._words + 128 * (1 + index)

    def _read(self, index: int) -> None:
        line = self._line(index)
        scratch = np.zeros(BBO_BYTES // 8, np.int64)
        while True:
            reads = peek(self._words + 8) > index
            poke(line, int(reads))
            if not reads:
                time.sleep(0.0002)
                continue
            wrong = _read_contended(peek(self._words), scratch.ctypes.data, BBO_BYTES, READS_A_CALL, line + 8)
            poke(line + 24, peek(line + 24) + wrong)

    def show(self, row: int, readers: int) -> None:
        """Have `readers` of them read `row`. Raises RuntimeError when they do not begin, or have read a wrong value."""
        self._ask(0)  # nobody may look at a row while it is exchanged for another
        poke(self._words, row)
        self._ask(readers)
        if wrong := self._sum(24):
            raise RuntimeError(f"{wrong} values were read torn")

    def _ask(self, readers: int) -> None:
        poke(self._words + 8, readers)
        limit = time.monotonic() + READY_LIMIT_S
        while any(peek(self._line(index)) != (index < readers) for index in range(self._most)):
            if time.monotonic() > limit:
                raise RuntimeError(f"not {readers} processes read after {READY_LIMIT_S} s")
            time.sleep(0.0002)

    def tally(self) -> dict[str, int]:
        """What they have read in all."""
        return {"values_read": self._sum(8), "torn_tries": self._sum(16), "wrong": self._sum(24)}

    def _sum(self, offset: int) -> int:
        return sum(peek(self._line(index) + offset) for index in range(self._most))

    def close(self) -> None:
        """End them."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextmanager
def _no_more_than(readers: Readers | None) -> Iterator[None]:
    try:
        yield
    finally:
        if readers is not None:
            readers.close()


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document."""
    cores = two_cores()
    counts = READERS if cores else READERS[:1]
    bbo, depth = (_Row(size, _read_all, _write_all) for size in (BBO_BYTES, DEPTH_BYTES))
    _read_contended(bbo.address, np.zeros(8, np.int64).ctypes.data, BBO_BYTES, 0, 0)
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
        for readers in counts[1:]:
            modes[f"write_64_{readers}"] = {name: row.write for name, (row, _) in rows.items()}
        crowd = Readers(cores[1], max(counts)) if cores else None

        def prepare(mode: str, name: str) -> None:
            if crowd is not None:
                number = int(mode.removeprefix("write_64_")) if mode.startswith("write_64_") else 0
                crowd.show(rows[name][0].address if number else NOTHING, number)

        with _no_more_than(crowd), pinned(cores[0] if cores else 0):
            race = Race(modes, quick=quick, prepare=prepare)
            race.run()
            tally = crowd.tally() if crowd else {}
    budgets = [budget("read of 64 bytes, uncontended, ns", race.ours("read_64"), READ_NS_MAX)]
    if cores:
        slower = [each[f"write_64_{READERS[-1]}", OURS] / each["write_64_1", OURS] for each in race.rounds]
        budgets.append(
            budget("write with 4 readers over write with 1, median ratio", statistics.median(slower), WRITER_SLOWER_MAX)
        )
    return {
        "bench": "seqlock",
        "machine": machine() | {"core_pair": list(cores) if cores else None},
        "results": [*race.results(), *absent([CPP] if path is None else [], "no g++")],
        "ratios": race.ratios(),
        "readers": tally,
        "budgets": budgets,
    }
