"""Segments: what must be refused, what must stay unharmed, what must be gone afterwards."""

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shm import segment as segments
from shm.atomics import JIT
from shm.layout import fingerprint
from shm.segment import Segment, record_layout, ring_layout, sweep, unlink

RECORD = np.dtype([("a", "<i8"), ("b", "<i8", (7,))])
OF_PROCESSES = pytest.mark.skipif(not JIT, reason="about processes, each a compiler loaded: the same with it off")


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


def _header(**fields: int) -> bytes:
    """A header as a creator leaves it, with some fields changed, and a page of payload."""
    values = {
        "magic": segments.MAGIC, "version": segments.LAYOUT_VERSION, "pid": os.getpid(),
        "start_ticks": segments.process_start_ticks(os.getpid()) or 0, "payload_bytes": RECORD.itemsize, "ready": 1,
    } | fields  # fmt: skip
    layout = record_layout(RECORD)
    text = json.dumps(layout.description, sort_keys=True).encode()
    header = segments._HEADER.pack(
        values["magic"], values["version"], fingerprint(layout.description), values["pid"], values["start_ticks"],
        values["payload_bytes"], values["ready"], len(text),
    )  # fmt: skip
    return (header + text).ljust(segments.HEADER_BYTES, b"\0") + bytes(RECORD.itemsize)


def _write(name: str, content: bytes, mode: int = 0o600) -> Path:
    path = segments.SHM_DIRECTORY / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_header_that_these_tests_write_is_one_that_is_accepted(name: str) -> None:
    _write(name, _header())
    Segment.attach(name, record_layout(RECORD)).close()


@pytest.mark.parametrize(
    ("content", "refusal", "words"),
    [
        (b"", segments.NotReadyError, "size=0"),
        (b"x" * 100, segments.TruncatedError, "less than its header"),
        (bytes(8192), segments.NotReadyError, "ready=0; its creator has not finished it"),
        (_header(ready=0), segments.HalfBuiltError, f"process {os.getpid()}, died"),
        (_header()[:-8], segments.TruncatedError, "its header says"),
        (_header(payload_bytes=1 << 40), segments.TruncatedError, "its header says"),
        (_header(payload_bytes=8), segments.LayoutMismatchError, "payload_bytes=8, expected 64"),
        (_header(version=99), segments.VersionMismatchError, "layout_version=99, expected 1"),
        (_header(magic=77), segments.NotASegmentError, "magic=0x4d"),
        (b"\x7fELF" + bytes(9000), segments.NotASegmentError, "magic="),
    ],
    ids=[
        "empty", "no header", "zeros", "half-built by a dead creator", "cut short", "longer in words",
        "of another size", "of another version", "of another kind", "a program",
    ],
)  # fmt: skip
def test_what_is_no_finished_segment_of_ours_is_refused(
    name: str, content: bytes, refusal: type[Exception], words: str
) -> None:
    path = _write(name, content)
    with pytest.raises(segments.SegmentError, match=words) as refused:
        Segment.attach(name, record_layout(RECORD))
    assert refused.type is refusal
    assert path.read_bytes() == content


def test_a_segment_whose_creator_is_still_at_it_is_not_ready(name: str) -> None:
    with _write(name, _header(ready=0)).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(segments.NotReadyError, match="has not finished it"):
            Segment.attach(name, record_layout(RECORD))


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o400, 0o700])
def test_a_segment_that_others_may_touch_is_refused(name: str, mode: int) -> None:
    _write(name, _header(), mode)
    with pytest.raises(segments.PermissionsError, match=f"mode={mode:04o}, expected 0600"):
        Segment.attach(name, record_layout(RECORD), writable=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a segment to another user")
@pytest.mark.parametrize("we_are_root", [True, False])
def test_another_users_segment_is_refused(name: str, we_are_root: bool) -> None:
    path = _write(name, _header())
    if we_are_root:
        os.chown(path, 65534, 65534)
        with pytest.raises(segments.ForeignSegmentError, match="owned by user 65534, we are 0"):
            Segment.attach(name, record_layout(RECORD))
        return
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            Segment.attach(name, record_layout(RECORD))
        except segments.ForeignSegmentError as error:
            os._exit(0 if "owned by user 0, we are 65534" in str(error) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_symbolic_link_or_a_folder_is_refused(name: str) -> None:
    Segment.create(name, record_layout(RECORD))
    link, folder = (segments.SHM_DIRECTORY / f"{name}.{kind}" for kind in ("link", "folder"))
    link.symlink_to(segments.SHM_DIRECTORY / name)
    folder.mkdir()
    try:
        with pytest.raises(segments.NotASegmentError, match="symbolic link"):
            Segment.attach(link.name, record_layout(RECORD))
        for writable in (True, False):
            with pytest.raises(segments.NotASegmentError):
                Segment.attach(folder.name, record_layout(RECORD), writable=writable)
    finally:
        link.unlink()
        folder.rmdir()


ATTACH = """
import numpy as np
from shm.segment import Segment, record_layout
segment = Segment.attach({name!r}, record_layout(np.dtype([("a", "<i8"), ("b", "<i8", (7,))])), writable=True)
segment.view(np.dtype("<i8"))[0] += 1
"""


@OF_PROCESSES
def test_attachers_that_end_leave_the_live_segment_unharmed(name: str) -> None:
    segment = Segment.create(name, record_layout(RECORD))
    for ending in ("", "segment.close()", "import os; os._exit(0)", "import os; os.fork() and os.wait()"):
        done = subprocess.run(
            [sys.executable, "-c", ATTACH.format(name=name) + ending], capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), ending
    child = os.fork()
    if child == 0:
        attached = Segment.attach(name, record_layout(RECORD), writable=True)
        attached.view(RECORD)["a"] += 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert segment.view(RECORD)["a"][0] == 5
    assert Segment.attach(name, record_layout(RECORD)).view(RECORD)["a"][0] == 5


FULL = """
import os
import numpy as np
from shm import segment as segments
from shm.atomics import JIT
from shm.layout import fingerprint
from shm.segment import NoSpaceError, Segment, record_layout
word = np.dtype("<i8")
live = Segment.create("tickpipe.full.live", record_layout(word, 1000))
live.view(word, 1000)[:] = 7
try:
    Segment.create("tickpipe.full.more", record_layout(word, 1_000_000))
except NoSpaceError as error:
    print(error)
assert live.view(word, 1000).sum() == 7000
assert os.listdir("/dev/shm") == ["tickpipe.full.live"]
"""


@OF_PROCESSES
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_full_dev_shm_is_said_and_takes_nothing_from_the_live(name: str) -> None:
    small = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"'
    before = ["unshare", "-m", "sh", "-c", small, "sh"]
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespace may be made here")
    command = [*before, sys.executable, "-c", FULL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "8004096 bytes wanted, " in done.stdout
    assert " free in /dev/shm" in done.stdout


def test_more_than_fits_is_an_error_message_not_a_bus_error(name: str) -> None:
    free = os.statvfs(segments.SHM_DIRECTORY)
    with pytest.raises(segments.NoSpaceError, match="free in /dev/shm"):
        Segment.create(name, record_layout(RECORD, free.f_blocks * free.f_frsize // RECORD.itemsize + 1))
    assert not (segments.SHM_DIRECTORY / name).exists()


@OF_PROCESSES
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


def test_a_dead_owner_that_nobody_has_reaped_yet_is_dead_and_a_process_number_says_nothing(name: str) -> None:
    """A zombie has a process number and a start time; a process of another namespace has a number of ours, or none."""
    child = os.fork()
    if child == 0:
        Segment.create(name, record_layout(RECORD))
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert segments.owner_is_alive(name) is False
    os.waitpid(child, 0)
    unlink(name)
    Segment.create(name, record_layout(RECORD))
    with (segments.SHM_DIRECTORY / name).open("r+b") as file:
        file.seek(48)
        file.write((2**22 + 1).to_bytes(8, "little"))
    owner = segments.owner_of(name)
    assert owner is not None
    assert (owner.pid, owner.is_alive) == (2**22 + 1, True)
    assert sweep(name) == []


@pytest.mark.parametrize("content", [b"", bytes(8192)], ids=["empty", "zeros"])
def test_what_a_creator_left_before_it_wrote_a_header_is_swept(name: str, content: bytes) -> None:
    _write(name, content)
    assert sweep(name) == [name]


def test_a_segment_that_is_swept_between_its_making_and_its_locking_is_made_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, swept = fcntl.flock, []

    def swept_first(descriptor: int, operation: int) -> None:
        if not swept:
            swept.append(name)
            monkeypatch.setattr(fcntl, "flock", flock)
            assert sweep(name) == [name]
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", swept_first)
    Segment.create(name, record_layout(RECORD))
    assert swept
    assert sweep(name) == []
    Segment.attach(name, record_layout(RECORD)).close()


def test_a_forked_child_does_not_inherit_the_mapping(name: str) -> None:
    segment = Segment.create(name, record_layout(RECORD))
    mapped = f"{segment.address - segments.HEADER_BYTES:x}-"
    child = os.fork()
    if child == 0:
        os._exit(mapped in Path("/proc/self/maps").read_text())
    assert os.waitpid(child, 0)[1] == 0
    assert mapped in Path("/proc/self/maps").read_text()
