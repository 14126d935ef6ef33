"""The idle strategy `doorbell` in the duty cycle: whoever sleeps is rung for whatever could be its work."""

import os
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from shm import doorbell, ring
from shm.atomics import JIT, load_word, peek, store_word
from shm.clock import calibrate, read_now_ns
from shm.clock import now_ns as read_clock
from shm.control import STATUS
from shm.doorbell import DOOR_LAYOUT, Bell
from shm.kernel import kernel
from shm.segment import SHM_DIRECTORY, Segment, ring_layout, unlink
from stages.duty import (
    COMMAND_ADDRESS,
    CYCLE_MAX,
    DOORBELL_SPINS,
    LAST_TURN,
    PER_AGENT,
    RINGS_OWED,
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

    def __init__(self, name: str, sleep_ns: int, idle: str = "doorbell") -> None:
        self.name, self.sleep_ns, self.idle = f"tickpipe.test-{os.getpid()}.{name}", sleep_ns, idle
        Segment.create(self.name, DOOR_LAYOUT, keep_over_fork=True).close()
        doorbell.create_semaphore(self.name)
        self.attention = np.zeros(1, np.int64)
        self.command = np.zeros(1, np.int64)
        self.status = np.zeros(1, STATUS)
        self.bells: list[Bell] = []

    def bell(self, *, writable: bool) -> Bell:
        bell = Bell(self.name, Segment.attach(self.name, DOOR_LAYOUT, writable=writable).address)
        self.bells.append(bell)
        return bell

    def open(self, *others: "Sleeper") -> Duty:
        """The duty of this sleeper, which rings at `others`. In the process that uses it."""
        duty = new_duty(1, self.idle)._replace(clock=CLOCK.copy())
        duty.words[PER_AGENT + COMMAND_ADDRESS] = self.command.ctypes.data
        duty.words[PER_AGENT + STATUS_ADDRESS] = self.status.ctypes.data
        self.own = self.bell(writable=True)
        self.door = int(self.own._words[doorbell.DOOR // 8])
        return with_bells(
            duty, self.own.address, [other.bell(writable=False).address for other in others], self.sleep_ns
        )

    def remove(self) -> None:
        for bell in self.bells:
            bell.close()
        doorbell.unlink_semaphore(self.name)
        unlink(self.name)

    @property
    def has_announced(self) -> bool:
        return bool(peek(self.door) & 1)


CLOCK = calibrate(0.002)
Sleepers = Callable[..., Sleeper]


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    made: list[Sleeper] = []

    def make(name: str, sleep_ns: int = LOST_NS, idle: str = "doorbell") -> Sleeper:
        made.append(Sleeper(name, sleep_ns, idle))
        return made[-1]

    yield make
    for sleeper in made:
        sleeper.remove()


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


def test_what_the_second_look_finds_ends_the_announced_sleep(sleepers: Sleepers) -> None:
    one, other = sleepers("one"), sleepers("other")
    duty, neighbour = one.open(other), other.open(one)
    announce(one, duty)
    step(other, neighbour, handled=1)
    assert posts(one.name) == 1, "it had announced, so it was rung"
    step(one, duty, handled=1)
    assert not one.has_announced
    assert posts(one.name) == 0, "no post is left for the next sleep"
    announce(one, duty)


def test_a_record_that_comes_after_the_second_look_ends_the_sleep_at_once(sleepers: Sleepers) -> None:
    one, other = sleepers("one"), sleepers("other")
    duty, neighbour = one.open(other), other.open(one)
    for _ in range(3):
        announce(one, duty)
        step(other, neighbour, handled=1)
        step(other, neighbour, handled=1)
        assert in_time(one, duty)
        assert not one.has_announced
        step(one, duty, handled=1)


def test_nobody_is_rung_for_a_cycle_that_handled_nothing_nor_while_awake(sleepers: Sleepers) -> None:
    one, other = sleepers("one"), sleepers("other")
    duty, neighbour = one.open(other), other.open(one)
    step(other, neighbour, handled=1)
    assert posts(one.name) == 0
    announce(one, duty)
    step(other, neighbour, handled=0)
    assert posts(one.name) == 0


def test_who_was_in_python_rings_for_what_it_did_before_and_there(sleepers: Sleepers) -> None:
    one, other = sleepers("one"), sleepers("other")
    duty, neighbour = one.open(other), other.open(one)
    announce(one, duty)
    neighbour.words[RINGS_OWED] = 1
    step(other, neighbour, handled=0)
    assert in_time(one, duty)
    step(other, neighbour, handled=0)
    assert posts(one.name) == 0, "owed once"


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
    step(one, duty)
    duty.words[CYCLE_MAX] = duty.words[STALLS] = 0
    woken_ns = int(duty.words[LAST_TURN])
    cycle(duty, one.attention.ctypes.data, woken_ns + 1_000, 0)
    assert (duty.words[CYCLE_MAX], duty.words[STALLS]) == (1_000, 0)


@pytest.mark.parametrize("idle", ["spin", "yield", "backoff"])
def test_the_other_strategies_have_no_bells(sleepers: Sleepers, idle: str) -> None:
    other = sleepers("other")
    duty = new_duty(1, idle)
    assert len(duty.bells) == 0
    neighbour = other.open()
    announce(other, neighbour)
    duty.words[PER_AGENT + COMMAND_ADDRESS] = other.command.ctypes.data
    duty.words[PER_AGENT + STATUS_ADDRESS] = other.status.ctypes.data
    cycle(duty, other.attention.ctypes.data, 0, 1)
    assert posts(other.name) == 0


@kernel
def send(duty: Duty, attention: int, base: int, record: int, count: int, end_ns: int) -> int:
    """Push `count` numbered records, idle whenever there is no room; how many it pushed before `end_ns`."""
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
        if now_ns > end_ns:
            break
    return sent


@kernel
def receive(duty: Duty, attention: int, base: int, record: int, count: int, end_ns: int) -> int:
    """Pop `count` records in order, idle whenever there is none; how many before `end_ns`, -1 for a wrong one."""
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
        if now_ns > end_ns:
            break
    return got


@pytest.mark.skipif(not JIT, reason="the plain twin of the fence orders nothing between two processes")
def test_a_small_ring_runs_full_and_empty_and_no_wake_up_is_lost(sleepers: Sleepers) -> None:
    """Both sleep without a bound that matters: the writer for room, the reader for records, over a ring of four."""
    writer, reader = sleepers("writer"), sleepers("reader")
    count, name = 20_000, f"tickpipe.test-{os.getpid()}.ring"
    layout = ring_layout(RECORD, CAPACITY)
    base = Segment.create(name, layout, keep_over_fork=True).address
    unlink(name)
    record = np.zeros(8, np.int64)
    for loop, sleeper in ((send, writer), (receive, reader)):
        loop(new_duty(1, "doorbell"), sleeper.attention.ctypes.data, base, record.ctypes.data, 0, 0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            duty = writer.open(reader)
            end_ns = int(read_now_ns(duty.clock)) + LOST_NS
            sent = send(duty, writer.attention.ctypes.data, base, record.ctypes.data, count, end_ns)
            code = 0 if sent == count else 1
        finally:
            os._exit(code)
    duty = reader.open(writer)
    got = receive(
        duty, reader.attention.ctypes.data, base, record.ctypes.data, count, int(read_now_ns(duty.clock)) + LOST_NS
    )
    status = os.waitpid(child, 0)[1]
    assert got == count, f"a wake-up was lost, or the order, after {got} of {count} records"
    assert status == 0
