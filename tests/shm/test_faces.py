"""The primitives in the hands of ordinary Python, step by step against plain models, compiled and not."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shm import arena, broadcast, pool, ring, seqlock
from shm.arena import Arena, arena_bytes, format_arena
from shm.atomics import JIT, poke
from shm.broadcast import Broadcaster, Observer, broadcast_bytes, format_broadcast
from shm.layout import align_up
from shm.pool import Pool, format_pool, pool_bytes
from shm.ring import Ring, format_ring, ring_bytes
from shm.seqlock import SeqlockTable, row_bytes

DTYPES = [
    np.dtype("<i8"),
    np.dtype("<i4"),
    np.dtype([("a", "u1"), ("b", "<f4"), ("c", "S3")]),
    np.dtype([("seq", "<i8"), ("word", "<i8", (7,))]),
    np.dtype([("seq", "<i8"), ("text", "S65")]),
]
capacities = st.sampled_from([1, 2, 4, 16])
starts = st.sampled_from([0, 3, 2**63 - 1000])
"""A number of records that a ring may have seen before; int64 cursors end at 2**63, 292 years away."""
versions = st.sampled_from([0, 3, 2**62 - 1000])
"""A seqlock's version; its marks are twice as much and one more."""
generations = st.sampled_from([0, 2**39 - 2, 2**39 - 4])
"""Even: of a free object. After 2**39 - 1 comes 0."""


def memory(size: int) -> tuple[np.ndarray, int]:
    """(array, address on a multiple of 128) of private memory, zeroed; the array must be kept."""
    block = np.zeros(size // 8 + 32, np.int64)
    return block, align_up(int(block.ctypes.data), 128)


def records(dtype: np.dtype, count: int, seed: int) -> np.ndarray:
    """`count` records of random bytes; no byte of padding among them."""
    filler = np.random.default_rng(seed).integers(1, 127, count * dtype.itemsize, dtype=np.uint8)
    return np.frombuffer(filler.tobytes(), dtype).copy()


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """NaN is no reason to differ."""
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


class RingMachine(RuleBasedStateMachine):
    """Ring against a deque; claims are written, forgotten, committed in part."""

    @initialize(capacity=capacities, dtype=st.sampled_from(DTYPES), start=starts)
    def make(self, capacity: int, dtype: np.dtype, start: int) -> None:
        self.memory, base = memory(ring_bytes(capacity, dtype.itemsize))
        format_ring(base, capacity, dtype.itemsize)
        for cursor in (ring.TAIL, ring.CACHED_HEAD, ring.HEAD, ring.CACHED_TAIL):
            poke(base + cursor, start)
        self.writer, self.reader = Ring(base, dtype), Ring(base, dtype)
        self.capacity, self.dtype = capacity, dtype
        self.model: deque[bytes] = deque()
        self.claimed: list[bytes] = []

    def expect(self, found: np.ndarray) -> None:
        for record in found:
            assert record.tobytes() == self.model.popleft()

    @rule(count=st.integers(0, 20), seed=st.integers(0, 99))
    def push_batch(self, count: int, seed: int) -> None:
        batch = records(self.dtype, count, seed)
        pushed = self.writer.push_batch(batch)
        assert pushed == min(count, self.capacity - len(self.model))
        self.model.extend(record.tobytes() for record in batch[:pushed])
        self.claimed.clear()  # written over

    @rule(seed=st.integers(0, 99))
    def try_push(self, seed: int) -> None:
        record = records(self.dtype, 1, seed)
        had_room = len(self.model) < self.capacity
        assert self.writer.try_push(record) == had_room
        if had_room:
            self.model.append(record.tobytes())
            self.claimed.clear()

    @rule(seed=st.integers(0, 99))
    def claim(self, seed: int) -> None:
        slot = self.writer.claim(len(self.claimed))
        assert (slot is None) == (len(self.model) + len(self.claimed) >= self.capacity)
        if slot is not None:
            slot[:] = records(self.dtype, 1, seed)
            self.claimed.append(slot.tobytes())

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, len(self.claimed)))
        self.writer.commit(count)
        self.model.extend(self.claimed[:count])
        del self.claimed[:count]

    @rule()
    def abort(self) -> None:
        self.claimed.clear()

    @rule(most=st.integers(0, 20))
    def pop_batch(self, most: int) -> None:
        found = self.reader.pop_batch(most)
        assert len(found) == min(most, len(self.model))
        self.expect(found)

    @rule()
    def try_pop(self) -> None:
        found = self.reader.try_pop()
        assert (found is None) == (not self.model)
        if found is not None:
            self.expect(found)

    @rule()
    def peek_then_advance(self) -> None:
        first, again = self.reader.peek(), self.reader.peek()
        assert (first is None) == (again is None) == (not self.model)
        if first is not None and again is not None:
            assert first.tobytes() == again.tobytes() == self.model[0]
            self.reader.advance()
            self.model.popleft()

    @rule()
    def more_than_there_is(self) -> None:
        with pytest.raises(ValueError, match="unread"):
            self.reader.advance(len(self.model) + 1)
        with pytest.raises(ValueError, match="room"):
            self.writer.commit(self.capacity - len(self.model) + 1)

    @invariant()
    def counts(self) -> None:
        assert len(self.reader) == len(self.model)
        assert self.reader.is_empty == (not self.model)
        assert self.writer.is_full == (len(self.model) == self.capacity)


class BroadcastMachine(RuleBasedStateMachine):
    """A broadcast ring and observers that come at any time: every record is returned once or counted as lost."""

    @initialize(capacity=capacities, dtype=st.sampled_from(DTYPES), start=starts)
    def make(self, capacity: int, dtype: np.dtype, start: int) -> None:
        self.memory, self.base = memory(broadcast_bytes(capacity, dtype.itemsize))
        format_broadcast(self.base, capacity, dtype.itemsize)
        for cursor in (broadcast.CLAIMED, broadcast.PUBLISHED):
            poke(self.base + cursor, start)
        self.capacity, self.dtype, self.start = capacity, dtype, start
        self.writer = Broadcaster(self.base, dtype)
        self.published: list[bytes] = []
        self.observers: list[tuple[Observer, int]] = []

    @rule(count=st.integers(0, 40), seed=st.integers(0, 99))
    def publish(self, count: int, seed: int) -> None:
        batch = records(self.dtype, count, seed)
        self.writer.publish(batch)
        self.published.extend(record.tobytes() for record in batch)

    @rule(batch=st.integers(1, 20))
    @precondition(lambda self: len(self.observers) < 3)
    def join(self, batch: int) -> None:
        self.observers.append((Observer(self.base, self.dtype, batch=batch), len(self.published)))

    @rule(data=st.data())
    @precondition(lambda self: self.observers)
    def read(self, data: st.DataObject) -> None:
        observer, joined = data.draw(st.sampled_from(self.observers))
        before, lost = observer.cursor - self.start, observer.lost
        behind = len(self.published) - before
        found = observer.read()
        after = observer.cursor - self.start
        if behind > self.capacity:
            assert not len(found)
            assert observer.lost - lost == after - before
            assert len(self.published) - after <= self.capacity
        else:
            assert observer.lost == lost
            assert [record.tobytes() for record in found] == self.published[before:after]
        assert joined <= before <= after <= len(self.published)


class SeqlockMachine(RuleBasedStateMachine):
    """A seqlock table against a list of the newest values."""

    @initialize(dtype=st.sampled_from(DTYPES), rows=st.integers(1, 3), start=versions)
    def make(self, dtype: np.dtype, rows: int, start: int) -> None:
        payload = align_up(dtype.itemsize, 8)
        self.memory, base = memory(rows * row_bytes(payload))
        for row in range(base, base + rows * row_bytes(payload), row_bytes(payload)):
            poke(row + seqlock.VERSION, start)
            poke(row + seqlock.CELLS + (start & 1) * seqlock.cell_bytes(payload), 2 * start)
        self.table, self.dtype = SeqlockTable(base, dtype, rows), dtype
        self.model: list[tuple[int, np.ndarray]] = [(start, np.zeros(1, dtype)) for _ in range(rows)]

    @rule(row=st.integers(0, 2), seed=st.integers(0, 99))
    def write(self, row: int, seed: int) -> None:
        value = records(self.dtype, 1, seed)
        if row >= len(self.model):
            with pytest.raises(IndexError, match=f"row {row}"):
                self.table.write(row, value)
            return
        version = self.model[row][0] + 1
        assert self.table.write(row, value) == version
        self.model[row] = version, value

    @invariant()
    def every_row_holds_its_newest_value(self) -> None:
        for row, (version, value) in enumerate(self.model):
            found_version, found = self.table.read(row)
            assert found_version == version
            assert same(found, value)


class PoolMachine(RuleBasedStateMachine):
    """A pool against a dict of what each handle holds; its owner dies between any two stores."""

    @initialize(capacity=st.sampled_from([1, 2, 5, 64]), dtype=st.sampled_from(DTYPES), start=generations)
    def make(self, capacity: int, dtype: np.dtype, start: int) -> None:
        self.memory, self.base = memory(pool_bytes(capacity, dtype.itemsize))
        format_pool(self.base, capacity, dtype.itemsize)
        for index in range(capacity):
            poke(self.base + pool.GENERATIONS + 8 * index, start)
        self.pool, self.capacity, self.dtype = Pool(self.base, dtype), capacity, dtype
        self.held: dict[int, bytes] = {}
        self.given_back: list[int] = []
        self.refused = 0

    @rule(seed=st.integers(0, 99))
    def acquire(self, seed: int) -> None:
        handle = self.pool.acquire()
        assert (handle is None) == (len(self.held) == self.capacity)
        if handle is not None:
            assert 0 < handle < 2**63
            assert handle not in self.held
            assert handle not in self.given_back
            content = records(self.dtype, 1, seed)
            self.pool.view(handle)[:] = content
            self.held[handle] = content.tobytes()

    @rule(data=st.data())
    @precondition(lambda self: self.held)
    def release(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.held)))
        assert self.pool.release(handle)
        del self.held[handle]
        self.given_back.append(handle)

    @rule(data=st.data(), foreign=st.integers(-(2**63), 2**63 - 1))
    def release_what_is_not_held(self, data: st.DataObject, foreign: int) -> None:
        handle = data.draw(st.sampled_from([*self.given_back, foreign]))
        if handle in self.held:
            return
        assert not self.pool.release(handle)
        self.refused += 1
        with pytest.raises(KeyError):
            self.pool.view(handle)

    @rule(data=st.data())
    def the_owner_dies_and_its_successor_recovers(self, data: st.DataObject) -> None:
        """In the middle of an operation: the generation changed and nothing else, or the stack is any nonsense."""
        index = data.draw(st.integers(0, self.capacity - 1))
        generation = self.base + pool.GENERATIONS + 8 * index
        handle = next((handle for handle in self.held if handle & (1 << pool.INDEX_BITS) - 1 == index), None)
        died_in_the_middle = data.draw(st.booleans())
        if died_in_the_middle and handle is not None:
            poke(generation, (handle >> pool.INDEX_BITS) + 1 & 2**39 - 1)  # of a release
            self.given_back.append(handle)
            del self.held[handle]
        elif data.draw(st.booleans()):
            for at in range(self.capacity):
                poke(self.base + pool.GENERATIONS + 8 * (self.capacity + at), -1)
            poke(self.base + pool.FREE_COUNT, 0)
        assert self.pool.recover() == len(self.held)

    @invariant()
    def every_object_is_free_or_held(self) -> None:
        assert self.pool.free == self.capacity - len(self.held)
        assert sorted(self.pool.held()) == sorted(self.held)
        assert self.pool.refused == self.refused
        for handle, content in self.held.items():
            assert self.pool.view(handle).tobytes() == content


class ArenaMachine(RuleBasedStateMachine):
    """An arena against the list of its pieces: within its memory, aligned, apart, unchanged until the reset."""

    @initialize(capacity_bytes=st.sampled_from([1, 7, 64, 1000]))
    def make(self, capacity_bytes: int) -> None:
        self.memory, base = memory(arena_bytes(capacity_bytes))
        format_arena(base, capacity_bytes)
        self.base, self.arena, self.capacity_bytes = base, Arena(base), capacity_bytes
        self.pieces: list[tuple[int, bytes]] = []
        self.used = self.resets = self.overflows = 0

    @rule(
        size=st.one_of(st.integers(-2, 200), st.sampled_from([2**63 - 1, -(2**63)])),
        alignment=st.sampled_from([1, 2, 8, 64, 128, 0, 3, -8, 256]),
        seed=st.integers(0, 99),
    )
    def allocate(self, size: int, alignment: int, seed: int) -> None:
        piece = self.arena.allocate(size, alignment)
        fits = alignment in (1, 2, 8, 64, 128) and 0 <= size <= self.capacity_bytes - align_up(self.used, alignment)
        assert (piece is not None) == fits
        if piece is None:
            self.overflows += 1
            return
        offset, data = piece
        assert (self.base + offset) % alignment == 0
        data[:] = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        self.pieces.append((offset, data.tobytes()))
        self.used = align_up(self.used, alignment) + size

    @rule()
    def reset(self) -> None:
        self.arena.reset()
        self.resets += 1
        self.pieces.clear()
        self.used = 0

    @rule()
    def beyond_its_memory(self) -> None:
        with pytest.raises(IndexError):
            self.arena.view(arena.MEMORY + 1, self.capacity_bytes)

    @invariant()
    def the_pieces_are_as_they_were_written(self) -> None:
        assert self.arena.used_bytes == self.used
        assert (self.arena.resets, self.arena.overflows) == (self.resets, self.overflows)
        assert self.arena.stands(self.resets)
        assert not self.arena.stands(self.resets - 1)
        end = arena.MEMORY
        for offset, content in self.pieces:
            assert offset >= end
            end = offset + len(content)
            assert self.arena.view(offset, len(content)).tobytes() == content
        assert end <= arena.MEMORY + self.capacity_bytes


@pytest.mark.parametrize("machine", [RingMachine, BroadcastMachine, SeqlockMachine, PoolMachine, ArenaMachine])
def test_a_primitive_does_what_its_model_does(machine: type[RuleBasedStateMachine]) -> None:
    some = settings(max_examples=60 if JIT else 10, stateful_step_count=30)
    run_state_machine_as_test(machine, settings=some)  # type: ignore[no-untyped-call]


@given(dtypes=st.permutations(DTYPES).map(lambda order: order[:2]))
def test_a_face_of_another_record_size_is_refused(dtypes: list[np.dtype]) -> None:
    there, wanted = dtypes
    kept: Iterator[Any] = iter(())
    for make, size, face in (
        (format_ring, ring_bytes, Ring),
        (format_broadcast, broadcast_bytes, Broadcaster),
        (format_broadcast, broadcast_bytes, Observer),
        (format_pool, pool_bytes, Pool),
    ):
        block, base = memory(size(4, there.itemsize))
        make(base, 4, there.itemsize)
        unit = 64 if face is Pool else 8
        if align_up(there.itemsize, unit) == align_up(wanted.itemsize, unit):
            face(base, wanted)
        else:
            with pytest.raises(ValueError, match=f"not of {wanted.itemsize}"):
                face(base, wanted)
        kept = iter((block, kept))


def test_records_of_another_dtype_are_refused() -> None:
    block, base = memory(8192)
    format_ring(base, 4, 8)
    with pytest.raises(ValueError, match="ring of int64"):
        Ring(base, np.dtype("<i8")).try_push(np.zeros(1, "<f8"))
    with pytest.raises(ValueError, match="a row holds one"):
        SeqlockTable(base + 4096, np.dtype("<i8"), 1).write(0, np.zeros(2, "<i8"))
    assert seqlock.VERSION == 0
    assert block is not None


@pytest.mark.parametrize(("capacity", "size"), [(0, 8), (-1, 8), (1 << 25, 8), (8, 0)])
def test_sizes_that_a_pool_cannot_have_are_refused(capacity: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"={capacity if size else size} must"):
        pool_bytes(capacity, size)


def test_an_arena_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity_bytes=0"):
        arena_bytes(0)
