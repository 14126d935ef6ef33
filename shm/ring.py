"""SPSC ring: one writing process, one reading process, fixed-size records, nothing lost and nothing blocked.

Byte picture (offsets from the ring's base address, which is a multiple of 128):

      0  capacity, record_bytes              written once at creation
    128  tail, cached_head, epoch            the writer's line
    256  head, cached_tail, epoch            the reader's line
    384  capacity * record_bytes of records

`epoch` counts the processes that have held that end, one after the other: a restart of the neighbour shows in it.

`tail` counts records ever published, `head` records ever consumed; both only grow, so full and empty are never
confused and a record's slot is its number modulo the capacity, a power of two. Each side keeps a copy of the other's
cursor and reloads it only when the copy says full or empty, so an operation usually touches no line of the other core.

Order. The writer stores records with plain stores and publishes them, however many, with one release store of `tail`;
the reader's acquire load of `tail` makes them visible. The reader hands slots back with a release store of `head`,
below which its loads of them cannot sink; the writer's acquire load of `head` stands before its stores to them. So no
slot is written while it may be read, and none read before it is whole. All else is plain: a side's own cursor has no
other writer, and an old copy of the other's only says full or empty too early. On x86 all of it is plain moves.

What a death leaves behind, by the last store that was made:

    writer   cached_head       nothing: a copy, true or too low
             some of a record  rubbish behind `tail`, where nobody looks; its successor's next record goes there
             tail              all records of that publication, whole
    reader   cached_tail       nothing: a copy, true or too low
             words of a copy   nothing: they were private
             head              records that count as consumed, whatever came of the copy; before it, all of them are
                               unread, and the successor finds them again

So the ring itself loses no record and tears none; the neighbour never waits for the dead, it sees full or empty.
Records that were acted on and not handed back are seen twice: act first, then advance, and recognise them
(`shm.adopt`). Records that were popped and not acted on are gone: who may lose none does not pop.

A record may have any size. It takes whole 8-byte words in the ring, and is copied as such, eight at a time and then
the rest: what is handed over by address must be readable up to the next multiple of 8. Functions take addresses, never
arrays: array arguments would keep reference counting in the loop (20 ns instead of 3.4 ns).

Cursors are int64 and start at 0: at a thousand million records a second they last for 292 years.
"""

from typing import Any

import numpy as np

from shm.atomics import load_acquire, load_relaxed, load_word, peek, poke, store_line, store_release, store_word
from shm.kernel import kernel, primitive
from shm.layout import align_up, bytes_at, padded

CAPACITY = 0
RECORD_BYTES = 8
TAIL = 128
CACHED_HEAD = 136
WRITER_EPOCH = 144
HEAD = 256
CACHED_TAIL = 264
READER_EPOCH = 272
RECORDS = 384


def ring_bytes(capacity: int, record_bytes: int) -> int:
    """Bytes of a ring of `capacity` records. Raises ValueError for sizes the ring cannot have."""
    if capacity < 1 or capacity & (capacity - 1):
        raise ValueError(f"ring capacity={capacity} must be a power of two")
    if record_bytes < 1:
        raise ValueError(f"ring record_bytes={record_bytes} must be positive")
    return RECORDS + capacity * align_up(record_bytes, 8)


def format_ring(base: int, capacity: int, record_bytes: int) -> None:
    """Write the header of a fresh, zeroed ring at `base`."""
    ring_bytes(capacity, record_bytes)
    poke(base + CAPACITY, capacity)
    poke(base + RECORD_BYTES, align_up(record_bytes, 8))


def begin_writing(base: int) -> int:
    """Writer, once, before its first record: count one more process at this end, for the reader to see; returns it."""
    return _begin(base + WRITER_EPOCH)


def begin_reading(base: int) -> int:
    """Reader, once, before its first record: count one more process at this end, for the writer to see; returns it."""
    return _begin(base + READER_EPOCH)


def _begin(word: int) -> int:
    epoch = peek(word) + 1
    poke(word, epoch)
    return epoch


def newest(base: int) -> int:
    """Address of the newest record ever published, consumed or not, for cold code; 0 when there is none.

    Whole as long as the writer does not lap it: at once for an observer, at leisure for a writer's successor.
    """
    tail = peek(base + TAIL)
    return slot_address(base, tail - 1) if tail > 0 else 0


def slot_address(base: int, number: int) -> int:
    """`slot` for cold code."""
    return base + RECORDS + number % peek(base + CAPACITY) * peek(base + RECORD_BYTES)


@primitive
def reader_epoch(base: int) -> int:
    """Writer: how many processes have read from this ring. It stands in the reader's line: look when there is time.

    Relaxed: that it changed is all it says. What a new reader is then told goes through the ring, in the ring's order.
    """
    return load_relaxed(base + READER_EPOCH)


def cursors(base: int) -> tuple[int, int]:
    """(head, tail) as an observer sees them: records consumed and records published."""
    return peek(base + HEAD), peek(base + TAIL)


@primitive
def copy_record(target: int, source: int, record_bytes: int) -> None:
    """Copy a record as 8-byte words, eight at a time, then one at a time. `record_bytes` is a multiple of 8."""
    blocks = record_bytes & -64
    offset = 0
    while offset < blocks:
        a = load_word(source + offset)
        b = load_word(source + offset + 8)
        c = load_word(source + offset + 16)
        d = load_word(source + offset + 24)
        e = load_word(source + offset + 32)
        f = load_word(source + offset + 40)
        g = load_word(source + offset + 48)
        h = load_word(source + offset + 56)
        store_word(target + offset, a)
        store_word(target + offset + 8, b)
        store_word(target + offset + 16, c)
        store_word(target + offset + 24, d)
        store_word(target + offset + 32, e)
        store_word(target + offset + 40, f)
        store_word(target + offset + 48, g)
        store_word(target + offset + 56, h)
        offset += 64
    while offset < record_bytes:
        store_word(target + offset, load_word(source + offset))
        offset += 8


@primitive
def copy_fresh(target: int, source: int, record_bytes: int) -> None:
    """Copy a record whose fields were stored just now: loaded word by word, stored eight words at once.

    A load that is wider than the stores before it is not served from the store buffer. It waits until they are in the
    cache, behind the store of `tail`, which waits for the other core (37 ns a record instead of 21).
    """
    blocks = record_bytes & -64
    offset = 0
    while offset < blocks:
        a = load_relaxed(source + offset)
        b = load_relaxed(source + offset + 8)
        c = load_relaxed(source + offset + 16)
        d = load_relaxed(source + offset + 24)
        e = load_relaxed(source + offset + 32)
        f = load_relaxed(source + offset + 40)
        g = load_relaxed(source + offset + 48)
        h = load_relaxed(source + offset + 56)
        store_line(target + offset, a, b, c, d, e, f, g, h)
        offset += 64
    while offset < record_bytes:
        store_word(target + offset, load_relaxed(source + offset))
        offset += 8


@primitive
def room_after(base: int, tail: int, wanted: int) -> int:
    """`room` for a writer that has its `tail` at hand."""
    capacity = load_word(base + CAPACITY)
    free = capacity - (tail - load_word(base + CACHED_HEAD))
    if free < wanted:
        head = load_acquire(base + HEAD)
        store_word(base + CACHED_HEAD, head)
        free = capacity - (tail - head)
    return free


@primitive
def room(base: int, wanted: int) -> int:
    """Writer: free slots, at least exact when fewer than `wanted` (the reader's cursor is then reloaded)."""
    return room_after(base, load_word(base + TAIL), wanted)


@primitive
def available_after(base: int, head: int, wanted: int) -> int:
    """`available` for a reader that has its `head` at hand."""
    unread = load_word(base + CACHED_TAIL) - head
    if unread < wanted:
        tail = load_acquire(base + TAIL)
        store_word(base + CACHED_TAIL, tail)
        unread = tail - head
    return unread


@primitive
def available(base: int, wanted: int) -> int:
    """Reader: unread records, exact when fewer than `wanted` (the writer's cursor is then reloaded)."""
    return available_after(base, load_word(base + HEAD), wanted)


@primitive
def count(base: int) -> int:
    """Unread records, without a look at them: to the reader never too many, to the writer never too few.

    To an observer a number that was near the truth a moment ago.
    """
    unread = load_relaxed(base + TAIL) - load_relaxed(base + HEAD)
    capacity = load_word(base + CAPACITY)
    return max(0, min(unread, capacity))  # either side may have gone on between the two loads


@primitive
def is_empty(base: int) -> bool:
    """Whether nothing is unread. To the reader False stays true, to the writer True does."""
    return count(base) == 0


@primitive
def is_full(base: int) -> bool:
    """Whether no slot is free. To the reader True stays true, to the writer False does."""
    return count(base) == load_word(base + CAPACITY)


@primitive
def slot(base: int, number: int) -> int:
    """Address of the slot of record `number`."""
    return base + RECORDS + (number & (load_word(base + CAPACITY) - 1)) * load_word(base + RECORD_BYTES)


@primitive
def claim(base: int, index: int) -> int:
    """Writer: address of the `index`-th slot after the tail; check `room` first. Nothing is visible before `commit`.

    A claim that is not committed is forgotten: the next one gets the same slot.
    """
    return slot(base, load_word(base + TAIL) + index)


@primitive
def commit(base: int, count: int) -> None:
    """Writer: publish the `count` claimed slots with one release store."""
    store_release(base + TAIL, load_word(base + TAIL) + count)


@primitive
def peek_record(base: int) -> int:
    """Reader: address of the oldest unread record, or 0. It stays unread until `advance`."""
    if available(base, 1) < 1:
        return 0
    return slot(base, load_word(base + HEAD))


@primitive
def advance(base: int, count: int) -> None:
    """Reader: hand back `count` records that were acted on."""
    store_release(base + HEAD, load_word(base + HEAD) + count)


@primitive
def try_push(base: int, record: int) -> bool:
    """Writer: copy the record at address `record` in and publish it. False when the ring is full."""
    tail = load_word(base + TAIL)
    if room_after(base, tail, 1) < 1:
        return False
    copy_fresh(slot(base, tail), record, load_word(base + RECORD_BYTES))
    store_release(base + TAIL, tail + 1)
    return True


@primitive
def try_pop(base: int, record: int) -> bool:
    """Reader: copy the oldest record to address `record` and consume it. False when the ring is empty."""
    head = load_word(base + HEAD)
    if available_after(base, head, 1) < 1:
        return False
    copy_record(record, slot(base, head), load_word(base + RECORD_BYTES))
    store_release(base + HEAD, head + 1)
    return True


@primitive
def push_batch(base: int, records: int, count: int) -> int:
    """Writer: copy up to `count` records from address `records`; publish them at once. Returns how many fitted."""
    tail = load_word(base + TAIL)
    free = room_after(base, tail, count)
    pushed = count if count < free else free
    record_bytes = load_word(base + RECORD_BYTES)
    for index in range(pushed):
        copy_record(slot(base, tail + index), records + index * record_bytes, record_bytes)
    if pushed > 0:
        store_release(base + TAIL, tail + pushed)
    return pushed


@primitive
def pop_batch(base: int, records: int, count: int) -> int:
    """Reader: copy up to `count` records to address `records`; consume them at once. Returns how many there were."""
    head = load_word(base + HEAD)
    unread = available_after(base, head, count)
    popped = count if count < unread else unread
    record_bytes = load_word(base + RECORD_BYTES)
    for index in range(popped):
        copy_record(records + index * record_bytes, slot(base, head + index), record_bytes)
    if popped > 0:
        store_release(base + HEAD, head + popped)
    return popped


@kernel
def _push(base: int, records: int, number: int) -> int:
    return push_batch(base, records, number)


@kernel
def _pop(base: int, records: int, number: int) -> int:
    return pop_batch(base, records, number)


@kernel
def _room(base: int, wanted: int) -> int:
    return room(base, wanted)


@kernel
def _available(base: int, wanted: int) -> int:
    return available(base, wanted)


@kernel
def _claim(base: int, index: int) -> int:
    return claim(base, index)


@kernel
def _commit(base: int, number: int) -> None:
    commit(base, number)


@kernel
def _peek_record(base: int) -> int:
    return peek_record(base)


@kernel
def _advance(base: int, number: int) -> None:
    advance(base, number)


@kernel
def _count(base: int) -> int:
    return count(base)


class Ring:
    """A ring for ordinary Python, over the same bytes: for tools, tests and notebooks. A process holds one end of it.

    Records come and go as arrays of the ring's dtype. The mapping of `base` must outlive the object.
    """

    def __init__(self, base: int, dtype: np.dtype[Any]) -> None:
        """The ring at address `base`. Raises ValueError when its records have another size."""
        self._base, self._dtype, self._padded = base, dtype, padded(dtype)
        self.capacity = peek(base + CAPACITY)
        if peek(base + RECORD_BYTES) != self._padded.itemsize:
            raise ValueError(f"ring of record_bytes={peek(base + RECORD_BYTES)}, not of {dtype.itemsize} ({dtype})")

    def __len__(self) -> int:
        """Unread records."""
        return int(_count(self._base))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is unread."""
        return len(self) == 0

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return len(self) == self.capacity

    def try_push(self, record: np.ndarray[Any, Any]) -> bool:
        """Publish a 1-element array. False when the ring is full."""
        return self.push_batch(record) == 1

    def push_batch(self, records: np.ndarray[Any, Any]) -> int:
        """Publish as many of `records` as there is room for, all at once. Returns how many."""
        if records.dtype != self._dtype:
            raise ValueError(f"records of {records.dtype}, ring of {self._dtype}")
        copy = np.zeros(records.size, self._padded)
        copy["record"] = records
        return int(_push(self._base, copy.ctypes.data, copy.size))

    def try_pop(self) -> np.ndarray[Any, Any] | None:
        """Consume the oldest record, a 1-element array; None when the ring is empty."""
        records = self.pop_batch(1)
        return records if records.size else None

    def pop_batch(self, most: int) -> np.ndarray[Any, Any]:
        """Consume up to `most` records, oldest first."""
        copy = np.zeros(min(most, self.capacity), self._padded)
        return copy[: int(_pop(self._base, copy.ctypes.data, copy.size))]["record"].copy()

    def claim(self, index: int = 0) -> np.ndarray[Any, Any] | None:
        """The `index`-th free slot itself, a 1-element array to write to; None when there is no room for it."""
        if _room(self._base, index + 1) <= index:
            return None
        return self._view(int(_claim(self._base, index)))

    def commit(self, number: int = 1) -> None:
        """Publish the first `number` claimed slots. Raises ValueError when there is no room for so many."""
        if number < 0 or _room(self._base, number) < number:
            raise ValueError(f"commit of {number} records, room for {_room(self._base, number)}")
        _commit(self._base, number)

    def peek(self) -> np.ndarray[Any, Any] | None:
        """The oldest unread record where it stands, a 1-element array; it stays unread until `advance`."""
        address = int(_peek_record(self._base))
        return self._view(address) if address else None

    def advance(self, number: int = 1) -> None:
        """Hand back `number` records that were acted on. Raises ValueError when fewer are unread."""
        if number < 0 or _available(self._base, number) < number:
            raise ValueError(f"advance over {number} records, {_available(self._base, number)} unread")
        _advance(self._base, number)

    def _view(self, address: int) -> np.ndarray[Any, Any]:
        return np.frombuffer(bytes_at(address, self._dtype.itemsize), self._dtype)
