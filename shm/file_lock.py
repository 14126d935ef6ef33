"""Locks of files: who holds one lives. The system gives them up when the holder ends, however it ends."""

import fcntl

SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX


def try_lock(descriptor: int, kind: int) -> bool:
    """Lock an open file at once, or not at all: SHARED with others of that kind, EXCLUSIVE alone. Raises OSError."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
