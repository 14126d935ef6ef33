"""What readers cost the writer of a seqlock, and whether it matters how many they are.

A reader of a value that has changed takes its lines from the writer's cache, and the next write takes them back: any
design in which readers see the newest value pays that, once for each look. So the writer's time depends on how often
somebody looks. What is asked here is whether it also depends on how many processes do:

    without pause    readers look as fast as they can. Then a slower write is met by more looks, which slow it further:
                     time = alone / (1 - cost of a look x looks a second), and near the pole the time says nothing about
                     the readers' number (4 readers on one core: 2.1 times as slow as 1, with 2.5 times the looks a
                     write). What is compared is the cost of a look: (time - time alone) / looks a write.
    paced            readers look once a microsecond, all together, as a line's stages do. The time itself is compared.

Measured on 2 virtual cores far from each other, ns a write (and ns of the writer a look), tickpipe, C++: alone 7, 9;
1 reader 33 (233), 37 (252); 2 readers 47 (245), 51 (255); 4 readers 81 (253), 80 (260). Paced: 11.3 with one reader,
11.2 with four.

The writer's time is its CPU time: others may take its core. What they do to the number of looks a write cannot be told
apart, so a slice in which the writer had less than 95 % of its core (quick runs do without), or the readers nothing of
theirs, is tried again, a few times, and left out with its round if it stays so. Readers have the other cores, in turn;
where there is one other core they share it, and one of them at a time reads.
"""

import mmap
import os
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.harness import die_with, ns_per_cycle, ratio
from bench.laps import OURS, budget, pinned
from shm import seqlock
from shm.atomics import cycles, load_word, pause, peek, poke, store_relaxed
from shm.kernel import kernel, primitive

PAYLOAD_BYTES = 64
SLOWER_MAX = 1.25
"""Four readers against one: more than noise would be a cost of a reader."""
PACE_NS = 1000
PACED = "paced"
SPINNING = "without pause"
CROWDS = ((0, SPINNING), (1, SPINNING), (2, SPINNING), (4, SPINNING), (1, PACED), (4, PACED))
MOST = 4
ROUNDS, WRITES = 60, 200_000
OWN_CORE_SHARE = 0.95
SLICE_TRIES = 4
LOOKS_MIN = 50
"""Fewer in a slice: the readers were not there."""
LOOKS_A_CALL = 1000
READY_LIMIT_S = 10.0

ROW, READERS, GAP_CYCLES = 0, 8, 16
READING, VALUES, TORN, WRONG = 0, 8, 16, 24


@primitive
def differs(payload: int, number: int, payload_bytes: int) -> bool:
    """Whether a word at `payload` is not that of value `number`: 1000 * number + its place."""
    found = 0
    for word in range(payload_bytes >> 3):
        found |= load_word(payload + 8 * word) ^ (1000 * number + word)
    return found != 0


@kernel
def _look(row: int, scratch: int, count: int, tally: int, gap_cycles: int) -> None:
    """`count` looks, `gap_cycles` apart, counted in the reader's own words."""
    for _ in range(count):
        due = cycles() + gap_cycles
        number = seqlock.try_read(row, scratch, PAYLOAD_BYTES)
        if number < 0:
            store_relaxed(tally + TORN, load_word(tally + TORN) + 1)
        else:
            store_relaxed(tally + VALUES, load_word(tally + VALUES) + 1)
            if number > 0 and differs(scratch, number, PAYLOAD_BYTES):
                store_relaxed(tally + WRONG, load_word(tally + WRONG) + 1)
        while cycles() < due:
            pause()


class Crowd:
    """Processes on other cores that read the row they are shown; up to MOST, as many as are asked for.

    Shared words: the row to read, how many are to read it, how far apart; and a line for each reader.
    """

    def __init__(self, cores: Sequence[int]) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self._words = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        self._cycle_ns = ns_per_cycle()
        self._cores = len(cores)
        _look(0, 0, 0, 0, 0)
        parent = os.getpid()
        self._pids = [self._fork(index, cores[index % len(cores)], parent) for index in range(MOST)]

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
        scratch = np.zeros(PAYLOAD_BYTES // 8, np.int64)
        while True:
            reads = peek(self._words + READERS) > index
            poke(line + READING, int(reads))
            if reads:
                _look(peek(self._words + ROW), scratch.ctypes.data, LOOKS_A_CALL, line, peek(self._words + GAP_CYCLES))
            else:
                time.sleep(0.0002)

    def show(self, row: int, readers: int, pace: str) -> None:
        """Have `readers` of them read `row`. Raises RuntimeError when they do not begin, or have read a wrong value."""
        self._ask(0)  # nobody may look at a row while it is exchanged for another
        at_once = min(readers, self._cores)
        poke(self._words + ROW, row)
        poke(self._words + GAP_CYCLES, int(PACE_NS * at_once / self._cycle_ns) if pace == PACED else 0)
        self._ask(readers)
        if wrong := self._sum(WRONG):
            raise RuntimeError(f"{wrong} values were read torn")

    def _ask(self, readers: int) -> None:
        poke(self._words + READERS, readers)
        limit = time.monotonic() + READY_LIMIT_S
        while any(peek(self._line(index) + READING) != (index < readers) for index in range(MOST)):
            if time.monotonic() > limit:
                raise RuntimeError(f"not {readers} processes read after {READY_LIMIT_S} s")
            time.sleep(0.0002)

    def looks(self) -> int:
        """Looks in all, those that found a value being written among them."""
        return self._sum(VALUES) + self._sum(TORN)

    def tally(self) -> dict[str, int]:
        """What they have read in all."""
        return {"values_read": self._sum(VALUES), "torn_tries": self._sum(TORN), "wrong": self._sum(WRONG)}

    def _sum(self, offset: int) -> int:
        return sum(peek(self._line(index) + offset) for index in range(MOST))

    def close(self) -> None:
        """End them."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextmanager
def _crowd(cores: Sequence[int]) -> Iterator[Crowd]:
    crowd = Crowd(cores)
    try:
        yield crowd
    finally:
        crowd.close()


@dataclass(frozen=True)
class Slice:
    """Some writes while some readers looked."""

    write_ns: float
    looks: int
    looks_a_write: float
    core_share: float
    """Of the writer's core: what it had of it."""


Key = tuple[str, int, str]
"""Contestant, readers, pace."""
Round = dict[Key, Slice]
Writer = tuple[int, Callable[[int], Callable[[], int]]]
"""A row's address, and what writes so many values to it and then says how many came out wrong."""


def measure(writers: Mapping[str, Writer], cores: Sequence[int], *, quick: bool) -> dict[str, Any]:
    """Rows of results, budgets and the readers' tally; `cores`: the writer's, then the readers'."""
    rounds = []
    with _crowd(cores[1:]) as crowd, pinned(cores[0]):
        keys = [(name, *asked) for name in writers for asked in CROWDS]
        for number in range(3 if quick else ROUNDS):
            order = keys if number % 2 else keys[::-1]
            writes = 20_000 if quick else WRITES
            rounds.append({key: _patient_slice(crowd, writers[key[0]], *key[1:], writes) for key in order})
        tally = crowd.tally()
    share = 0.0 if quick else OWN_CORE_SHARE
    kept = {name: [each for each in rounds if _is_undisturbed(each, name, share)] for name in writers}
    told = {"rounds": len(rounds), "rounds_kept": {name: len(of_name) for name, of_name in kept.items()}}
    rows = [_row(kept[key[0]], key) for key in keys if kept[key[0]]]
    return {"rows": rows, "budgets": _budgets(kept[OURS]) if kept[OURS] else [], "readers": tally | told}


def _is_undisturbed(each: Round, name: str, share: float) -> bool:
    parts = [(readers, part) for (of, readers, _), part in each.items() if of == name]
    return all(part.core_share >= share and (not readers or part.looks >= LOOKS_MIN) for readers, part in parts)


def _patient_slice(crowd: Crowd, writer: Writer, readers: int, pace: str, writes: int) -> Slice:
    for _ in range(SLICE_TRIES):
        found = _slice(crowd, writer, readers, pace, writes)
        if found.core_share >= OWN_CORE_SHARE and (not readers or found.looks >= LOOKS_MIN):
            break
    return found


def _slice(crowd: Crowd, writer: Writer, readers: int, pace: str, writes: int) -> Slice:
    row, write = writer
    crowd.show(row, readers, pace)
    looks, wall_ns, cpu_ns = crowd.looks(), time.perf_counter_ns(), time.thread_time_ns()
    check = write(writes)
    cpu_ns, wall_ns, looks = time.thread_time_ns() - cpu_ns, time.perf_counter_ns() - wall_ns, crowd.looks() - looks
    if wrong := check():
        raise RuntimeError(f"{wrong} of {writes} values came out wrong")
    return Slice(cpu_ns / writes, looks, looks / writes, cpu_ns / wall_ns)


def _row(rounds: Sequence[Round], key: Key) -> dict[str, Any]:
    name, readers, pace = key
    row = {
        "name": f"{name}, {readers} readers {pace}" if readers else f"{name}, no reader",
        "write_64_ns_per_op": round(statistics.median(each[key].write_ns for each in rounds), 2),
        "looks_a_write": round(statistics.median(each[key].looks_a_write for each in rounds), 3),
    }
    if readers:
        row["writer_ns_a_look"] = round(statistics.median(_cost_of_a_look(each, key) for each in rounds), 1)
    return row | {"samples": len(rounds)}


def _cost_of_a_look(each: Round, key: Key) -> float:
    alone = each[key[0], 0, SPINNING].write_ns
    return (each[key].write_ns - alone) / each[key].looks_a_write


def _budgets(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    four, one = ([_cost_of_a_look(each, (OURS, readers, SPINNING)) for each in rounds] for readers in (4, 1))
    paced_four, paced_one = ([each[OURS, readers, PACED].write_ns for each in rounds] for readers in (4, 1))
    return [
        budget(f"{what}, 4 readers over 1, median ratio", ratio(ours, peer)["median"], SLOWER_MAX)
        for what, ours, peer in (
            ("what a look costs the writer", four, one), ("write among paced readers", paced_four, paced_one),
        )
    ]  # fmt: skip
