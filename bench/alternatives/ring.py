"""Rings that lost against shm/ring.py: two processes on two cores, 64-byte records built and checked word by word.

no cached cursors        each operation loads the other side's cursor, so its line wanders for every record
cursors side by side     head, tail and their copies on one cache line: each store takes it from the other side
wide copies on push      a load of eight words cannot be served from the store buffer that holds them one by one
sequence in each slot    (Vyukov) no shared cursors at all: each slot says whose turn it is. A record takes a line
                         more, a batch cannot be published at once, and what a killed writer published is found by
                         a walk over the slots
array arguments          as one writes it in Numba at first: arrays in the loop, and their reference counts

Measured on 2 virtual cores (AMD EPYC) far from each other (a word there and back in 1,100 ns) and shared with other
work: round trip in ns; one way in ns a record; the winner's cost over it, medians of 30 rounds:

    shm.ring                  892     81
    no cached cursors         922    255    0.97  0.32
    cursors side by side    1,162     97    0.77  0.83
    wide copies on push       992     82    0.90  1.05    (0.57 one way on near cores: 37 and 21 ns)
    sequence in each slot     631    130    1.42  0.71
    array arguments         1,007    341    0.89  0.24

A sequence in each slot wins the single round trip: the record and the word that publishes it arrive together. It lost
for what the line needs more: batches, adoption from the newest record, and the flow of records one after the other.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from bench.duel import Contestant, duel, two_cores
from bench.harness import ns_per_cycle, ratio
from bench.ring import CAPACITY, RingContestant
from bench.ring_loops import RECORD_BYTES, fill, holds
from shm import ring
from shm.atomics import cycles, load_acquire, load_word, poke, store_release, store_word
from shm.kernel import primitive
from shm.ring import CACHED_HEAD, CACHED_TAIL, HEAD, RECORDS, TAIL, copy_fresh, copy_record

WINNER = "shm.ring"
MODES = ("rtt", "single")
ROUNDS = 30

# --- no cached cursors -----------------------------------------------------------------------------------------------


@primitive
def push_uncached(base: int, record: int) -> bool:
    tail = load_word(base + TAIL)
    if tail - load_acquire(base + HEAD) >= load_word(base + ring.CAPACITY):
        return False
    copy_fresh(ring.slot(base, tail), record, RECORD_BYTES)
    store_release(base + TAIL, tail + 1)
    return True


@primitive
def pop_uncached(base: int, record: int) -> bool:
    head = load_word(base + HEAD)
    if load_acquire(base + TAIL) == head:
        return False
    copy_record(record, ring.slot(base, head), RECORD_BYTES)
    store_release(base + HEAD, head + 1)
    return True


# --- cursors side by side --------------------------------------------------------------------------------------------

NEAR_HEAD, NEAR_CACHED_TAIL = TAIL + 16, TAIL + 24


@primitive
def push_near(base: int, record: int) -> bool:
    tail = load_word(base + TAIL)
    capacity = load_word(base + ring.CAPACITY)
    if tail - load_word(base + CACHED_HEAD) >= capacity:
        store_word(base + CACHED_HEAD, load_acquire(base + NEAR_HEAD))
        if tail - load_word(base + CACHED_HEAD) >= capacity:
            return False
    copy_fresh(ring.slot(base, tail), record, RECORD_BYTES)
    store_release(base + TAIL, tail + 1)
    return True


@primitive
def pop_near(base: int, record: int) -> bool:
    head = load_word(base + NEAR_HEAD)
    if load_word(base + NEAR_CACHED_TAIL) == head:
        store_word(base + NEAR_CACHED_TAIL, load_acquire(base + TAIL))
        if load_word(base + NEAR_CACHED_TAIL) == head:
            return False
    copy_record(record, ring.slot(base, head), RECORD_BYTES)
    store_release(base + NEAR_HEAD, head + 1)
    return True


# --- wide copies on push ---------------------------------------------------------------------------------------------


@primitive
def push_wide(base: int, record: int) -> bool:
    tail = load_word(base + TAIL)
    if ring.room_after(base, tail, 1) < 1:
        return False
    copy_record(ring.slot(base, tail), record, RECORD_BYTES)
    store_release(base + TAIL, tail + 1)
    return True


# --- a sequence in each slot -----------------------------------------------------------------------------------------

SLOT_BYTES = 128


@primitive
def push_sequenced(base: int, record: int) -> bool:
    tail = load_word(base + TAIL)
    slot = base + RECORDS + (tail & (CAPACITY - 1)) * SLOT_BYTES
    if load_acquire(slot) != tail:
        return False
    copy_fresh(slot + 64, record, RECORD_BYTES)
    store_release(slot, tail + 1)
    store_word(base + TAIL, tail + 1)
    return True


@primitive
def pop_sequenced(base: int, record: int) -> bool:
    head = load_word(base + HEAD)
    slot = base + RECORDS + (head & (CAPACITY - 1)) * SLOT_BYTES
    if load_acquire(slot) != head + 1:
        return False
    copy_record(record, slot + 64, RECORD_BYTES)
    store_release(slot, head + CAPACITY)
    store_word(base + HEAD, head + 1)
    return True


def format_sequenced(base: int) -> None:
    """Slot n is free for record n."""
    for index in range(CAPACITY):
        poke(base + RECORDS + index * SLOT_BYTES, index)


# --- array arguments -------------------------------------------------------------------------------------------------


@numba.njit(nogil=True)
def push_arrays(header: np.ndarray, records: np.ndarray, record: np.ndarray) -> bool:
    tail = header[TAIL // 8]
    if tail - header[CACHED_HEAD // 8] >= len(records):
        header[CACHED_HEAD // 8] = load_acquire(header.ctypes.data + HEAD)
        if tail - header[CACHED_HEAD // 8] >= len(records):
            return False
    slot = records[tail & (len(records) - 1)]
    slot[:] = record
    store_release(header.ctypes.data + TAIL, tail + 1)
    return True


@numba.njit(nogil=True)
def pop_arrays(header: np.ndarray, records: np.ndarray, record: np.ndarray) -> bool:
    head = header[HEAD // 8]
    if header[CACHED_TAIL // 8] == head:
        header[CACHED_TAIL // 8] = load_acquire(header.ctypes.data + TAIL)
        if header[CACHED_TAIL // 8] == head:
            return False
    slot = records[head & (len(records) - 1)]
    record[:] = slot
    store_release(header.ctypes.data + HEAD, head + 1)
    return True


# --- the loops -------------------------------------------------------------------------------------------------------


def loops(push: Any, pop: Any) -> dict[str, Any]:
    """The loops of bench/ring_loops.py around another ring. `there` and `back` are what push and pop take first."""
    jit = numba.njit(nogil=True, error_model="numpy")

    @jit
    def ping(there, back, count, samples, record):  # type: ignore[no-untyped-def]
        wrong, address = 0, record.ctypes.data
        for number in range(count):
            fill(address, number)
            start = cycles()
            while not push(there, record):
                pass
            while not pop(back, record):
                pass
            samples[number] = cycles() - start
            wrong += not holds(address, number + 1)
        return wrong

    @jit
    def pong(there, back, count, record):  # type: ignore[no-untyped-def]
        wrong, address = 0, record.ctypes.data
        for number in range(count):
            while not pop(there, record):
                pass
            wrong += not holds(address, number)
            fill(address, number + 1)
            while not push(back, record):
                pass
        return wrong

    @jit
    def produce(there, back, count, record):  # type: ignore[no-untyped-def]
        while not pop(back, record):
            pass
        start, address = cycles(), record.ctypes.data
        for number in range(count):
            fill(address, number)
            while not push(there, record):
                pass
        while not pop(back, record):
            pass
        return cycles() - start

    @jit
    def consume(there, back, count, record):  # type: ignore[no-untyped-def]
        wrong, address = 0, record.ctypes.data
        while not push(back, record):
            pass
        for number in range(count):
            while not pop(there, record):
                pass
            wrong += not holds(address, number)
        while not push(back, record):
            pass
        return wrong

    return {"ping": ping, "pong": pong, "produce": produce, "consume": consume}


def _over_addresses(push: Any, pop: Any) -> tuple[Any, Any]:
    """Push and pop that take the record as an array, as the loops hand it."""

    @numba.njit(nogil=True, _nrt=False, forceinline=True)
    def push_record(base, record):  # type: ignore[no-untyped-def]
        return push(base, record.ctypes.data)

    @numba.njit(nogil=True, _nrt=False, forceinline=True)
    def pop_record(base, record):  # type: ignore[no-untyped-def]
        return pop(base, record.ctypes.data)

    return push_record, pop_record


def _over_arrays() -> tuple[Any, Any]:
    @numba.njit(nogil=True)
    def push_record(ends, record):  # type: ignore[no-untyped-def]
        return push_arrays(ends[0], ends[1], record)

    @numba.njit(nogil=True)
    def pop_record(ends, record):  # type: ignore[no-untyped-def]
        return pop_arrays(ends[0], ends[1], record)

    return push_record, pop_record


class Alternative(RingContestant):
    """A ring each way, of its own kind."""

    def __init__(
        self, name: str, ns_per_tick: float, ends: tuple[Any, Any], form: Callable[[int], None] | None = None,
        *, as_arrays: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(name, ns_per_tick, slot_bytes=SLOT_BYTES)
        self.record = np.zeros(RECORD_BYTES // 8, np.int64)
        for base in (self.there, self.back):
            if form is not None:
                form(base)
        self._loops = loops(*ends)
        self._ends: Any = (self.there, self.back)
        if as_arrays:
            self._ends = tuple(self._arrays(base) for base in (self.there, self.back))
        for loop, more in (("ping", (self.samples,)), ("pong", ()), ("consume", ()), ("produce", ())):
            self._loops[loop].compile(tuple(numba.typeof(each) for each in (*self._ends, 0, *more, self.record)))

    def _arrays(self, base: int) -> tuple[np.ndarray, np.ndarray]:
        words = np.frombuffer(self._memory, np.int64, (RECORDS + CAPACITY * RECORD_BYTES) // 8, base - self.there)
        return words[: RECORDS // 8], words[RECORDS // 8 :].reshape(CAPACITY, RECORD_BYTES // 8)

    def left(self, mode: str, count: int) -> np.ndarray:
        if mode == "rtt":
            wrong = self._loops["ping"](*self._ends, count, self.samples, self.record)
            return self.in_ns(self.samples[:count], wrong)
        return self.in_ns(self._loops["produce"](*self._ends, count, self.record) / count)

    def right(self, mode: str, count: int) -> None:
        self.in_ns(0.0, self._loops["pong" if mode == "rtt" else "consume"](*self._ends, count, self.record))


def contestants() -> list[Alternative]:
    """The winner first, in the same loops."""
    tick = ns_per_cycle()
    return [
        Alternative(WINNER, tick, _over_addresses(ring.try_push, ring.try_pop)),
        Alternative("no cached cursors", tick, _over_addresses(push_uncached, pop_uncached)),
        Alternative("cursors side by side", tick, _over_addresses(push_near, pop_near)),
        Alternative("wide copies on push", tick, _over_addresses(push_wide, ring.try_pop)),
        Alternative("sequence in each slot", tick, _over_addresses(push_sequenced, pop_sequenced), format_sequenced),
        Alternative("array arguments", tick, _over_arrays(), as_arrays=True),
    ]


def run(*, quick: bool = False) -> dict[str, Any]:
    """Results and ratios: the winner's cost over each alternative's, slice by slice."""
    cores = two_cores()
    if cores is None:
        return {"results": [{"name": WINNER, "absent": "needs two cores"}], "ratios": {}}
    entered: list[Contestant] = [*contestants()]
    names = [each.name for each in entered]
    rounds: list[dict[tuple[str, str], float]] = []
    with duel(entered, cores) as between:
        for _ in range(2 if quick else ROUNDS):
            rounds.append(
                {(name, mode): float(np.median(between.slice(name, mode))) for mode in MODES for name in names}
            )
    columns = {"rtt": "rtt_ns_p50", "single": "single_ns_per_op"}
    return {
        "results": [
            {
                "name": f"ring: {name}", "samples": len(rounds),
                **{columns[mode]: round(float(np.median([each[name, mode] for each in rounds])), 2) for mode in MODES},
            }
            for name in names
        ],
        "ratios": {
            f"{WINNER}_vs_{name}_{mode}": ratio(
                [each[WINNER, mode] for each in rounds], [each[name, mode] for each in rounds]
            )
            for name in names if name != WINNER for mode in MODES
        },
    }  # fmt: skip
