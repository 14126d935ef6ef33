"""Segments: named pieces of shared memory, created by the supervisor, attached by stages and observers.

A segment is one page of header and its payload. The header says what the payload is, in words and as a fingerprint, and
who owns it; its ready word is stored last, so that nobody attaches to a half-built one.

      0  magic, layout_version            16  fingerprint (32 bytes)
     48  owner_pid, owner_start_ticks     64  payload_bytes
     72  ready                            80  description length, then the description (JSON)
   4096  payload

Its creator alone writes the header, before it stores `ready`; nobody changes it afterwards. The payload's writers are
those of what it holds.

Order. The header and what the payload begins with are plain stores; a release fence and a release store of `ready`
follow. Whoever attaches loads `ready` with acquire before all else, so a segment that is ready is seen whole.

Its creator owns it and holds a file lock on it for as long as it lives: whether an owner lives is asked of that lock,
which no process number that is used again, no zombie and no other process namespace can answer wrongly.

A creator that dies before that store leaves a segment that is never ready: HalfBuiltError, and `sweep` removes it. One
that dies later leaves all of it, for observers and for its successors' `sweep`. An attached process that dies leaves
what it stored. A name that is unlinked leaves the mappings of those who have it. Nothing is ever lost here but by
`sweep` and `unlink`, which remove what no living process owns.

Errors, all of `SegmentError`:

    SegmentError
    ├── SegmentExistsError       create: the name is taken
    ├── NoSpaceError             create: /dev/shm has no room (found here, not later as a SIGBUS)
    ├── SegmentMissingError      attach: nothing of that name
    ├── NotASegmentError         attach: a symbolic link, a folder, or a file that is none of ours
    ├── ForeignSegmentError      attach: another user's, who could cut it short under us
    ├── PermissionsError         attach: its mode is not 0600, so others may have written to it or read it
    ├── NotReadyError            attach: its creator is still building it
    ├── HalfBuiltError           attach: its creator died building it
    ├── TruncatedError           attach: shorter than its header says; a look behind its end would be a SIGBUS
    ├── VersionMismatchError     attach: built by another version of this package
    └── LayoutMismatchError      attach: holds something else than expected; says which field differs

Whoever is refused has changed nothing: the segment and those who use it do not notice.
"""

import contextlib
import ctypes
import errno
import fcntl
import glob
import json
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from sys import version_info
from types import TracebackType
from typing import Any

import numpy as np

from shm.arena import arena_bytes, format_arena
from shm.atomics import fence_release, load_acquire, store_release
from shm.broadcast import broadcast_bytes, format_broadcast
from shm.file_lock import EXCLUSIVE, SHARED, try_lock
from shm.kernel import kernel
from shm.layout import align_up, describe, differences, fingerprint
from shm.pool import format_pool, pool_bytes
from shm.ring import format_ring, ring_bytes
from shm.seqlock import row_bytes

MAGIC = int.from_bytes(b"tickpipe", "little")
LAYOUT_VERSION = 1
HEADER_BYTES = 4096
NAME_PREFIX = "tickpipe."
SHM_DIRECTORY = Path("/dev/shm")
MODE = 0o600
MADV_POPULATE_WRITE = 23

_HEADER = struct.Struct("<qq32sqqqqq")
_READY_OFFSET = 72
_DESCRIPTION_OFFSET = _HEADER.size


class SegmentError(Exception):
    """A segment cannot be created or attached."""


class SegmentExistsError(SegmentError):
    """The name is taken."""


class NoSpaceError(SegmentError):
    """/dev/shm has no room."""


class SegmentMissingError(SegmentError):
    """There is no segment of that name."""


class NotASegmentError(SegmentError):
    """What has the name is not a segment."""


class ForeignSegmentError(SegmentError):
    """The segment is another user's."""


class PermissionsError(SegmentError):
    """The segment's mode is not 0600."""


class NotReadyError(SegmentError):
    """The segment's creator has not finished it."""


class HalfBuiltError(SegmentError):
    """The segment's creator died before it was finished."""


class TruncatedError(SegmentError):
    """The segment is shorter than its header says."""


class VersionMismatchError(SegmentError):
    """The segment was built by another version of this package."""


class LayoutMismatchError(SegmentError):
    """The segment holds something else than expected."""


@dataclass(frozen=True)
class Layout:
    """What a segment holds: a description in words (field: text), and how many bytes it takes."""

    description: dict[str, str]
    payload_bytes: int
    sizes: tuple[int, ...] = ()
    """What the header of a ring, broadcast ring or pool (capacity, record_bytes) or of an arena (bytes) is made of."""
    initial: bytes = b""
    """What the payload begins with, for a segment that is written once, by its creator."""

    @property
    def kind(self) -> str:
        """records, ring, broadcast, seqlock, pool, arena or catalogue."""
        return self.description["kind"]

    def format(self, address: int) -> None:
        """Write what the payload at `address`, fresh and zeroed, begins with: the header of its kind, or `initial`."""
        ctypes.memmove(address, self.initial, len(self.initial))
        if self.kind in _FORMATTERS:
            _FORMATTERS[self.kind](address, *self.sizes)


_FORMATTERS: dict[str, Callable[..., None]] = {
    "ring": format_ring, "broadcast": format_broadcast, "pool": format_pool, "arena": format_arena,
}  # fmt: skip


def dtype_fields(dtype: np.dtype) -> dict[str, str]:
    """The dtype's description, its names kept apart from the layout's own."""
    return {f"record.{name}": text for name, text in describe(dtype).items()}


def record_layout(dtype: np.dtype, count: int = 1) -> Layout:
    """`count` records of `dtype`."""
    return Layout({"kind": "records", "count": str(count), **dtype_fields(dtype)}, dtype.itemsize * count)


def ring_layout(dtype: np.dtype, capacity: int) -> Layout:
    """An SPSC ring of `capacity` records of `dtype`."""
    size = ring_bytes(capacity, dtype.itemsize)
    return Layout({"kind": "ring", "capacity": str(capacity), **dtype_fields(dtype)}, size, (capacity, dtype.itemsize))


def pool_layout(dtype: np.dtype, capacity: int) -> Layout:
    """A pool of `capacity` objects of `dtype`."""
    size = pool_bytes(capacity, dtype.itemsize)
    return Layout({"kind": "pool", "capacity": str(capacity), **dtype_fields(dtype)}, size, (capacity, dtype.itemsize))


def arena_layout(capacity_bytes: int) -> Layout:
    """An arena of `capacity_bytes`."""
    return Layout({"kind": "arena", "bytes": str(capacity_bytes)}, arena_bytes(capacity_bytes), (capacity_bytes,))


def broadcast_layout(dtype: np.dtype, capacity: int) -> Layout:
    """A broadcast ring of `capacity` records of `dtype`."""
    size = broadcast_bytes(capacity, dtype.itemsize)
    description = {"kind": "broadcast", "capacity": str(capacity), **dtype_fields(dtype)}
    return Layout(description, size, (capacity, dtype.itemsize))


def seqlock_layout(dtype: np.dtype, rows: int) -> Layout:
    """A seqlock table of `rows` rows with payload `dtype`."""
    size = rows * row_bytes(align_up(dtype.itemsize, 8))
    return Layout({"kind": "seqlock", "rows": str(rows), **dtype_fields(dtype)}, size)


@kernel
def _publish_ready(address: int) -> None:
    fence_release()
    store_release(address, 1)


@kernel
def _is_ready(address: int) -> bool:
    return load_acquire(address) == 1


def process_start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), None when there is none.

    A pid alone does not name a process: pids are used again.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


@contextlib.contextmanager
def _without_resource_tracker() -> Iterator[None]:
    """Keep multiprocessing's tracker away: it unlinks segments behind the back of processes that still use them.

    Python 3.13 has `track=False`; before, *both* its functions must be silent, or its process prints tracebacks.
    """
    if version_info >= (3, 13):
        yield
        return
    register, unregister = resource_tracker.register, resource_tracker.unregister
    resource_tracker.register = resource_tracker.unregister = lambda *_: None
    try:
        yield
    finally:
        resource_tracker.register, resource_tracker.unregister = register, unregister


_UNTRACKED: dict[str, Any] = {"track": False} if version_info >= (3, 13) else {}

_kept: list["Segment"] = []
"""Segments of this process and of the one it was forked from. A mapping that MADV_DONTFORK removed from a child must
never be unmapped there by a destructor: something else may stand at its address by then."""


class Segment:
    """A mapped segment. `address` is the payload's, for kernels; `view` gives numpy access to the same bytes."""

    def __init__(self, name: str, memory: mmap.mmap, layout: Layout, lock: int = -1) -> None:
        self.name = name
        self.layout = layout
        self._memory = memory
        self._lock = lock  # the owner's: a descriptor; forked processes close theirs
        whole = np.frombuffer(memory, np.uint8)
        self.writable = bool(whole.flags.writeable)
        self._whole: np.ndarray | None = whole
        self.address = int(whole.ctypes.data) + HEADER_BYTES
        _kept.append(self)

    @classmethod
    def create(cls, name: str, layout: Layout, *, keep_over_fork: bool = False) -> "Segment":
        """Make the segment, zeroed, its space reserved, its header written, ready.

        Raises SegmentExistsError, NoSpaceError.
        """
        description = json.dumps(layout.description, sort_keys=True).encode()
        if _DESCRIPTION_OFFSET + len(description) > HEADER_BYTES:
            raise SegmentError(f"segment {name}: description of {len(description)} bytes does not fit its header")
        size = HEADER_BYTES + layout.payload_bytes
        memory, lock = _create_reserved(name, size)
        if not keep_over_fork:
            memory.madvise(mmap.MADV_DONTFORK)
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)  # refused where the kernel has no huge pages for shared memory
        segment = cls(name, memory, layout, lock)
        pid = os.getpid()
        _HEADER.pack_into(
            memory, 0, MAGIC, LAYOUT_VERSION, fingerprint(layout.description), pid,
            process_start_ticks(pid) or 0, layout.payload_bytes, 0, len(description),
        )  # fmt: skip
        memory[_DESCRIPTION_OFFSET : _DESCRIPTION_OFFSET + len(description)] = description
        layout.format(segment.address)
        ready = segment.address - HEADER_BYTES + _READY_OFFSET
        _publish_ready(ready)
        assert _is_ready(ready)  # here also because this compiles it, before the stages that attach are forked
        return segment

    @classmethod
    def attach(cls, name: str, layout: Layout, *, writable: bool = False) -> "Segment":
        """Map an existing segment, read-only unless `writable`, its pages populated.

        Raises SegmentMissingError, NotASegmentError, ForeignSegmentError, PermissionsError, NotReadyError,
        HalfBuiltError, TruncatedError, VersionMismatchError, LayoutMismatchError.
        """
        memory = _map_existing(name, writable)
        header = _read_header(name, memory)
        if header.fingerprint != fingerprint(layout.description):
            difference = "; ".join(differences(layout.description, header.description))
            raise LayoutMismatchError(f"segment {name}: layout differs: {difference}")
        if header.payload_bytes != layout.payload_bytes:
            raise LayoutMismatchError(
                f"segment {name}: payload_bytes={header.payload_bytes}, expected {layout.payload_bytes}"
            )
        if writable:
            populate(memory)
        return cls(name, memory, layout)

    @classmethod
    def observe(cls, name: str) -> "Segment":
        """Map an existing segment, read-only, as what its header says it is. Raises as `attach` does."""
        memory = _map_existing(name, writable=False)
        header = _read_header(name, memory)
        return cls(name, memory, Layout(header.description, header.payload_bytes))

    def view(self, dtype: np.dtype, count: int = 1, offset: int = 0) -> np.ndarray:
        """`count` records of `dtype` at `offset` of the payload, over the shared bytes themselves."""
        assert self._whole is not None, f"segment {self.name} is closed"
        return np.ndarray((count,), dtype, self._memory, HEADER_BYTES + offset)

    def close(self) -> None:
        """Unmap, and own it no more. Views must be gone: numpy arrays over it keep the mapping alive until they are."""
        self._whole = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        with contextlib.suppress(ValueError):
            _kept.remove(self)
        with contextlib.suppress(BufferError):
            self._memory.close()

    def __enter__(self) -> "Segment":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create_reserved(name: str, size: int) -> tuple[mmap.mmap, int]:
    """(its mapping, the descriptor that holds its lock)."""
    while True:
        with _without_resource_tracker():
            try:
                shared = shared_memory.SharedMemory(name, create=True, size=size, **_UNTRACKED)
            except FileExistsError as error:
                raise SegmentExistsError(f"segment {name}: the name is taken") from error
            handle: Any = shared
            try:
                fcntl.flock(handle._fd, fcntl.LOCK_EX)
                os.posix_fallocate(handle._fd, 0, size)
            except OSError as error:
                shared.close()
                shared.unlink()
                if error.errno in (errno.ENOSPC, errno.ENOMEM):
                    free = os.statvfs(SHM_DIRECTORY)
                    raise NoSpaceError(
                        f"segment {name}: {size} bytes wanted, {free.f_bavail * free.f_frsize} free in {SHM_DIRECTORY}"
                    ) from error
                raise
        # The mapping is taken over: SharedMemory's destructor would close it under the numpy views that kernels use.
        memory: mmap.mmap = handle._mmap
        lock: int = handle._fd
        handle._buf.release()
        handle._buf, handle._mmap, handle._fd = None, None, -1
        if os.fstat(lock).st_nlink > 0:
            return memory, lock
        # Somebody swept it between its making and its locking.
        memory.close()
        os.close(lock)


@dataclass(frozen=True)
class _Header:
    """What a complete segment says of itself."""

    fingerprint: bytes
    description: dict[str, str]
    payload_bytes: int


def _read_header(name: str, memory: mmap.mmap) -> _Header:
    # The ready word before all else: the other words may be as old as the moment each was read at.
    is_ready = _is_ready(int(np.frombuffer(memory, np.uint8).ctypes.data) + _READY_OFFSET)
    magic, version, mark, pid, _, payload_bytes, _, length = _HEADER.unpack_from(memory, 0)
    if magic not in (MAGIC, 0):
        raise NotASegmentError(f"segment {name}: magic={magic:#x}, expected {MAGIC:#x}")
    if not is_ready:
        if magic == MAGIC and owner_is_alive(name) is False:
            raise HalfBuiltError(f"segment {name}: ready=0; its creator, process {pid}, died before it was finished")
        raise NotReadyError(f"segment {name}: ready=0; its creator has not finished it")
    if version != LAYOUT_VERSION:
        raise VersionMismatchError(f"segment {name}: layout_version={version}, expected {LAYOUT_VERSION}")
    if len(memory) < HEADER_BYTES + payload_bytes:
        raise TruncatedError(f"segment {name}: size={len(memory)}, its header says {HEADER_BYTES + payload_bytes}")
    text = bytes(memory[_DESCRIPTION_OFFSET : min(_DESCRIPTION_OFFSET + length, HEADER_BYTES)])
    try:
        description = json.loads(text)
    except ValueError as error:
        raise NotASegmentError(f"segment {name}: its description is not readable: {error}") from error
    return _Header(mark, description, payload_bytes)


def _map_existing(name: str, writable: bool) -> mmap.mmap:
    # Not SharedMemory: it maps writable always, follows symbolic links and talks to the tracker.
    try:
        descriptor = os.open(
            SHM_DIRECTORY / name, (os.O_RDWR if writable else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except FileNotFoundError as error:
        raise SegmentMissingError(f"segment {name}: not found in {SHM_DIRECTORY}") from error
    except OSError as error:
        raise _refusal(name, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotASegmentError(f"segment {name}: not a regular file")
        if status.st_uid != os.geteuid():
            raise ForeignSegmentError(f"segment {name}: owned by user {status.st_uid}, we are {os.geteuid()}")
        if stat.S_IMODE(status.st_mode) != MODE:
            raise PermissionsError(f"segment {name}: mode={stat.S_IMODE(status.st_mode):04o}, expected {MODE:04o}")
        if status.st_size == 0:
            raise NotReadyError(f"segment {name}: size=0; its creator has not finished it")
        if status.st_size < HEADER_BYTES:
            raise TruncatedError(f"segment {name}: size={status.st_size} is less than its header")
        return mmap.mmap(
            descriptor, status.st_size, mmap.MAP_SHARED, mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        )
    finally:
        os.close(descriptor)


def _refusal(name: str, error: OSError) -> SegmentError:
    """Why the operating system would not open it."""
    if error.errno == errno.ELOOP:
        return NotASegmentError(f"segment {name}: a symbolic link, which is not followed")
    if error.errno == errno.EISDIR:
        return NotASegmentError(f"segment {name}: a folder")
    if error.errno in (errno.EACCES, errno.EPERM):
        status = (SHM_DIRECTORY / name).lstat()
        if status.st_uid != os.geteuid():
            return ForeignSegmentError(f"segment {name}: owned by user {status.st_uid}, we are {os.geteuid()}")
        return PermissionsError(f"segment {name}: mode={stat.S_IMODE(status.st_mode):04o}, expected {MODE:04o}")
    return SegmentError(f"segment {name}: cannot be opened: {error.strerror}")


def populate(memory: mmap.mmap) -> None:
    """Fault every page in for writing now: about 2 µs a page that would else be paid on the hot path."""
    with contextlib.suppress(OSError):  # kernels before 5.14 lack it; first use then pays
        memory.madvise(MADV_POPULATE_WRITE)


def unlink(name: str) -> None:
    """Remove a segment's name; mappings live on. No error when it is gone already."""
    with contextlib.suppress(FileNotFoundError):
        (SHM_DIRECTORY / name).unlink()


@dataclass(frozen=True)
class Owner:
    """The process that created a segment, by its own namespace's number, and whether it still holds it."""

    pid: int
    is_alive: bool


def owner_of(name: str) -> Owner | None:
    """Who created segment `name`, finished or not; None when its header does not say."""
    try:
        with (SHM_DIRECTORY / name).open("rb") as file:
            magic, _, _, pid, *_ = _HEADER.unpack(file.read(_HEADER.size))
    except (OSError, struct.error):
        return None
    return Owner(pid, owner_is_alive(name) is not False) if magic == MAGIC else None


def owner_is_alive(name: str) -> bool | None:
    """Whether the process that created segment `name` still holds it; None when that cannot be asked."""
    try:
        descriptor = os.open(SHM_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return not try_lock(descriptor, SHARED)
    finally:
        os.close(descriptor)


def _is_segment(descriptor: int) -> bool:
    """Whether it begins as a segment does, or has nothing in it: its creator died before it wrote the header."""
    magic = os.pread(descriptor, 8, 0)
    return magic in (b"tickpipe", bytes(8), b"")


def sweep(prefix: str = NAME_PREFIX) -> list[str]:
    """Remove the segments whose owner is dead; returns their names. What is no segment, or not ours, is left alone."""
    removed = []
    for path in SHM_DIRECTORY.glob(f"{glob.escape(prefix)}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # a link, or another user's; or another sweep was faster
        try:
            status = os.fstat(descriptor)
            ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and _is_segment(descriptor)
            if ours and try_lock(descriptor, EXCLUSIVE) and _is_at(path, status):
                unlink(path.name)
                removed.append(path.name)
        finally:
            os.close(descriptor)
    return sorted(removed)


def _is_at(path: Path, status: os.stat_result) -> bool:
    """Whether the file that was opened is the one of that name still: the lock is of a file, not of a name."""
    try:
        return os.path.samestat(path.lstat(), status)
    except FileNotFoundError:
        return False
