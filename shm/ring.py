"""SPSC ring: one writing process, one reading process, fixed-size records, nothing lost and nothing blocked.

Byte picture (offsets from the ring's base address, which is a multiple of 128):

      0  capacity, record_bytes              written once at creation
    128  tail, cached_head, epoch            the writer's line
    256  head, cached_tail, epoch            the reader's line
    384  capacity * record_bytes of records

`tail` counts records ever published, `head` records ever consumed; both only grow, so full and empty are never
confused and a record's slot is its number modulo the capacity, a power of two. The writer stores records with plain
stores and publishes them with one release store of `tail`; the reader's acquire load of `tail` makes them visible.
The reader hands slots back with a release store of `head`. Each side keeps a copy of the other's cursor and reloads it
only when the copy says full or empty, so an operation usually touches no line of the other core.

A writer that dies before its release store has published nothing; a reader that dies before its release store of
`head` has consumed nothing and finds the same records again. The ring itself never loses a record.

Records are copied as 8-byte words in blocks of eight: record sizes are multiples of 64 bytes. Functions take
addresses, never arrays: array arguments would keep reference counting in the loop (20 ns instead of 3.4 ns).
"""

from shm.atomics import load_acquire, load_word, peek, poke, store_release, store_word
from shm.kernel import primitive

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
    if record_bytes < 64 or record_bytes % 64:
        raise ValueError(f"ring record_bytes={record_bytes} must be a multiple of 64")
    return RECORDS + capacity * record_bytes


def format_ring(base: int, capacity: int, record_bytes: int) -> None:
    """Write the header of a fresh, zeroed ring at `base`."""
    ring_bytes(capacity, record_bytes)
    poke(base + CAPACITY, capacity)
    poke(base + RECORD_BYTES, record_bytes)


def cursors(base: int) -> tuple[int, int]:
    """(head, tail) as an observer sees them: records consumed and records published."""
    return peek(base + HEAD), peek(base + TAIL)


@primitive
def copy_record(target: int, source: int, record_bytes: int) -> None:
    """Copy a record as 8-byte words, eight at a time."""
    offset = 0
    while offset < record_bytes:
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


@primitive
def room(base: int, wanted: int) -> int:
    """Writer: free slots, at least exact when fewer than `wanted` (the reader's cursor is then reloaded)."""
    tail = load_word(base + TAIL)
    capacity = load_word(base + CAPACITY)
    free = capacity - (tail - load_word(base + CACHED_HEAD))
    if free < wanted:
        head = load_acquire(base + HEAD)
        store_word(base + CACHED_HEAD, head)
        free = capacity - (tail - head)
    return free


@primitive
def available(base: int, wanted: int) -> int:
    """Reader: unread records, exact when fewer than `wanted` (the writer's cursor is then reloaded)."""
    head = load_word(base + HEAD)
    unread = load_word(base + CACHED_TAIL) - head
    if unread < wanted:
        tail = load_acquire(base + TAIL)
        store_word(base + CACHED_TAIL, tail)
        unread = tail - head
    return unread


@primitive
def slot(base: int, number: int) -> int:
    """Address of the slot of record `number`."""
    return base + RECORDS + (number & (load_word(base + CAPACITY) - 1)) * load_word(base + RECORD_BYTES)


@primitive
def claim(base: int, index: int) -> int:
    """Writer: address of the `index`-th slot after the tail; check `room` first. Nothing is visible before `commit`."""
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
    if room(base, 1) < 1:
        return False
    copy_record(claim(base, 0), record, load_word(base + RECORD_BYTES))
    commit(base, 1)
    return True


@primitive
def try_pop(base: int, record: int) -> bool:
    """Reader: copy the oldest record to address `record` and consume it. False when the ring is empty."""
    source = peek_record(base)
    if source == 0:
        return False
    copy_record(record, source, load_word(base + RECORD_BYTES))
    advance(base, 1)
    return True


@primitive
def push_batch(base: int, records: int, count: int) -> int:
    """Writer: copy up to `count` records from address `records`; publish them at once. Returns how many fitted."""
    free = room(base, count)
    pushed = count if count < free else free
    record_bytes = load_word(base + RECORD_BYTES)
    for index in range(pushed):
        copy_record(claim(base, index), records + index * record_bytes, record_bytes)
    if pushed > 0:
        commit(base, pushed)
    return pushed


@primitive
def pop_batch(base: int, records: int, count: int) -> int:
    """Reader: copy up to `count` records to address `records`; consume them at once. Returns how many there were."""
    unread = available(base, count)
    popped = count if count < unread else unread
    record_bytes = load_word(base + RECORD_BYTES)
    head = load_word(base + HEAD)
    for index in range(popped):
        copy_record(records + index * record_bytes, slot(base, head + index), record_bytes)
    if popped > 0:
        advance(base, popped)
    return popped
