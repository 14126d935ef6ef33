"""The doorbell: no wake-up is lost between two processes that sleep whenever they can, whoever is killed."""

import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import posix_ipc
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shm import doorbell, ring
from shm.atomics import JIT, peek
from shm.doorbell import Bell, DoorbellError, DoorbellExistsError, DoorbellMissingError
from shm.kernel import kernel
from shm.segment import SHM_DIRECTORY, Segment, record_layout, ring_layout, unlink

RECORD = np.dtype([("word", "<i8", (8,))])
RING, DOOR = ring_layout(RECORD, 4), record_layout(doorbell.DOOR_RECORD)
SECOND_NS = 1_000_000_000
NEVER_NS = 30 * SECOND_NS
"""A wait that lasts this long was not woken: the test fails on the first one."""


class Line:
    """A ring and the door of the process that reads it."""

    def __init__(self, name: str) -> None:
        self.ring_name, self.door_name = f"{name}.ring", f"{name}.door"

    def create(self) -> None:
        Segment.create(self.ring_name, RING)
        Segment.create(self.door_name, DOOR)
        doorbell.create_semaphore(self.door_name)

    def remove(self) -> None:
        doorbell.unlink_semaphore(self.door_name)
        unlink(self.door_name)
        unlink(self.ring_name)

    def attach(self) -> tuple[int, int, Bell]:
        """(address of the ring, address of the bell, its owner), in the process that uses them."""
        bell = Bell(self.door_name, Segment.attach(self.door_name, DOOR, writable=True).address)
        return Segment.attach(self.ring_name, RING, writable=True).address, bell.address, bell


@pytest.fixture
def lines() -> Iterator[tuple[Line, Line]]:
    both = Line(f"tickpipe.test-{os.getpid()}.there"), Line(f"tickpipe.test-{os.getpid()}.back")
    for line in both:
        line.create()
    yield both
    for line in both:
        line.remove()


@kernel
def _ring(bell: int) -> None:
    doorbell.ring(bell)


@kernel
def _sleep(bell: int, timeout_ns: int) -> bool:
    doorbell.announce_sleep(bell)
    rung = doorbell.wait_ring(bell, timeout_ns)
    doorbell.end_sleep(bell)
    return rung


@kernel
def _send(base: int, bell: int, words: np.ndarray, first: int, count: int) -> int:
    """Push `count` records and ring after each; how many found room."""
    for index in range(count):
        words[0] = first + index
        if not ring.try_push(base, words.ctypes.data):
            return index
        doorbell.ring(bell)
    return count


@kernel
def _receive(
    base: int, bell: int, words: np.ndarray, first: int, count: int, timeout_ns: int, tally: np.ndarray
) -> int:
    """Pop `count` records in order, asleep whenever there is none; how many came before a wait timed out.

    tally counts [sleeps, waits].
    """
    for index in range(count):
        while not ring.try_pop(base, words.ctypes.data):
            tally[0] += 1
            doorbell.announce_sleep(bell)
            in_time = True
            if ring.available(base, 1) == 0:
                tally[1] += 1
                in_time = doorbell.wait_ring(bell, timeout_ns)
            doorbell.end_sleep(bell)
            if not in_time:
                return index
        if words[0] != first + index:
            return -1
    return count


@kernel
def _answer(there: int, sleep: int, back: int, wake: int, words: np.ndarray, count: int, tally: np.ndarray) -> int:
    """Send each of `count` records back."""
    for index in range(count):
        if _receive(there, sleep, words, index, 1, NEVER_NS, tally) != 1:
            return index
        if _send(back, wake, words, index, 1) != 1:
            return index
    return count


@kernel
def _ask(there: int, wake: int, back: int, sleep: int, words: np.ndarray, count: int, tally: np.ndarray) -> int:
    """Send `count` records, each when the one before has come back."""
    for index in range(count):
        if _send(there, wake, words, index, 1) != 1:
            return index
        if _receive(back, sleep, words, index, 1, NEVER_NS, tally) != 1:
            return index
    return count


def _forked(work: Callable[[], bool]) -> int:
    """A child that does `work` and exits with 0 when it returned True."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return child


@pytest.mark.skipif(not JIT, reason="the plain twin of the fence orders nothing between two processes")
def test_no_ring_is_lost_when_both_sides_sleep_after_every_message(lines: tuple[Line, Line]) -> None:
    total = 30_000
    there, back = lines
    tally, words = np.zeros(2, np.int64), np.zeros(8, np.int64)

    def answer() -> bool:
        (inbound, sleep, first), (outbound, wake, second) = there.attach(), back.attach()
        done = _answer(inbound, sleep, outbound, wake, words, total, tally)
        return done == total and first is not second

    (outbound, wake, first), (inbound, sleep, second) = there.attach(), back.attach()
    _ask(outbound, wake, inbound, sleep, words, 0, tally)
    _answer(inbound, sleep, outbound, wake, words, 0, tally)
    child = _forked(answer)
    done = _ask(outbound, wake, inbound, sleep, words, total, tally)
    assert done == total, f"a wake-up was lost after {done} of {total} messages"
    assert os.waitpid(child, 0)[1] == 0
    assert tally[1] > total // 10, "the test is about sleepers"
    first.close()
    second.close()


@pytest.mark.skipif(not JIT, reason="the plain twin of the fence orders nothing between two processes")
def test_no_ring_is_lost_in_a_flood(lines: tuple[Line, Line]) -> None:
    total = 200_000
    line = lines[0]
    words, tally = np.zeros(8, np.int64), np.zeros(2, np.int64)

    def flood() -> bool:
        base, bell, _ = line.attach()
        sent = 0
        while sent < total:
            got = _send(base, bell, words, sent, total - sent)
            sent += got
            if not got:
                os.sched_yield()
        return True

    base, bell, owner = line.attach()
    _send(base, bell, words, 0, 0)
    child = _forked(flood)
    done = _receive(base, bell, words, 0, total, NEVER_NS, tally)
    assert done == total, f"a wake-up was lost, or the order, after {done} of {total} messages"
    assert os.waitpid(child, 0)[1] == 0
    owner.close()


def test_a_wait_ends_when_its_time_is_up_and_a_ring_for_it_comes_once(lines: tuple[Line, Line]) -> None:
    _, sleeper, first = lines[0].attach()
    _, ringer, second = lines[0].attach()
    _ring(ringer)
    assert not _sleep(sleeper, 1_000_000), "nobody is rung who is awake"

    @kernel
    def rung_while_asleep(sleeper: int, ringer: int) -> int:
        doorbell.announce_sleep(sleeper)
        doorbell.ring(ringer)
        doorbell.ring(ringer)
        waits = 0
        for _ in range(3):
            waits += doorbell.wait_ring(sleeper, 1_000_000)
        doorbell.end_sleep(sleeper)
        return waits

    assert rung_while_asleep(sleeper, ringer) == 1
    assert rung_while_asleep(sleeper, ringer) == 1, "the next sleep is rung again"
    assert not _sleep(sleeper, 1_000_000), "no post is left over"
    first.close()
    second.close()


def test_a_sleeper_killed_asleep_leaves_a_door_that_wakes_its_successor(
    lines: tuple[Line, Line], until: Callable[..., None]
) -> None:
    line = lines[0]
    words, tally = np.zeros(8, np.int64), np.zeros(2, np.int64)
    base, ringer, owner = line.attach()
    door = int(owner._words[doorbell.DOOR // 8])

    def receive(first: int, count: int) -> bool:
        mine, bell, _ = line.attach()
        return int(_receive(mine, bell, words, first, count, NEVER_NS, tally)) == count

    _receive(base, ringer, words, 0, 0, 0, tally)
    _send(base, ringer, words, 0, 0)
    sent = 0
    for _ in range(5):
        child = _forked(lambda first=sent: receive(first, 1_000_000))  # type: ignore[misc]
        until(lambda: peek(door) & 1 == 1, what="the sleeper is asleep")
        assert _send(base, ringer, words, sent, 1) == 1
        sent += 1
        head = sent
        until(lambda head=head: ring.cursors(base)[0] == head and peek(door) & 1 == 1, what="it took one and sleeps")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert _send(base, ringer, words, sent, 2) == 2, "a ringer does not hang at a dead sleeper's door"
        last = _forked(lambda first=sent: receive(first, 3))  # type: ignore[misc]
        until(lambda head=head: ring.cursors(base)[0] == head + 2 and peek(door) & 1 == 1, what="the successor sleeps")
        assert _send(base, ringer, words, sent + 2, 1) == 1
        assert os.waitpid(last, 0)[1] == 0, "the successor was not woken"
        sent += 3
    owner.close()


def test_semaphores_are_private_and_their_names_are_taken_once(lines: tuple[Line, Line]) -> None:
    name = lines[0].door_name
    assert (SHM_DIRECTORY / f"sem.{name}").stat().st_mode & 0o777 == 0o600
    with pytest.raises(DoorbellExistsError, match=name):
        doorbell.create_semaphore(name)
    with pytest.raises(DoorbellMissingError, match=r"tickpipe\.nothing"):
        Bell("tickpipe.nothing", 0)


def test_what_is_not_a_semaphore_of_ours_is_refused() -> None:
    name = f"tickpipe.test-{os.getpid()}.link"
    path = SHM_DIRECTORY / f"sem.{name}"
    path.symlink_to("/etc/hostname")
    try:
        with pytest.raises(DoorbellError, match="not ours"):
            Bell(name, 0)
    finally:
        path.unlink()


def test_sweep_removes_the_semaphores_of_dead_owners_and_those_without_a_segment(lines: tuple[Line, Line]) -> None:
    prefix = f"tickpipe.test-{os.getpid()}"
    dead = Line(f"{prefix}.dead")
    child = _forked(lambda: dead.create() is None)
    assert os.waitpid(child, 0)[1] == 0
    doorbell.create_semaphore(f"{prefix}.orphan")
    try:
        assert doorbell.sweep(prefix) == [dead.door_name, f"{prefix}.orphan"]
        assert not (SHM_DIRECTORY / f"sem.{dead.door_name}").exists()
        assert (SHM_DIRECTORY / f"sem.{lines[0].door_name}").exists(), "a live run's"
    finally:
        dead.remove()


@kernel
def _announce(bell: int) -> None:
    doorbell.announce_sleep(bell)


@kernel
def _wait(bell: int, timeout_ns: int) -> bool:
    return doorbell.wait_ring(bell, timeout_ns)


@kernel
def _end(bell: int) -> None:
    doorbell.end_sleep(bell)


class DoorbellMachine(RuleBasedStateMachine):
    """A sleeper and two ringers, step by step, replaced at any time; the model is the door's number and the posts."""

    @initialize(start=st.sampled_from([0, 3, 4, 2**63 - 1000]))
    def make(self, start: int) -> None:
        # A semaphore without a segment: a line that starts beside this test would sweep it away by its usual name.
        self.name = f"tickpipe-test-{os.getpid()}.machine"
        doorbell.create_semaphore(self.name)
        self.semaphore = posix_ipc.Semaphore(f"/{self.name}")
        self.words = np.full(1, start, np.int64)
        self.sleeper, self.ringers = self.bell(), [self.bell(), self.bell()]
        self.sleeps, self.posts, self.rung, self.is_asleep = start, 0, [0, 0], False

    def bell(self) -> Bell:
        return Bell(self.name, int(self.words.ctypes.data))

    @rule()
    @precondition(lambda self: not self.is_asleep)
    def announce(self) -> None:
        _announce(self.sleeper.address)
        self.sleeps, self.is_asleep = (self.sleeps + 1) | 1, True

    @rule(who=st.integers(0, 1))
    def ring(self, who: int) -> None:
        _ring(self.ringers[who].address)
        if self.sleeps & 1 and self.rung[who] != self.sleeps:
            self.posts, self.rung[who] = self.posts + 1, self.sleeps

    @rule()
    @precondition(lambda self: self.is_asleep)
    def wait(self) -> None:
        assert bool(_wait(self.sleeper.address, 0)) == (self.posts > 0)
        self.posts = max(0, self.posts - 1)

    @rule()
    @precondition(lambda self: self.is_asleep)
    def end(self) -> None:
        _end(self.sleeper.address)
        self.sleeps, self.is_asleep = self.sleeps + 1, False
        self.posts = max(0, self.posts - doorbell.LATE_POSTS_MAX)

    @rule()
    def the_sleeper_is_replaced(self) -> None:
        self.sleeper.close()
        self.sleeper, self.is_asleep = self.bell(), False

    @rule(who=st.integers(0, 1))
    def a_ringer_is_replaced(self, who: int) -> None:
        self.ringers[who].close()
        self.ringers[who], self.rung[who] = self.bell(), 0

    @invariant()
    def the_door_and_the_posts_are_the_models(self) -> None:
        assert self.words[0] == self.sleeps
        assert self.semaphore.value == self.posts

    def teardown(self) -> None:
        for bell in (self.sleeper, *self.ringers):
            bell.close()
        self.semaphore.close()
        doorbell.unlink_semaphore(self.name)


def test_the_doorbell_does_what_its_model_does() -> None:
    some = settings(max_examples=60 if JIT else 10, stateful_step_count=30)
    run_state_machine_as_test(DoorbellMachine, settings=some)  # type: ignore[no-untyped-call]
