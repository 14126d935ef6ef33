"""Segments: what must be refused, what must stay unharmed, what must be gone afterwards."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shm import segment as segments
from shm.segment import Segment, record_layout, ring_layout, sweep, unlink

RECORD = np.dtype([("a", "<i8"), ("b", "<i8", (7,))])


@pytest.fixture
def name() -> Iterator[str]:
    name = f"tickpipe.test-{os.getpid()}.segment"
    yield name
    unlink(name)


def test_a_segment_is_private_to_its_user_and_its_space_is_reserved(name: str) -> None:
    Segment.create(name, record_layout(RECORD, 1000))
    status = (segments.SHM_DIRECTORY / name).stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_blocks * 512 >= 1000 * RECORD.itemsize


def test_what_one_side_writes_the_other_reads_and_an_observer_cannot_write(name: str) -> None:
    layout = record_layout(RECORD, 3)
    owner = Segment.create(name, layout)
    owner.view(RECORD, 3)["a"] = [1, 2, 3]
    reader = Segment.attach(name, layout)
    assert reader.view(RECORD, 3)["a"].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        reader.view(RECORD, 3)["a"] = 5
    writer = Segment.attach(name, layout, writable=True)
    writer.view(RECORD, 3)["a"] = 9
    assert owner.view(RECORD, 3)["a"].tolist() == [9, 9, 9]


def test_a_taken_name_is_refused_and_the_live_segment_unharmed(name: str) -> None:
    layout = record_layout(RECORD)
    Segment.create(name, layout).view(RECORD)["a"] = 7
    with pytest.raises(segments.SegmentExistsError):
        Segment.create(name, layout)
    assert Segment.attach(name, layout).view(RECORD)["a"][0] == 7


def test_another_layout_is_refused_with_the_fields_that_differ(name: str) -> None:
    Segment.create(name, ring_layout(RECORD, 8))
    with pytest.raises(segments.LayoutMismatchError, match="capacity: expected 16, found 8"):
        Segment.attach(name, ring_layout(RECORD, 16))


def test_a_missing_segment_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(segments.SegmentMissingError, match="not found"):
        Segment.attach(name, record_layout(RECORD))


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(8192)], ids=["empty", "truncated", "half-built"])
def test_an_unfinished_segment_is_refused(name: str, content: bytes) -> None:
    (segments.SHM_DIRECTORY / name).write_bytes(content)
    with pytest.raises(segments.NotReadyError):
        Segment.attach(name, record_layout(RECORD))


def test_a_symbolic_link_is_not_followed(name: str, tmp_path: Path) -> None:
    Segment.create(name, record_layout(RECORD))
    link = segments.SHM_DIRECTORY / f"{name}.link"
    link.symlink_to(segments.SHM_DIRECTORY / name)
    try:
        with pytest.raises(segments.SegmentError):
            Segment.attach(link.name, record_layout(RECORD))
    finally:
        link.unlink()


def test_more_than_fits_is_an_error_message_not_a_bus_error(name: str) -> None:
    free = os.statvfs(segments.SHM_DIRECTORY)
    with pytest.raises(segments.NoSpaceError, match="free in /dev/shm"):
        Segment.create(name, record_layout(RECORD, free.f_blocks * free.f_frsize // RECORD.itemsize + 1))
    assert not (segments.SHM_DIRECTORY / name).exists()


def test_sweep_removes_the_segments_of_dead_owners_only(name: str) -> None:
    Segment.create(name, record_layout(RECORD))
    orphan = f"{name}.orphan"
    code = (
        "import numpy as np; from shm.segment import Segment, record_layout\n"
        f"Segment.create({orphan!r}, record_layout(np.dtype([('a', '<i8')])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), "no resource tracker may speak up or remove the segment"
    foreign = segments.SHM_DIRECTORY / f"{name}.foreign"
    foreign.write_bytes(b"not ours")
    try:
        assert orphan in sweep(f"{segments.NAME_PREFIX}test-{os.getpid()}")
        assert (segments.SHM_DIRECTORY / name).exists()
        assert foreign.exists()
    finally:
        foreign.unlink()


def test_a_forked_child_does_not_inherit_the_mapping(name: str) -> None:
    segment = Segment.create(name, record_layout(RECORD))
    mapped = f"{segment.address - segments.HEADER_BYTES:x}-"
    child = os.fork()
    if child == 0:
        os._exit(mapped in Path("/proc/self/maps").read_text())
    assert os.waitpid(child, 0)[1] == 0
    assert mapped in Path("/proc/self/maps").read_text()
