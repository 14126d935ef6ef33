"""The line of the idle benchmark: processes in a circle, joined by rings, each in the duty cycle of a stage.

The first process builds a record, each of the others checks it and builds it anew for its own hop, and the last one's
comes back to the first. `futex` is the same circle over idle.cpp. A line runs one slice at a time, and sleeps between.
"""

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench.harness import die_with
from shm import doorbell, ring
from shm.atomics import cycles, load_word, store_word
from shm.clock import calibrate, now_ns
from shm.control import STATUS
from shm.doorbell import DOOR_LAYOUT, Bell
from shm.kernel import kernel, primitive
from shm.neighbour import Edge
from shm.ring import format_ring, ring_bytes
from shm.segment import NAME_PREFIX, Segment, unlink
from shm.turns import TURN, words_of
from stages.agent import Agent
from stages.duty import COMMAND_ADDRESS, PER_AGENT, STATUS_ADDRESS, Duty, new_duty, turn, with_bells

FUTEX, UNORDERED = "futex", "unordered yield"
STRATEGIES = ("spin", "yield", UNORDERED, "backoff", "doorbell")
"""As stages idle; and yielding in whatever order the kernel has drawn."""
CAPACITY, RECORD_BYTES, SLOT_BYTES = 64, 64, 256
COUNT_MAX = 4096
SLICE_LIMIT_NS = 30_000_000_000
LIFE_LIMIT_S = 1800
"""No process of a benchmark lives longer, whatever happens: the kernel's alarm ends it, compiled code or not."""
LATE = -1


@primitive
def fill(record: int, number: int, hop: int) -> None:
    """The record that hop `hop` of round `number` carries."""
    for word in range(RECORD_BYTES >> 3):
        store_word(record + 8 * word, number * 64 + hop * 8 + word)


@primitive
def differs(record: int, number: int, hop: int) -> bool:
    """Whether a word of the record is not that of hop `hop` of round `number`."""
    found = 0
    for word in range(RECORD_BYTES >> 3):
        found |= load_word(record + 8 * word) ^ (number * 64 + hop * 8 + word)
    return found != 0


@kernel
def lead(
    duty: Duty, attention: int, there: int, back: int, record: int, last: int, start: int, count: int, samples: int,
    end_ns: int,
) -> int:  # fmt: skip
    """`count` rounds from number `start`, the cycles of each in `samples`; how many came back wrong, or LATE."""
    wrong = 0
    for number in range(start, start + count):
        cycle_ns = now_ns(duty.clock)
        begun = cycles()
        fill(record, number, 0)
        ring.try_push(there, record)
        turn(duty, attention, cycle_ns, 1)
        while not ring.try_pop(back, record):
            cycle_ns = now_ns(duty.clock)
            if cycle_ns > end_ns:
                return LATE
            turn(duty, attention, cycle_ns, 0)
        store_word(samples + 8 * (number - start), cycles() - begun)
        wrong += differs(record, number, last)
    return wrong


@kernel
def follow(
    duty: Duty, attention: int, inbound: int, outbound: int, record: int, hop: int, start: int, count: int, end_ns: int
) -> int:
    """Hand `count` records on; how many came in wrong, or LATE."""
    wrong = 0
    number = start
    while number < start + count:
        cycle_ns = now_ns(duty.clock)
        if cycle_ns > end_ns:
            return LATE
        handled = 0
        if ring.try_pop(inbound, record):
            wrong += differs(record, number, hop - 1)
            fill(record, number, hop)
            ring.try_push(outbound, record)
            number += 1
            handled = 1
        turn(duty, attention, cycle_ns, handled)
    return wrong


class Station:
    """One process's part of the circle. Built before the fork; `open` runs in the process itself."""

    def __init__(self, line: "Line", hop: int) -> None:
        self._line, self._hop = line, hop
        self._samples = line.samples

    def open(self) -> None:
        """Open the bells, and make a duty for each strategy."""
        line, hop = self._line, self._hop
        self._own = _bell(line.doors[hop], writable=True)
        self._before, self._next = (_bell(line.doors[(hop + step) % line.hops], writable=False) for step in (-1, 1))
        self._attention, self._command = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._status, self._record = np.zeros(1, STATUS), np.zeros(RECORD_BYTES // 8, np.int64)
        self._duties = {name: self._duty(name) for name in STRATEGIES}

    def _duty(self, idle: str) -> Duty:
        line, hop = self._line, self._hop
        duty = new_duty(1, idle.split()[-1])._replace(clock=line.clock)
        duty.words[PER_AGENT + COMMAND_ADDRESS] = self._command.ctypes.data
        duty.words[PER_AGENT + STATUS_ADDRESS] = self._status.ctypes.data
        if idle == "yield" and line.is_shared:
            return duty._replace(order=words_of(line.stamps[hop], line.stamps[:hop] + line.stamps[hop + 1 :], hop - 1))
        if idle != "doorbell":
            return duty
        rings = line.rings
        edges = [Edge(self._before.address, rings[hop - 1], False), Edge(self._next.address, rings[hop], True)]
        return with_bells(duty, self._own.address, edges, Agent.sleep_ns_max)

    def run(self, name: str, start: int, count: int) -> int:
        """One slice; returns how many records were wrong, or LATE."""
        line, hop = self._line, self._hop
        if name == FUTEX:
            return self._run_futex(start, count, time.monotonic_ns() + SLICE_LIMIT_NS)
        duty, attention, record = self._duties[name], self._attention.ctypes.data, self._record.ctypes.data
        end_ns = int(time.monotonic_ns()) + SLICE_LIMIT_NS
        inbound, outbound = line.rings[hop - 1], line.rings[hop]
        if hop == 0:
            last = line.hops - 1
            return int(
                lead(duty, attention, outbound, inbound, record, last, start, count, self._samples.ctypes.data, end_ns)
            )
        return int(follow(duty, attention, inbound, outbound, record, hop, start, count, end_ns))

    def _run_futex(self, start: int, count: int, end_ns: int) -> int:
        line, hop = self._line, self._hop
        assert line.library is not None
        slots = ctypes.c_void_p(line.slots[hop - 1]), ctypes.c_void_p(line.slots[hop])
        numbers = [ctypes.c_int64(each) for each in (hop or line.hops - 1, start, count)]
        if hop == 0:
            samples = ctypes.c_void_p(self._samples.ctypes.data)
            return int(line.library.lead(*slots, *numbers, samples, ctypes.c_int64(end_ns)))
        return int(line.library.follow(*slots, *numbers, ctypes.c_int64(end_ns)))


def _bell(name: str, *, writable: bool) -> Bell:
    return Bell(name, Segment.attach(name, DOOR_LAYOUT, writable=writable).address)


class Line:
    """The shared memory of a circle of `hops` processes, and their hands: `slice` runs one."""

    def __init__(self, doors: Sequence[str], library: Path | None, *, is_shared: bool) -> None:
        self.doors, self.hops, self.is_shared = list(doors), len(doors), is_shared
        self.clock = calibrate(0.02)
        self.library = None if library is None else ctypes.CDLL(str(library))
        for name in ("lead", "follow") if self.library is not None else ():
            getattr(self.library, name).restype = ctypes.c_int64
        size = -(-ring_bytes(CAPACITY, RECORD_BYTES) // 4096) * 4096
        self._memory = mmap.mmap(-1, self.hops * (size + SLOT_BYTES + TURN.itemsize) + 8 * COUNT_MAX)
        base = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        self.rings = [base + hop * size for hop in range(self.hops)]
        for address in self.rings:
            format_ring(address, CAPACITY, RECORD_BYTES)
        self.slots = [base + self.hops * size + hop * SLOT_BYTES for hop in range(self.hops)]
        offset = self.hops * (size + SLOT_BYTES)
        self.stamps = [base + offset + 8 * COUNT_MAX + hop * TURN.itemsize for hop in range(self.hops)]
        self.samples = np.frombuffer(self._memory, np.int64, COUNT_MAX, offset)
        self.hands: list[Connection] = []
        self._rounds: dict[str, int] = {}

    def slice(self, name: str, count: int) -> np.ndarray:
        """`count` rounds of a strategy; the cycles of each. Raises RuntimeError when a record was wrong or late."""
        start = self._rounds.get(name, 0)
        self._rounds[name] = start + count
        for hand in reversed(self.hands):  # the first process last: it begins
            hand.send((name, start, count))
        found = [hand.recv() for hand in self.hands]
        if any(found):
            raise RuntimeError(f"{name}: wrong records by process {found} ({LATE}: not done within the limit)")
        return self.samples[:count].copy()


@contextmanager
def line_of(cores: Sequence[int], library: Path | None) -> Iterator[Line]:
    """A circle of one process for each of `cores`, in that order, pinned; ended and removed at the end."""
    doors = [f"{NAME_PREFIX}bench-{os.getpid()}.door{hop}" for hop in range(len(cores))]
    pids: list[int] = []
    try:
        for name in doors:
            Segment.create(name, DOOR_LAYOUT).close()
            doorbell.create_semaphore(name)
        line = Line(doors, library, is_shared=len(set(cores)) < len(cores))
        _compile(line)
        for hop, core in enumerate(cores):
            here, there = Pipe()
            pids.append(_fork(Station(line, hop), core, there))
            there.close()
            line.hands.append(here)
        yield line
    finally:
        end(pids)
        for name in doors:
            doorbell.unlink_semaphore(name)
            unlink(name)


def _compile(line: Line) -> None:
    duty, nothing = new_duty(1, "spin"), np.zeros(1, np.int64).ctypes.data
    lead(duty, nothing, line.rings[0], line.rings[0], nothing, 0, 0, 0, nothing, 0)
    follow(duty, nothing, line.rings[0], line.rings[0], nothing, 0, 0, 0, 0)


def _fork(station: Station, core: int, orders: Connection) -> int:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            die_with(parent)
            signal.alarm(LIFE_LIMIT_S)
            os.sched_setaffinity(0, {core})
            station.open()
            while True:
                orders.send(station.run(*orders.recv()))
        finally:
            os._exit(1)
    return child


@contextmanager
def busy_neighbour(core: int) -> Iterator["Neighbour"]:
    """A process that does nothing but burn `core`, at normal priority, whenever it may."""
    neighbour = Neighbour(core)
    try:
        yield neighbour
    finally:
        end([neighbour.pid])


class Neighbour:
    """Stopped until `go`."""

    def __init__(self, core: int) -> None:
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                die_with(parent)
                signal.alarm(LIFE_LIMIT_S)
                os.sched_setaffinity(0, {core})
                os.kill(os.getpid(), signal.SIGSTOP)
                while True:
                    sum(range(1000))
            finally:
                os._exit(1)
        os.waitpid(self.pid, os.WUNTRACED)

    def go(self) -> None:
        """Burn from here on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Off the core."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)


def end(pids: Sequence[int]) -> None:
    """Kill and reap these children."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
