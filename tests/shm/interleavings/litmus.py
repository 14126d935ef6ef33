"""Two-sided programs whose possible outcomes are known, to judge the memory models by. Run by the checker only.

`x` and `y` are addresses of two words that hold 0. Each function returns what its loads returned.
"""

from shm.atomics import (
    fence_acquire,
    fence_release,
    fence_seq_cst,
    load_acquire,
    load_relaxed,
    store_relaxed,
    store_release,
)


def store_then_load(x: int, y: int) -> int:
    """Half of store buffering."""
    store_release(x, 1)
    return load_acquire(y)


def store_fence_load(x: int, y: int) -> int:
    """The same with a full fence in between."""
    store_relaxed(x, 1)
    fence_seq_cst()
    return load_relaxed(y)


def store_weak_fences_load(x: int, y: int) -> int:
    """The same with fences that are too weak."""
    store_relaxed(x, 1)
    fence_release()
    fence_acquire()
    return load_relaxed(y)


def send_relaxed(x: int, y: int) -> int:
    """Message x, flag y, nothing ordered."""
    store_relaxed(x, 1)
    store_relaxed(y, 1)
    return 0


def send_release(x: int, y: int) -> int:
    """Message x, flag y by a release store."""
    store_relaxed(x, 1)
    store_release(y, 1)
    return 0


def send_fence(x: int, y: int) -> int:
    """Message x, flag y after a release fence."""
    store_relaxed(x, 1)
    fence_release()
    store_relaxed(y, 1)
    return 0


def send_fence_late(x: int, y: int) -> int:
    """The fence on the wrong side of both."""
    store_relaxed(x, 1)
    store_relaxed(y, 1)
    fence_release()
    return 0


def receive_relaxed(x: int, y: int) -> int:
    """10 * flag + message."""
    flag = load_relaxed(y)
    return 10 * flag + load_relaxed(x)


def receive_acquire(x: int, y: int) -> int:
    """The flag by an acquire load."""
    flag = load_acquire(y)
    return 10 * flag + load_relaxed(x)


def receive_fence(x: int, y: int) -> int:
    """An acquire fence after the flag."""
    flag = load_relaxed(y)
    fence_acquire()
    return 10 * flag + load_relaxed(x)


def store_release_then_relaxed(x: int, y: int) -> int:
    """A release store orders what stands before it, not what comes after: y may be seen without x."""
    store_release(x, 1)
    store_relaxed(y, 1)
    return 0


def count_up(x: int, y: int) -> int:
    """Two values of one word, in order."""
    store_relaxed(x, 1)
    store_relaxed(x, 2)
    return 0


def read_twice(x: int, y: int) -> int:
    """10 * first + second."""
    first = load_relaxed(x)
    return 10 * first + load_relaxed(x)


def load_then_store(x: int, y: int) -> int:
    """Half of load buffering."""
    value = load_relaxed(x)
    store_relaxed(y, 1)
    return value
