"""The SPSC ring against a plain queue, at its edges, and between two real processes."""

import os
import signal
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import ring
from shm.atomics import JIT, poke
from shm.kernel import kernel
from shm.segment import Segment, ring_layout, unlink

RECORD = np.dtype([("seq", "<i8"), ("word", "<i8", (7,))])
WORDS = np.zeros(8, np.int64)
"""Scratch of the process that runs a kernel."""
WIDE = np.dtype([("word", "<i8", (16,))])
NARROW = np.dtype("<i8")
UNEVEN = np.dtype([("word", "<i8", (11,))])
NEAR_THE_END = 2**63 - (40 if JIT else 2000)
"""Compiled cursors wrap, and go on. Plain Python's integers do not: a run without the compiler stays below."""


@kernel
def _push(base: int, records: int, count: int) -> int:
    return ring.push_batch(base, records, count)


@kernel
def _pop(base: int, records: int, count: int) -> int:
    return ring.pop_batch(base, records, count)


@kernel
def _try_push(base: int, record: int) -> bool:
    return ring.try_push(base, record)


@kernel
def _try_pop(base: int, record: int) -> bool:
    return ring.try_pop(base, record)


def _ring(capacity: int, dtype: np.dtype, start: int = 0) -> tuple[np.ndarray, int]:
    memory = np.zeros(ring.ring_bytes(capacity, dtype.itemsize) // 8 + 16, np.int64)
    base = -(-memory.ctypes.data // 128) * 128
    ring.format_ring(base, capacity, dtype.itemsize)
    for cursor in (ring.TAIL, ring.CACHED_HEAD, ring.HEAD, ring.CACHED_TAIL):
        poke(base + cursor, start)
    return memory, base


@given(
    capacity=st.sampled_from([1, 2, 4, 16]),
    start=st.sampled_from([0, 7, NEAR_THE_END]),
    steps=st.lists(st.tuples(st.sampled_from(["push", "pop", "try_push", "try_pop"]), st.integers(0, 20)), max_size=60),
    dtype=st.sampled_from([RECORD, WIDE, NARROW, UNEVEN]),
)
def test_ring_behaves_like_a_bounded_queue(
    capacity: int, start: int, steps: list[tuple[str, int]], dtype: np.dtype
) -> None:
    memory, base = _ring(capacity, dtype, start)
    model: deque[list[int]] = deque()
    written = 0
    words = dtype.itemsize // 8
    for action, count in steps:
        buffer = np.zeros((32, words), np.int64)
        if action == "push":
            buffer[:count] = np.arange(written, written + count * words).reshape(count, words)
            pushed = _push(base, buffer.ctypes.data, count)
            assert pushed == min(count, capacity - len(model))
            model.extend(row.tolist() for row in buffer[:pushed])
            written += count * words
        elif action == "try_push":
            buffer[0] = np.arange(written, written + words)
            assert _try_push(base, buffer.ctypes.data) == (len(model) < capacity)
            if len(model) < capacity:
                model.append(buffer[0].tolist())
            written += words
        elif action == "pop":
            popped = _pop(base, buffer.ctypes.data, count)
            assert popped == min(count, len(model))
            assert buffer[:popped].tolist() == [model.popleft() for _ in range(popped)]
        else:
            assert _try_pop(base, buffer.ctypes.data) == bool(model)
            if model:
                assert buffer[0].tolist() == model.popleft()
        head, tail = ring.cursors(base)
        assert (tail - head) % 2**64 == len(model)
    assert memory is not None


@pytest.mark.parametrize("capacity", [0, 3, -4])
def test_a_capacity_that_is_no_power_of_two_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity={capacity}"):
        ring.ring_bytes(capacity, 64)


def test_a_record_of_no_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="record_bytes=0"):
        ring.ring_bytes(8, 0)


def test_peeked_records_stay_unread_until_advance() -> None:
    memory, base = _ring(4, RECORD)
    record = np.zeros(1, RECORD)
    record["seq"] = 5
    _try_push(base, record.ctypes.data)

    @kernel
    def peek_twice(base: int) -> bool:
        return ring.peek_record(base) == ring.peek_record(base) and ring.peek_record(base) != 0

    assert peek_twice(base)
    assert ring.cursors(base) == (0, 1)
    assert memory is not None


@kernel
def _produce(base: int, words: np.ndarray, first: int, count: int) -> int:
    """Push records `first`.. with payload derived from the number, as long as there is room; returns how many."""
    for index in range(count):
        for word in range(8):
            words[word] = (first + index) * 8 + word
        if not ring.try_push(base, words.ctypes.data):
            return index
    return count


@kernel
def _consume(base: int, words: np.ndarray, first: int, count: int) -> int:
    """Pop up to `count` records and check every word; the number popped, or -1 at the first wrong word."""
    for index in range(count):
        if not ring.try_pop(base, words.ctypes.data):
            return index
        for word in range(8):
            if words[word] != (first + index) * 8 + word:
                return -1
    return count


@pytest.mark.skipif(not JIT, reason="two processes at speed need compiled code")
def test_two_processes_pass_every_word_once_and_in_order() -> None:
    total = 2_000_000
    name = f"tickpipe.test-{os.getpid()}.ring"
    layout = ring_layout(RECORD, 256)
    _produce(_ring(2, RECORD)[1], WORDS, 0, 0)
    _consume(_ring(2, RECORD)[1], WORDS, 0, 0)
    with Segment.create(name, layout) as segment:
        child = os.fork()
        if child == 0:
            base = Segment.attach(name, layout, writable=True).address
            sent = 0
            while sent < total:
                got = _produce(base, WORDS, sent, min(10_000, total - sent))
                sent += got
                if not got:
                    os.sched_yield()
            os._exit(0)
        try:
            received = 0
            while received < total:
                got = _consume(segment.address, WORDS, received, min(10_000, total - received))
                assert got >= 0, f"wrong word after record {received}"
                received += got
                if not got:
                    os.sched_yield()
            assert os.waitpid(child, 0)[1] == 0
        finally:
            unlink(name)


@pytest.mark.skipif(not JIT, reason="two processes at speed need compiled code")
@pytest.mark.parametrize("attempt", range(8))
def test_a_killed_writer_has_published_whole_records_only(attempt: int) -> None:
    name = f"tickpipe.test-{os.getpid()}.kill"
    layout = ring_layout(RECORD, 64)
    _produce(_ring(2, RECORD)[1], WORDS, 0, 0)
    _consume(_ring(2, RECORD)[1], WORDS, 0, 0)
    with Segment.create(name, layout) as segment:
        child = os.fork()
        if child == 0:
            base = Segment.attach(name, layout, writable=True).address
            sent = 0
            while True:
                sent += _produce(base, WORDS, sent, 1_000_000)
        try:
            received = 0
            while received < 1000 * (attempt + 1):
                received += _consume(segment.address, WORDS, received, 100_000)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            while got := _consume(segment.address, WORDS, received, 100_000):
                assert got > 0
                received += got
            head, tail = ring.cursors(segment.address)
            assert head == tail == received
            again = _produce(segment.address, WORDS, received, 10)
            assert (again, _consume(segment.address, WORDS, received, 10)) == (10, 10)
        finally:
            unlink(name)
