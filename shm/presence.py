"""Whether anybody observes a segment, asked of the operating system: observers write to nothing, and die as they like.

An observer holds a shared lock on a byte of the segment's file, through a descriptor that is open for reading only; the
segment's writer asks, in its cold side, whether anybody holds one. The system gives a lock up when its holder ends,
however it ends, so there is nothing to take back, no process number that is used again, and any number of observers.

The locks are those of an open file (Linux: F_OFD_SETLK): a process's own would be gone as soon as the process closed
any other descriptor of the file. They and the flock that tells a segment's owner do not see each other.

A writer that looks now and then says so in shared memory when it has seen one (`attended`, in a word of its own). It
takes that back in this order: the word first, then a second look. An observer locks first, then reads the word. The
system orders the locks, so either the second look finds the observer, or the observer finds the word taken back.
"""

import fcntl
import os
import struct

from shm.segment import SHM_DIRECTORY, SegmentMissingError

_BYTE = 1 << 40
"""Beyond the end of any segment: locks need no bytes."""
_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, process number."""


def _open(name: str) -> int:
    try:
        return os.open(SHM_DIRECTORY / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SegmentMissingError(f"segment {name}: not found in {SHM_DIRECTORY}") from None


class Presence:
    """An observer of segment `name` is here, until `close` or the end of its process. Raises SegmentMissingError."""

    def __init__(self, name: str) -> None:
        self._descriptor = _open(name)
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, _BYTE, 1, 0))

    def close(self) -> None:
        """Leave. Once."""
        os.close(self._descriptor)


class Watch:
    """The writer's look at segment `name`. Raises SegmentMissingError."""

    def __init__(self, name: str) -> None:
        self._descriptor = _open(name)

    def is_observed(self) -> bool:
        """Whether anybody is present; so it is taken to be where the system cannot say."""
        wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0)
        try:
            found = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, wanted)
        except OSError:
            return True
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Look no more. Once."""
        os.close(self._descriptor)
