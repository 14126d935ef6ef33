"""What a look from outside tells of a segment of each kind, and of what cannot be looked at."""

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from shm import inspection, segment
from shm.arena import Arena
from shm.broadcast import Broadcaster
from shm.pool import Pool
from shm.ring import Ring
from shm.segment import Segment
from shm.seqlock import SeqlockTable

STAMPED = np.dtype([("seq", "<i8"), ("publish_ns", "<i8")])


@pytest.fixture
def prefix() -> Iterator[str]:
    prefix = f"tickpipe.test-{os.getpid()}-look."
    yield prefix
    for found in inspection.find(prefix):
        segment.unlink(found.name)


def _stamped(count: int, age_ns: int) -> np.ndarray:
    records = np.zeros(count, STAMPED)
    records["publish_ns"] = time.monotonic_ns() - age_ns
    return records


def test_a_ring_shows_its_cursors_its_lag_and_the_age_of_its_newest_record(prefix: str) -> None:
    created = Segment.create(f"{prefix}ring", segment.ring_layout(STAMPED, 8))
    (empty,) = inspection.find(prefix)
    assert (empty.lag, empty.age_ns) == (0, None)
    ring = Ring(created.address, STAMPED)
    ring.push_batch(_stamped(5, 60_000_000_000))
    ring.push_batch(_stamped(1, 2_000_000_000))
    ring.pop_batch(4)
    (found,) = inspection.find(prefix)
    assert (found.name, found.status, found.owner_pid) == (f"{prefix}ring", "live", os.getpid())
    assert (found.cursors["head"], found.cursors["tail"], found.lag) == (4, 6, 2)
    assert found.description["kind"] == "ring"
    assert found.age_ns is not None
    assert 2_000_000_000 <= found.age_ns < 60_000_000_000


def test_every_kind_shows_what_it_has(prefix: str) -> None:
    word = np.dtype("<i8")
    made = {
        name: Segment.create(f"{prefix}{name}", layout)
        for name, layout in {
            "arena": segment.arena_layout(100), "broadcast": segment.broadcast_layout(STAMPED, 4),
            "pool": segment.pool_layout(STAMPED, 4), "records": segment.record_layout(word),
            "seqlock": segment.seqlock_layout(STAMPED, 3),
        }.items()
    }  # fmt: skip
    Arena(made["arena"].address).allocate(24)
    Broadcaster(made["broadcast"].address, STAMPED).publish(_stamped(7, 3_000_000_000))
    Pool(made["pool"].address, STAMPED).acquire()
    SeqlockTable(made["seqlock"].address, STAMPED, 3).write(1, _stamped(1, 3_000_000_000))
    found = {each.name.removeprefix(prefix): each for each in inspection.find(prefix)}
    assert found["arena"].cursors["used_bytes"] == 24
    assert found["broadcast"].cursors == {"published": 7}
    assert found["pool"].cursors == {"free": 3, "refused": 0}
    assert found["records"].cursors == {}
    assert found["seqlock"].cursors == {"rows_written": 1, "versions": 1}
    for name in ("broadcast", "seqlock"):
        age_ns = found[name].age_ns
        assert age_ns is not None
        assert 3_000_000_000 <= age_ns < 60_000_000_000
    assert {each.lag for each in found.values()} == {None}


def test_what_cannot_be_looked_at_is_named_with_its_reason(prefix: str) -> None:
    path = segment.SHM_DIRECTORY / f"{prefix}odd"
    path.write_bytes(b"")
    path.chmod(0o600)
    (found,) = inspection.find(prefix)
    assert (found.status, found.owner_pid, found.size_bytes) == ("NotReadyError", None, 0)
    assert "size=0" in found.problem
