"""What a stage does with the primitives, as the checker runs it. Never run as it stands: see `source`."""

from shm import broadcast, doorbell, histogram, neighbour, ring, seqlock
from shm.atomics import load_acquire, load_relaxed, load_word, store_word


def build(base: int, record: int) -> bool:
    """Build a record where it will be read, then publish it."""
    if ring.room(base, 1) < 1:
        return False
    ring.copy_record(ring.claim(base, 0), record, load_word(base + ring.RECORD_BYTES))
    ring.commit(base, 1)
    return True


def look(base: int, record: int) -> bool:
    """Copy the oldest record without consuming it."""
    source = ring.peek_record(base)
    if source == 0:
        return False
    ring.copy_record(record, source, load_word(base + ring.RECORD_BYTES))
    return True


def published(base: int) -> int:
    """Where a successor of a broadcast ring's writer goes on."""
    return load_word(base + broadcast.PUBLISHED)


def version(row: int) -> int:
    """Where a successor of a seqlock's writer goes on."""
    return load_word(row + seqlock.VERSION)


def recorded(base: int, below: int) -> tuple[int, int]:
    """A histogram's total, then what the counters of the values under `below` add up to."""
    total = load_acquire(base + histogram.TOTAL)
    counted = 0
    for value in range(below):
        counted += load_relaxed(base + histogram.COUNTS + 8 * value)
    return total, counted


def send(base: int, record: int, bell: int) -> bool:
    """Push and ring."""
    if not ring.try_push(base, record):
        return False
    doorbell.ring(bell)
    return True


def ring_first(base: int, bell: int) -> int:
    """Start of a ringer: it rings once, for its predecessor, and finds where to go on."""
    doorbell.ring(bell)
    return ring.cursors(base)[1]


def receive(base: int, record: int, bell: int) -> bool:
    """Pop, or sleep."""
    if ring.try_pop(base, record):
        return True
    doorbell.announce_sleep(bell)
    if ring.available(base, 1) == 0:
        doorbell.wait_ring(bell, 0)
    doorbell.end_sleep(bell)
    return False


def begin(base: int, edge: int) -> tuple[int, int]:
    """Start of a process at either end of a ring: its first look at the edge, if it has one, and where to go on."""
    if edge != 0:
        store_word(edge + neighbour.SEEN, neighbour.NOTHING_SEEN)
        neighbour.ring_if_moved(edge)
    return ring.cursors(base)


def fill(base: int, wanted: int, edge: int, bell: int) -> int:
    """A writer's cycle: publish `wanted` records at once, or sleep until there is room for them.

    Without an edge it rings nobody, without a bell it only polls.
    """
    has_room = ring.room(base, wanted) >= wanted
    if has_room:
        ring.commit(base, wanted)
    if edge != 0:
        neighbour.ring_if_moved(edge)
    if has_room or bell == 0:
        return wanted if has_room else 0
    doorbell.announce_sleep(bell)
    if ring.room(base, wanted) < wanted:
        doorbell.wait_ring(bell, 0)
    doorbell.end_sleep(bell)
    return 0


def empty(base: int, most: int, edge: int, bell: int) -> int:
    """A reader's cycle: consume up to `most` records, or sleep until there is one. Edge and bell as above."""
    count = min(most, ring.available(base, most))
    if count > 0:
        ring.advance(base, count)
    if edge != 0:
        neighbour.ring_if_moved(edge)
    if count > 0 or bell == 0:
        return count
    doorbell.announce_sleep(bell)
    if ring.available(base, 1) == 0:
        doorbell.wait_ring(bell, 0)
    doorbell.end_sleep(bell)
    return 0
