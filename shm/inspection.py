"""What stands in shared memory, told by its headers alone: for tools that look at a run from outside, read-only.

Cursors are read one by one while their owners go on, so two of them may be a moment apart.
"""

import glob
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shm import arena, broadcast, pool, ring, seqlock
from shm.atomics import peek
from shm.layout import align_up
from shm.segment import NAME_PREFIX, SHM_DIRECTORY, Segment, SegmentError, owner_of

STAMPS = ("record.publish_ns", "record.read_ns")
"""Fields that say when a record was published, on CLOCK_MONOTONIC's scale; the first that a layout has counts."""


@dataclass(frozen=True)
class Found:
    """One segment."""

    name: str
    status: str
    """live, orphaned (its creator is dead), or the class of error that attaching to it raises."""
    owner_pid: int | None
    size_bytes: int
    description: Mapping[str, str] = field(default_factory=dict)
    cursors: Mapping[str, int] = field(default_factory=dict)
    lag: int | None = None
    """Records published and not yet consumed; None for what is not consumed."""
    age_ns: int | None = None
    """Since the newest record was published; None when there is none, or when it does not say."""
    problem: str = ""


def find(prefix: str = NAME_PREFIX) -> list[Found]:
    """Every segment whose name begins with `prefix`, by name. What vanishes meanwhile is left out."""
    names = sorted(path.name for path in SHM_DIRECTORY.glob(f"{glob.escape(prefix)}*"))
    return [found for name in names if (found := look_at(name)) is not None]


def look_at(name: str) -> Found | None:
    """One segment, None when there is none of that name."""
    try:
        size_bytes = (SHM_DIRECTORY / name).lstat().st_size
    except FileNotFoundError:
        return None
    owner = owner_of(name)
    pid = owner.pid if owner else None
    try:
        segment = Segment.observe(name)
    except SegmentError as error:
        return Found(name, type(error).__name__, pid, size_bytes, problem=str(error))
    with segment:
        kind, description, base = segment.layout.kind, segment.layout.description, segment.address
        cursors = _CURSORS[kind](base, description) if kind in _CURSORS else {}
        lag = cursors["tail"] - cursors["head"] if kind == "ring" else None
        newest = _NEWEST[kind](base, description) if kind in _NEWEST else None
        status = "live" if owner and owner.is_alive else "orphaned"
        return Found(name, status, pid, size_bytes, description, cursors, lag, _age_ns(newest, description))


def _age_ns(record: int | None, description: Mapping[str, str]) -> int | None:
    """Age of the record at address `record` by its stamp: `format@offset` in the description."""
    stamp = next((description[name] for name in STAMPS if name in description), None)
    if record is None or stamp is None:
        return None
    published_ns = peek(record + int(stamp.rpartition("@")[2]))
    return max(0, time.monotonic_ns() - published_ns) if published_ns > 0 else None


def _ring_cursors(base: int, description: Mapping[str, str]) -> dict[str, int]:
    head, tail = ring.cursors(base)
    epochs = {"writer_epoch": peek(base + ring.WRITER_EPOCH), "reader_epoch": peek(base + ring.READER_EPOCH)}
    return {"head": head, "tail": tail, **epochs}


def _broadcast_cursors(base: int, description: Mapping[str, str]) -> dict[str, int]:
    return {"published": peek(base + broadcast.PUBLISHED)}


def _seqlock_cursors(base: int, description: Mapping[str, str]) -> dict[str, int]:
    versions = [peek(row + seqlock.VERSION) for row in _rows(base, description)]
    return {"rows_written": sum(version > 0 for version in versions), "versions": sum(versions)}


def _pool_cursors(base: int, description: Mapping[str, str]) -> dict[str, int]:
    return {"free": peek(base + pool.FREE_COUNT), "refused": peek(base + pool.REFUSED)}


def _arena_cursors(base: int, description: Mapping[str, str]) -> dict[str, int]:
    words = {"used_bytes": arena.USED_BYTES, "resets": arena.RESETS, "overflows": arena.OVERFLOWS}
    return {name: peek(base + offset) for name, offset in words.items()}


_CURSORS: dict[str, Callable[[int, Mapping[str, str]], dict[str, int]]] = {
    "ring": _ring_cursors, "broadcast": _broadcast_cursors, "seqlock": _seqlock_cursors, "pool": _pool_cursors,
    "arena": _arena_cursors,
}  # fmt: skip


def _rows(base: int, description: Mapping[str, str]) -> list[int]:
    row = seqlock.row_bytes(align_up(int(description["record.itemsize"]), 8))
    return [base + index * row for index in range(int(description["rows"]))]


def _newest_in_ring(base: int, description: Mapping[str, str]) -> int | None:
    return ring.newest(base) or None


def _newest_in_broadcast(base: int, description: Mapping[str, str]) -> int | None:
    words = broadcast.PUBLISHED, broadcast.CAPACITY, broadcast.RECORD_BYTES
    published, capacity, record_bytes = (peek(base + word) for word in words)
    return base + broadcast.RECORDS + (published - 1) % capacity * record_bytes if published > 0 else None


def _newest_in_seqlock(base: int, description: Mapping[str, str]) -> int | None:
    """The payload, of those that stand, with the latest stamp."""
    payload = align_up(int(description["record.itemsize"]), 8)
    stamp = next((description[name] for name in STAMPS if name in description), "@0")
    cells = [cell for row in _rows(base, description) if (cell := seqlock.newest(row, payload))]
    return max(cells, key=lambda cell: peek(cell + int(stamp.rpartition("@")[2])), default=None)


_NEWEST: dict[str, Callable[[int, Mapping[str, str]], int | None]] = {
    "ring": _newest_in_ring, "broadcast": _newest_in_broadcast, "seqlock": _newest_in_seqlock,
}  # fmt: skip
