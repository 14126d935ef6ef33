"""The broadcast ring: observers get every record once and in order or know that they lost it, whoever is killed."""

import os
import signal
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import broadcast
from shm.atomics import JIT, load_word, peek, poke
from shm.broadcast import LAPPED, Broadcaster, Observer
from shm.kernel import kernel
from shm.segment import Segment, broadcast_layout, unlink

RECORD = np.dtype([("number", "<i8"), ("word", "<i8", (7,))])
ODD_SIZED = np.dtype([("number", "<i8"), ("word", "<i8", (2,))])
NEAR_THE_END = 2**63 - 300
"""Plain Python's integers do not wrap, so a run stays below 2**63."""


def _ring(capacity: int, dtype: np.dtype, start: int = 0) -> tuple[np.ndarray, int]:
    memory = np.zeros(broadcast.broadcast_bytes(capacity, dtype.itemsize) // 8 + 16, np.int64)
    base = -(-memory.ctypes.data // 128) * 128
    broadcast.format_broadcast(base, capacity, dtype.itemsize)
    poke(base + broadcast.CLAIMED, start)
    poke(base + broadcast.PUBLISHED, start)
    return memory, base


def _records(dtype: np.dtype, first: int, count: int) -> np.ndarray:
    records = np.zeros(count, dtype)
    records["number"] = np.arange(first, first + count)
    records["word"] = records["number"][:, None] ^ np.arange(1, dtype["word"].shape[0] + 1)
    return records


class Model:
    """What an observer may expect: a plain list of all records, and the rule where it goes on after a lap."""

    def __init__(self, capacity: int, cursor: int) -> None:
        self.capacity, self.cursor, self.lost = capacity, cursor, 0

    def read(self, published: int, count: int) -> range:
        """Numbers of the records the observer gets."""
        if published - self.cursor > self.capacity:
            resume = published - max(1, self.capacity // 2)
            self.lost += resume - self.cursor
            self.cursor = resume
            return range(0)
        first, self.cursor = self.cursor, min(self.cursor + count, published)
        return range(first, self.cursor)


@given(
    capacity=st.sampled_from([1, 2, 4, 16]),
    start=st.sampled_from([0, 7, NEAR_THE_END]),
    dtype=st.sampled_from([RECORD, ODD_SIZED]),
    batches=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    steps=st.lists(st.one_of(st.integers(0, 20), st.sampled_from(["slow", "fast"])), max_size=14),
)
def test_observers_get_what_a_list_would_give_them(
    capacity: int, start: int, dtype: np.dtype, batches: tuple[int, int], steps: list[int | str]
) -> None:
    memory, base = _ring(capacity, dtype, start)
    writer = Broadcaster(base, dtype)
    observers = {
        name: Observer(base, dtype, batch=batch) for name, batch in zip(("slow", "fast"), batches, strict=True)
    }
    models = {name: Model(capacity, start) for name in observers}
    published = start
    for step in steps:
        if isinstance(step, int):
            writer.publish(_records(dtype, published, step))
            published += step
            continue
        expected = models[step].read(published, batches[step == "fast"])
        found = observers[step].read()
        assert np.array_equal(found, _records(dtype, expected.start, len(expected)))
        assert (observers[step].lost, observers[step].cursor) == (models[step].lost, models[step].cursor)
    assert peek(base + broadcast.PUBLISHED) == peek(base + broadcast.CLAIMED) == published
    assert memory is not None


def test_a_new_observer_starts_at_the_newest_or_at_the_oldest_whole_record() -> None:
    memory, base = _ring(4, RECORD)
    writer = Broadcaster(base, RECORD)
    writer.publish(_records(RECORD, 0, 7))
    fresh, late = Observer(base, RECORD), Observer(base, RECORD, from_oldest=True)
    assert fresh.read().size == 0
    assert late.read()["number"].tolist() == [3, 4, 5, 6]
    writer.publish(_records(RECORD, 7, 1))
    assert fresh.read()["number"].tolist() == late.read()["number"].tolist() == [7]
    assert fresh.lost == late.lost == 0
    assert memory is not None


@pytest.mark.parametrize("words_written", range(9))
def test_a_writer_killed_at_any_word_spoils_one_record_and_hangs_nobody(words_written: int) -> None:
    memory, base = _ring(2, RECORD)
    Broadcaster(base, RECORD).publish(_records(RECORD, 0, 2))
    observer = Observer(base, RECORD, from_oldest=True)
    poke(base + broadcast.CLAIMED, 3)
    for word in range(words_written):
        poke(base + broadcast.RECORDS + 8 * word, 99)
    assert observer.read().size == 0, "record 0 may be spoilt"
    assert observer.lost == 1
    assert observer.read()["number"].tolist() == [1]
    Broadcaster(base, RECORD).publish(_records(RECORD, 2, 1))
    assert np.array_equal(observer.read(), _records(RECORD, 2, 1))
    assert observer.lost == 1
    assert memory is not None


def test_a_restarted_writer_does_not_vouch_for_what_its_killed_predecessor_spoilt() -> None:
    memory, base = _ring(8, RECORD)
    Broadcaster(base, RECORD).publish(_records(RECORD, 0, 8))
    poke(base + broadcast.CLAIMED, 12)  # a batch of four, killed after its third record
    for slot in range(3):
        poke(base + broadcast.RECORDS + 64 * slot, 99)
    Broadcaster(base, RECORD).publish(_records(RECORD, 8, 1))
    observer = Observer(base, RECORD)
    observer._words[0] = 1
    assert observer.read().size == 0
    assert np.array_equal(observer.read(), _records(RECORD, 5, 4))
    assert observer.lost == 4
    assert memory is not None


@pytest.mark.parametrize("capacity", [0, 3, -4])
def test_a_capacity_that_is_no_power_of_two_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity={capacity}"):
        broadcast.broadcast_bytes(capacity, 64)


def test_a_record_of_no_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="record_bytes=0"):
        broadcast.broadcast_bytes(8, 0)


@kernel
def _publish_many(base: int, words: np.ndarray, count: int, batch: int) -> None:
    """`count` batches; each word of a record is derived from the record's number."""
    for _ in range(count):
        first = load_word(base + broadcast.PUBLISHED)
        for index in range(batch):
            for word in range(8):
                words[8 * index + word] = (first + index) * 8 + word
        broadcast.publish(base, words.ctypes.data, batch)


@kernel
def _observe_many(base: int, observer: np.ndarray, words: np.ndarray, tally: np.ndarray, polls: int) -> int:
    """Poll `polls` times and check every word and the account of what was lost; the number got, -1 for a wrong word.

    tally[0] counts the records got, tally[1] the laps.
    """
    got = 0
    for _ in range(polls):
        first = observer[0]
        count = broadcast.observe(base, observer.ctypes.data, words.ctypes.data, words.size // 8)
        if count == LAPPED:
            tally[1] += 1
            continue
        for index in range(count):
            for word in range(8):
                if words[8 * index + word] != (first + index) * 8 + word:
                    return -1
        got += count
    tally[0] += got
    return got


@pytest.mark.skipif(not JIT, reason="two processes at speed need compiled code")
@pytest.mark.parametrize(("capacity", "batch", "taken"), [(1, 1, 1), (2, 3, 2), (64, 7, 5), (4096, 16, 64)])
def test_observers_account_for_every_record_while_writers_are_killed_and_replaced(
    capacity: int, batch: int, taken: int, until: Callable[..., None]
) -> None:
    name = f"tickpipe.test-{os.getpid()}.broadcast"
    layout = broadcast_layout(RECORD, capacity)
    source, words = np.zeros(8 * batch, np.int64), np.zeros(8 * taken, np.int64)
    observer, tally = np.zeros(2, np.int64), np.zeros(2, np.int64)
    memory, base = _ring(2, RECORD)
    _publish_many(base, source, 1, batch)
    _observe_many(base, observer.copy(), words, tally.copy(), 1)
    with Segment.create(name, layout) as segment, Segment.attach(name, layout) as watched:
        assert not watched.writable
        try:
            for _ in range(6):
                before = peek(segment.address + broadcast.PUBLISHED)
                child = os.fork()
                if child == 0:
                    address = Segment.attach(name, layout, writable=True).address
                    while True:
                        _publish_many(address, source, 100_000, batch)
                try:

                    def progress(before: int = before) -> bool:
                        got = _observe_many(watched.address, observer, words, tally, 20_000)
                        assert got >= 0, "a torn record was returned"
                        return peek(segment.address + broadcast.PUBLISHED) - before > 50_000

                    until(progress, what="50,000 records published")
                finally:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                # What stands still can be read to its end; then every record ever published is accounted for.
                assert _observe_many(watched.address, observer, words, tally, capacity + 4) >= 0
                published = peek(segment.address + broadcast.PUBLISHED)
                cursor, lost = observer.tolist()
                assert cursor == published
                assert tally[0] + lost == published
        finally:
            unlink(name)
    # A single slot is claimed nearly always, at most deaths too: on a busy machine its observer may get nothing.
    assert tally[0] > 0 or capacity == 1
    assert memory is not None
