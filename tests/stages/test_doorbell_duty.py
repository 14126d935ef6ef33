"""The idle strategy `doorbell` in the duty cycle: whoever sleeps is rung for whatever could be its work."""

import os
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import doorbell, ring
from shm.atomics import JIT, load_word, peek, store_word
from shm.clock import calibrate
from shm.clock import now_ns as read_clock
from shm.control import STATUS
from shm.doorbell import DOOR_LAYOUT, Bell
from shm.kernel import kernel, primitive
from shm.neighbour import Edge
from shm.segment import SHM_DIRECTORY, Segment, ring_layout, unlink
from stages.duty import (
    COMMAND_ADDRESS,
    CYCLE_MAX,
    DOORBELL_SPINS,
    LAST_TURN,
    PER_AGENT,
    STALLS,
    STATUS_ADDRESS,
    Duty,
    new_duty,
    turn,
    with_bells,
)

RECORD = np.dtype([("word", "<i8", (8,))])
CAPACITY = 4
LOST_NS = 20_000_000_000
"""A sleep of this length was not rung: far longer than anything here takes."""
LOST_S = LOST_NS / 1e9
SHORT_NS = 1_000_000


class Sleeper:
    """A process's duty without the process: own door, own bell, words for one agent."""

    def __init__(self, name: str, sleep_ns: int) -> None:
        self.name, self.sleep_ns = f"tickpipe.test-{os.getpid()}.{name}", sleep_ns
        self.segment = Segment.create(self.name, DOOR_LAYOUT, keep_over_fork=True)  # while open, no start sweeps it
        doorbell.create_semaphore(self.name)
        self.attention = np.zeros(1, np.int64)
        self.command = np.zeros(1, np.int64)
        self.status = np.zeros(1, STATUS)
        self.bells: list[Bell] = []

    def bell(self, *, writable: bool) -> int:
        bell = Bell(self.name, Segment.attach(self.name, DOOR_LAYOUT, writable=writable).address)
        self.bells.append(bell)
        self.door = int(bell._words[doorbell.DOOR // 8])
        return bell.address

    def duty(self, idle: str = "doorbell") -> Duty:
        duty = new_duty(1, idle)._replace(clock=CLOCK.copy())
        duty.words[PER_AGENT + COMMAND_ADDRESS] = self.command.ctypes.data
        duty.words[PER_AGENT + STATUS_ADDRESS] = self.status.ctypes.data
        return duty

    def open(self, *edges: Edge) -> Duty:
        """The duty of this sleeper, in the process that uses it."""
        return with_bells(self.duty(), self.bell(writable=True), edges, self.sleep_ns)

    def remove(self) -> None:
        for bell in self.bells:
            bell.close()
        doorbell.unlink_semaphore(self.name)
        unlink(self.name)
        self.segment.close()

    @property
    def has_announced(self) -> bool:
        return bool(peek(self.door) & 1)


class Pair:
    """A writer and a reader of one ring, in this process; both have rung once, as whoever starts does."""

    def __init__(self, writer: Sleeper, reader: Sleeper, capacity: int = CAPACITY) -> None:
        self.writer, self.reader = writer, reader
        self._memory = np.zeros(ring.ring_bytes(capacity, RECORD.itemsize) + 128, np.uint8)
        self.base = -(-int(self._memory.ctypes.data) // 128) * 128
        ring.format_ring(self.base, capacity, RECORD.itemsize)
        self.record = np.zeros(1, RECORD)
        self.writing = writer.open(Edge(reader.bell(writable=False), self.base, True))
        self.reading = reader.open(Edge(writer.bell(writable=False), self.base, False))
        step(writer, self.writing, handled=1)
        step(reader, self.reading, handled=1)

    def push(self, count: int = 1) -> int:
        return sum(push(self.base, self.record.ctypes.data) for _ in range(count))

    def pop(self, count: int = 1) -> int:
        return sum(pop(self.base, self.record.ctypes.data) for _ in range(count))

    def write(self, count: int = 1) -> None:
        """A cycle of the writer that publishes."""
        self.push(count)
        step(self.writer, self.writing, handled=1)

    def read(self, count: int = 1) -> None:
        """A cycle of the reader that consumes."""
        self.pop(count)
        step(self.reader, self.reading, handled=1)


CLOCK = calibrate(0.002)
Sleepers = Callable[..., Sleeper]


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    made: list[Sleeper] = []

    def make(name: str, sleep_ns: int = LOST_NS) -> Sleeper:
        made.append(Sleeper(name, sleep_ns))
        return made[-1]

    yield make
    for sleeper in made:
        sleeper.remove()


@kernel
def push(base: int, record: int) -> bool:
    return ring.try_push(base, record)


@kernel
def pop(base: int, record: int) -> bool:
    return ring.try_pop(base, record)


@kernel
def cycle(duty: Duty, attention: int, now_ns: int, handled: int) -> bool:
    return turn(duty, attention, now_ns, handled)


def step(sleeper: Sleeper, duty: Duty, handled: int = 0) -> bool:
    return bool(cycle(duty, sleeper.attention.ctypes.data, time.monotonic_ns(), handled))


def announce(sleeper: Sleeper, duty: Duty) -> None:
    """Idle until the sleep is announced, which no cycle before has slept for."""
    for _ in range(DOORBELL_SPINS - 1):
        step(sleeper, duty)
        assert not sleeper.has_announced
    step(sleeper, duty)
    assert sleeper.has_announced


def in_time(sleeper: Sleeper, duty: Duty) -> bool:
    """Whether an idle cycle that may sleep was rung."""
    start = time.monotonic()
    step(sleeper, duty)
    return time.monotonic() - start < LOST_S / 2


def posts(name: str) -> int:
    """Posts nobody has taken, by the first word of the C library's semaphore."""
    return int.from_bytes((SHM_DIRECTORY / f"sem.{name}").read_bytes()[:4], "little")


@pytest.fixture
def pair(sleepers: Sleepers) -> Pair:
    return Pair(sleepers("writer"), sleepers("reader"))


def test_what_the_second_look_finds_ends_the_announced_sleep(pair: Pair) -> None:
    announce(pair.reader, pair.reading)
    pair.write()
    assert posts(pair.reader.name) == 1, "it had announced, so it was rung"
    pair.read()
    assert not pair.reader.has_announced
    assert posts(pair.reader.name) == 0, "no post is left for the next sleep"
    announce(pair.reader, pair.reading)


def test_a_record_that_comes_after_the_second_look_ends_the_sleep_at_once(pair: Pair) -> None:
    for _ in range(3):
        announce(pair.reader, pair.reading)
        pair.write()
        pair.write()
        assert in_time(pair.reader, pair.reading)
        assert not pair.reader.has_announced
        pair.read(2)


def test_nobody_is_rung_for_a_cycle_that_published_nothing_nor_while_awake(pair: Pair) -> None:
    pair.write()
    assert posts(pair.reader.name) == 0, "awake"
    pair.read()
    announce(pair.reader, pair.reading)
    step(pair.writer, pair.writing, handled=1)
    assert posts(pair.reader.name) == 0


def test_what_was_published_outside_a_cycle_rings_in_the_next_one(pair: Pair) -> None:
    """By a poll that then asked for the cold side, or by the cold side itself."""
    announce(pair.reader, pair.reading)
    pair.push()
    step(pair.writer, pair.writing, handled=0)
    assert in_time(pair.reader, pair.reading)
    pair.read()
    announce(pair.reader, pair.reading)
    step(pair.writer, pair.writing, handled=0)
    assert posts(pair.reader.name) == 0, "once"


def test_who_starts_rings_once_for_what_a_predecessor_may_not_have_rung_for(sleepers: Sleepers) -> None:
    writer, reader = sleepers("writer"), sleepers("reader")
    pair = Pair(writer, reader)
    announce(reader, pair.reading)
    again = writer.open(Edge(reader.bell(writable=False), pair.base, True))
    step(writer, again)
    assert posts(reader.name) == 1
    announce(writer, pair.writing)
    again = reader.open(Edge(writer.bell(writable=False), pair.base, False))
    step(reader, again)
    assert posts(writer.name) == 1


def test_room_rings_where_the_ring_was_half_full_and_not_else(pair: Pair) -> None:
    pair.write()
    announce(pair.writer, pair.writing)
    pair.read()
    assert posts(pair.writer.name) == 0, "nobody waits for room in a ring with so much of it"
    pair.push(CAPACITY)
    step(pair.writer, pair.writing, handled=CAPACITY)
    announce(pair.writer, pair.writing)
    pair.read()
    assert in_time(pair.writer, pair.writing)


def test_a_writer_that_waits_for_up_to_half_a_ring_is_rung_when_there_is_room(sleepers: Sleepers) -> None:
    capacity = 16
    pair = Pair(sleepers("writer"), sleepers("reader"), capacity)

    @given(st.integers(1, capacity // 2), st.lists(st.tuples(st.booleans(), st.integers(1, capacity)), max_size=60))
    def holds(wanted: int, cycles: list[tuple[bool, int]]) -> None:
        pair.read(capacity)
        step(pair.writer, pair.writing, handled=1)
        for is_write, count in cycles:
            if not is_write:
                pair.read(count)
                if pair.writer.has_announced and _free(pair.base, capacity) >= wanted:
                    assert posts(pair.writer.name) == 1
                    step(pair.writer, pair.writing, handled=1)
            elif not pair.writer.has_announced:
                pair.write(count)
                if _free(pair.base, capacity) < wanted:
                    announce(pair.writer, pair.writing)

    holds()


def _free(base: int, capacity: int) -> int:
    head, tail = ring.cursors(base)
    return capacity - (tail - head)


def test_a_sleep_nobody_rings_for_ends_and_the_next_is_announced_without_spinning(sleepers: Sleepers) -> None:
    one = sleepers("one", SHORT_NS)
    duty = one.open()
    announce(one, duty)
    for _ in range(3):
        before = time.monotonic_ns()
        step(one, duty)
        assert time.monotonic_ns() - before >= SHORT_NS
        assert not one.has_announced
        step(one, duty)
        assert one.has_announced


def test_commands_and_calls_for_attention_are_looked_at_before_each_sleep(sleepers: Sleepers) -> None:
    one = sleepers("one")
    duty = one.open()
    announce(one, duty)
    one.command[0] = 1
    assert step(one, duty)
    one.command[0], one.attention[0] = 0, 1
    assert step(one, duty)


def test_asleep_is_not_stalled(sleepers: Sleepers) -> None:
    one = sleepers("one", 20 * SHORT_NS)
    duty = one.open()
    announce(one, duty)
    before_ns = time.monotonic_ns()
    step(one, duty)
    woken_ns = int(duty.words[LAST_TURN])
    assert woken_ns - before_ns >= 10 * SHORT_NS
    duty.words[CYCLE_MAX] = duty.words[STALLS] = 0
    cycle(duty, one.attention.ctypes.data, woken_ns + 1_000, 0)
    assert (duty.words[CYCLE_MAX], duty.words[STALLS]) == (1_000, 0)


@pytest.mark.parametrize("idle", ["spin", "yield", "backoff"])
def test_the_other_strategies_ring_nobody(pair: Pair, idle: str) -> None:
    duty = pair.writer.duty(idle)
    assert len(duty.bells) == 0
    announce(pair.reader, pair.reading)
    pair.push()
    step(pair.writer, duty, handled=1)
    assert posts(pair.reader.name) == 0


@kernel
def send(duty: Duty, attention: int, base: int, record: int, count: int) -> int:
    """Push `count` numbered records, idle whenever there is no room; how many before a sleep was not rung."""
    sent = 0
    while sent < count:
        now_ns = read_clock(duty.clock)
        handled = 0
        for _ in range(2):
            store_word(record, sent)
            if sent == count or not ring.try_push(base, record):
                break
            sent += 1
            handled += 1
        turn(duty, attention, now_ns, handled)
        if is_lost(duty, now_ns):
            break
    return sent


@kernel
def receive(duty: Duty, attention: int, base: int, record: int, count: int) -> int:
    """Pop `count` records in order, idle whenever there is none; how many before a sleep was not rung, -1: wrong."""
    got = 0
    while got < count:
        now_ns = read_clock(duty.clock)
        handled = 0
        if ring.try_pop(base, record):
            if load_word(record) != got:
                return -1
            got += 1
            handled = 1
        turn(duty, attention, now_ns, handled)
        if is_lost(duty, now_ns):
            break
    return got


@primitive
def is_lost(duty: Duty, now_ns: int) -> bool:
    """Whether the turn just taken slept to its bound."""
    return duty.words[LAST_TURN] - now_ns >= LOST_NS


@pytest.mark.skipif(not JIT, reason="the plain twin of the fence orders nothing between two processes")
def test_a_small_ring_runs_full_and_empty_and_no_wake_up_is_lost(sleepers: Sleepers) -> None:
    """Both sleep without a bound that matters: the writer for room, the reader for records, over a ring of four."""
    writer, reader = sleepers("writer"), sleepers("reader")
    count, name = 5_000, f"tickpipe.test-{os.getpid()}.ring"
    layout = ring_layout(RECORD, CAPACITY)
    base = Segment.create(name, layout, keep_over_fork=True).address
    unlink(name)
    record = np.zeros(8, np.int64)
    for loop, sleeper in ((send, writer), (receive, reader)):
        loop(new_duty(1, "doorbell"), sleeper.attention.ctypes.data, base, record.ctypes.data, 0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            duty = writer.open(Edge(reader.bell(writable=False), base, True))
            sent = send(duty, writer.attention.ctypes.data, base, record.ctypes.data, count)
            code = 0 if sent == count else 1
        finally:
            os._exit(code)
    duty = reader.open(Edge(writer.bell(writable=False), base, False))
    got = receive(duty, reader.attention.ctypes.data, base, record.ctypes.data, count)
    status = os.waitpid(child, 0)[1]
    assert got == count, f"a wake-up was lost, or the order, after {got} of {count} records"
    assert status == 0
