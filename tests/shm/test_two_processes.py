"""Two real processes over a real segment: every word of every message, once and in order, in each style of the ring."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from shm import ring
from shm.atomics import JIT, load_word, pause
from shm.kernel import kernel, primitive
from shm.segment import Segment, ring_layout, unlink
from tests.shm.messages import CAUSE_SEQ, MESSAGE, MESSAGE_BYTES, difference, fill, is_whole
from tests.shm.processes import Children, Deadline

pytestmark = pytest.mark.skipif(not JIT, reason="millions of messages need compiled code")

LIFE = 1
BATCH = 64
CALL = 100_000
"""Most messages of one call of a kernel: between two calls the deadline is looked at."""
SPINS = 300
"""Vain looks, some 20 to 60 ns each, after which a kernel returns and the process yields; on one core none."""

FILLINGS = 2_000
"""How often the ring is filled at most when both have one core: each is two turns of the scheduler, milliseconds long
where others run there too."""
MILLION = 1_000_000


@primitive
def _is_right(record: int, seq: int) -> bool:
    return is_whole(record, seq) and load_word(record + CAUSE_SEQ) == -seq


@kernel
def _push_singly(base: int, scratch: int, first: int, count: int, spins: int) -> int:
    """Push messages `first`.. until `count` are in or the ring stays full; returns how many are in."""
    for index in range(count):
        fill(scratch, first + index, -(first + index), LIFE)
        vain = 0
        while not ring.try_push(base, scratch):
            if vain >= spins:
                return index
            vain += 1
            pause()
    return count


@kernel
def _pop_singly(base: int, scratch: int, first: int, count: int, spins: int) -> int:
    """Pop and check messages `first`.. until `count` or the ring stays empty. Returns how many.

    -seq when a message is not what it should be; what came instead is then the first record of `scratch`.
    """
    for index in range(count):
        vain = 0
        while not ring.try_pop(base, scratch):
            if vain >= spins:
                return index
            vain += 1
            pause()
        if not _is_right(scratch, first + index):
            return -(first + index)
    return count


@kernel
def _push_batches(base: int, scratch: int, first: int, count: int, spins: int) -> int:
    done = 0
    while done < count:
        wanted = min(BATCH, count - done)
        for index in range(wanted):
            fill(scratch + index * MESSAGE_BYTES, first + done + index, -(first + done + index), LIFE)
        sent = 0
        vain = 0
        while sent < wanted:
            pushed = ring.push_batch(base, scratch + sent * MESSAGE_BYTES, wanted - sent)
            sent += pushed
            if pushed == 0:
                if vain >= spins:
                    return done + sent
                vain += 1
                pause()
        done += sent
    return done


@kernel
def _pop_batches(base: int, scratch: int, first: int, count: int, spins: int) -> int:
    done = 0
    vain = 0
    while done < count:
        popped = ring.pop_batch(base, scratch, min(BATCH, count - done))
        for index in range(popped):
            record = scratch + index * MESSAGE_BYTES
            if not _is_right(record, first + done + index):
                ring.copy_record(scratch, record, MESSAGE_BYTES)
                return -(first + done + index)
        done += popped
        vain = vain + 1 if popped == 0 else 0
        if vain > spins:
            break
        if popped == 0:
            pause()
    return done


@kernel
def _build_in_place(base: int, scratch: int, first: int, count: int, spins: int) -> int:
    done = 0
    vain = 0
    while done < count:
        wanted = min(BATCH, count - done)
        claimed = min(wanted, ring.room(base, wanted))
        for index in range(claimed):
            fill(ring.claim(base, index), first + done + index, -(first + done + index), LIFE)
        if claimed > 0:
            ring.commit(base, claimed)
        done += claimed
        vain = vain + 1 if claimed == 0 else 0
        if vain > spins:
            break
        if claimed == 0:
            pause()
    return done


@kernel
def _check_in_place(base: int, scratch: int, first: int, count: int, spins: int) -> int:
    for index in range(count):
        record = ring.peek_record(base)
        vain = 0
        while record == 0:
            if vain >= spins:
                return index
            vain += 1
            pause()
            record = ring.peek_record(base)
        if not _is_right(record, first + index):
            ring.copy_record(scratch, record, MESSAGE_BYTES)
            return -(first + index)
        ring.advance(base, 1)
    return count


@dataclass(frozen=True)
class Style:
    """How the writer pushes, and how the reader pops."""

    push: Callable[[int, int, int, int, int], int]
    pop: Callable[[int, int, int, int, int], int]


SINGLE = Style(_push_singly, _pop_singly)
BATCHED = Style(_push_batches, _pop_batches)
IN_PLACE = Style(_build_in_place, _check_in_place)
MIXED_STYLES = Style(_push_batches, _pop_singly)
STYLES = {"single": SINGLE, "batched": BATCHED, "in place": IN_PLACE, "batches in, single out": MIXED_STYLES}


@pytest.fixture
def two_cores() -> Iterator[tuple[int, int]]:
    """The writer's core, and that of the reader, which is this process; the same one where there is only one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield min(before), max(before)
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("style", "capacity", "total"),
    [
        ("single", 4096, 4 * MILLION),
        ("batched", 4096, 4 * MILLION),
        ("in place", 4096, 2 * MILLION),
        ("batches in, single out", 16, MILLION),
        ("single", 1, 100_000),  # full and empty in turns: the line wanders for every message
        ("in place", 2, 100_000),
    ],
)
def test_every_word_arrives_once_and_in_order(
    two_cores: tuple[int, int], style: str, capacity: int, total: int
) -> None:
    pass_messages(style, capacity, total, two_cores, Deadline(90.0))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("style", ["single", "batched", "in place"])
def test_every_word_of_a_hundred_million_messages_arrives_once_and_in_order(
    two_cores: tuple[int, int], style: str
) -> None:
    pass_messages(style, 65_536, 100 * MILLION, two_cores, Deadline(840.0))


def pass_messages(style: str, capacity: int, total: int, cores: tuple[int, int], deadline: Deadline) -> None:
    """Send messages 1 to `total` from a child to this process, which checks them."""
    name = f"tickpipe.test-{os.getpid()}.pass"
    layout = ring_layout(MESSAGE, capacity)
    records = np.zeros(BATCH, MESSAGE)
    scratch = int(records.ctypes.data)
    push, pop = STYLES[style].push, STYLES[style].pop
    spins = SPINS
    if cores[0] == cores[1]:
        spins, total = 0, min(total, capacity * FILLINGS)
    push(0, scratch, 1, 0, 0)  # compiled now, for the child also
    pop(0, scratch, 1, 0, 0)

    def write() -> None:
        base = Segment.attach(name, layout, writable=True).address
        sent = 0
        while sent < total:
            got = push(base, scratch, 1 + sent, min(CALL, total - sent), spins)
            sent += got
            if got == 0:
                os.sched_yield()
            deadline.check(f"{sent} of {total} messages sent")

    try:
        with Segment.create(name, layout) as segment, Children() as children:
            start = time.monotonic()
            writer = children.fork("writer", cores[0], write)
            received = 0
            while received < total:
                got = pop(segment.address, scratch, 1 + received, min(CALL, total - received), spins)
                if got < 0:
                    pytest.fail(difference(records[:1], -got))
                received += got
                if got == 0:
                    sent = ring.cursors(segment.address)[1]
                    assert sent > received or sent == total or not children.has_exited(writer), f"writer died at {sent}"
                    os.sched_yield()
                deadline.check(f"{received} of {total} messages received")
            seconds = time.monotonic() - start
            children.join(writer, deadline)
            assert ring.cursors(segment.address) == (total, total)
    finally:
        unlink(name)
    print(
        f"{style}, capacity {capacity}: {total} messages of {MESSAGE_BYTES} bytes, every word checked, in "
        f"{seconds:.2f} s ({seconds / total * 1e9:.0f} ns each), cores {cores[0]} and {cores[1]}"
    )
