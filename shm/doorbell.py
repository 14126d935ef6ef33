"""Doorbell: wakes a stage that sleeps, for stages that share a core. One sleeper, any number of ringers.

A door is a word in shared memory, written by the sleeper only, on a line of its own:

      0  sleeps    even: awake; odd: asleep or about to be. It only grows, so each sleep has a number of its own

A bell is a process's private handle of a door, `BELL_BYTES` long; the sleeper has one, each ringer has one:

      0  address of the door      8  address of the semaphore      16  rung: the sleep it was last rung for
     24  timespec (two words of scratch)

The sleeper announces its sleep, looks at its inputs *once more*, and waits on the semaphore when they are still empty.
A ringer publishes, then looks at the door, and posts when it is odd and was not rung for this sleep already: a system
call for each sleep, not for each message.

Order. Each side stores one word and then loads the other's: the sleeper the door and an input's cursor, the ringer the
cursor and the door. Processors, x86 too, let a load overtake an earlier store to another address, and acquire and
release do not forbid it; then each side could miss the other's store, and the sleeper would sleep over a message. So a
sequentially consistent fence stands between store and load on both sides: whichever fence comes first in their one
order, the other side's load sees the store before it. Either the sleeper sees the message or the ringer the announced
sleep. Posts and waits are themselves release and acquire, so a woken sleeper sees what it was woken for. A post that
came too late for one sleep ends the next one early: harmless, and `end_sleep` takes such posts away, before the
inputs are looked at again.

What a death leaves behind. A sleeper killed while its door is odd: each ringer posts at most once for that sleep and
goes on; the next sleeper starts from the door's word and takes the next odd number, so it is rung again. (It may find
old posts: one early return. The C library's count of waiters stays one too high: later posts make a system call that
wakes nobody.) A ringer killed between its publishing store and the end of its post: the message is in the ring, nobody
is woken, and the sleeper finds it when its wait times out. Hence every wait is bounded, by the time after which a
control word must be looked at in any case. A ringer that starts rings once, which ends that wait early.

The doorbell carries no data and loses none. The semaphore has the name of the segment that holds the door. It is made
after that segment and removed before it, so whoever owns the segment owns the semaphore (`sweep`). It is created and
unlinked by posix-ipc, with mode 0600; processes that use it open it with the C library, whose handle is an address
that kernels can call with. Waits are on CLOCK_MONOTONIC (`sem_clockwait`); before glibc 2.30 there is only
`sem_timedwait` on CLOCK_REALTIME, whose bound moves when that clock is set.
"""

import glob
import os
import stat

import numpy as np
import posix_ipc

from shm import libc
from shm.atomics import fence_seq_cst, load_acquire, load_word, store_relaxed, store_word
from shm.kernel import primitive
from shm.layout import WRITER_SEPARATION_BYTES, record_dtype
from shm.segment import NAME_PREFIX, SHM_DIRECTORY, owner_is_alive, record_layout

DOOR_RECORD = record_dtype([("sleeps", "<i8")], WRITER_SEPARATION_BYTES)
DOOR_LAYOUT = record_layout(DOOR_RECORD)
"""What the segment of a door holds, written by the sleeper."""

SLEEPS = 0

DOOR = 0
SEMAPHORE = 8
RUNG = 16
TIMESPEC = 24
BELL_BYTES = 40

FILE_PREFIX = "sem."
"""The C library keeps the semaphore /x in the file sem.x of /dev/shm."""

LATE_POSTS_MAX = 16
"""`end_sleep` takes at most this many posts away. More ringers only mean an early return from the next wait."""

NS_PER_S = 1_000_000_000


class DoorbellError(Exception):
    """A doorbell cannot be created or opened."""


class DoorbellExistsError(DoorbellError):
    """The name is taken."""


class DoorbellMissingError(DoorbellError):
    """There is no semaphore of that name."""


@primitive
def ring(bell: int) -> None:
    """Ringer: call after the store that publishes. Wakes the sleeper if it sleeps."""
    fence_seq_cst()
    sleeps = load_acquire(load_word(bell + DOOR) + SLEEPS)
    if sleeps & 1 == 1 and sleeps != load_word(bell + RUNG):
        store_word(bell + RUNG, sleeps)
        libc.sem_post(load_word(bell + SEMAPHORE))


@primitive
def announce_sleep(bell: int) -> None:
    """Sleeper: from here on it is rung. It must look at its inputs after this and before `wait_ring`."""
    door = load_word(bell + DOOR)
    store_relaxed(door + SLEEPS, (load_word(door + SLEEPS) + 1) | 1)
    fence_seq_cst()


@primitive
def wait_ring(bell: int, timeout_ns: int) -> bool:
    """Sleeper: sleep until rung. False when the time was up or a signal came. Look at the inputs in either case."""
    timespec = bell + TIMESPEC
    libc.clock_gettime(libc.WAIT_CLOCK, timespec)
    until_ns = load_word(timespec + 8) + timeout_ns
    store_word(timespec, load_word(timespec) + until_ns // NS_PER_S)
    store_word(timespec + 8, until_ns % NS_PER_S)
    return libc.sem_clockwait(load_word(bell + SEMAPHORE), libc.WAIT_CLOCK, timespec) == 0


@primitive
def end_sleep(bell: int) -> None:
    """Sleeper: awake again, whether it waited or not."""
    door = load_word(bell + DOOR)
    store_relaxed(door + SLEEPS, load_word(door + SLEEPS) + 1)
    for _ in range(LATE_POSTS_MAX):
        if libc.sem_trywait(load_word(bell + SEMAPHORE)) != 0:
            break


def create_semaphore(name: str) -> None:
    """Make the semaphore of the door in segment `name`, with no post in it. Raises DoorbellExistsError."""
    try:
        posix_ipc.Semaphore(f"/{name}", posix_ipc.O_CREX, mode=0o600, initial_value=0).close()
    except posix_ipc.ExistentialError as error:
        raise DoorbellExistsError(f"doorbell {name}: the name is taken") from error


def unlink_semaphore(name: str) -> None:
    """Remove the semaphore's name; open ones live on. No error when it is gone already."""
    try:
        posix_ipc.unlink_semaphore(f"/{name}")
    except posix_ipc.ExistentialError:
        return


def sweep(prefix: str = NAME_PREFIX) -> list[str]:
    """Remove the semaphores whose segment's owner is dead or whose segment is gone; returns their names.

    To be called before the segments themselves are swept. A semaphore without its segment is always a leftover.
    """
    removed = []
    for path in SHM_DIRECTORY.glob(f"{FILE_PREFIX}{glob.escape(prefix)}*"):
        name = path.name.removeprefix(FILE_PREFIX)
        dead = owner_is_alive(name) is False or not (SHM_DIRECTORY / name).exists()
        if dead and not path.is_symlink() and path.stat().st_uid == os.geteuid():
            unlink_semaphore(name)
            removed.append(name)
    return sorted(removed)


class Bell:
    """This process's handle of a door. `address` is what the primitives take."""

    def __init__(self, name: str, door: int) -> None:
        """Open the semaphore `name` for the door at address `door`. Raises DoorbellMissingError, DoorbellError."""
        path = SHM_DIRECTORY / f"{FILE_PREFIX}{name}"
        try:
            status = path.lstat()
        except FileNotFoundError as error:
            raise DoorbellMissingError(f"doorbell {name}: no {path}") from error
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise DoorbellError(f"doorbell {name}: {path} has mode={status.st_mode:o} uid={status.st_uid}: not ours")
        try:
            self._semaphore = libc.sem_open(name)
        except OSError as error:
            raise DoorbellError(f"doorbell {name}: cannot be opened: {os.strerror(error.errno or 0)}") from error
        self._words = np.zeros(BELL_BYTES // 8, np.int64)
        self._words[DOOR // 8], self._words[SEMAPHORE // 8] = door, self._semaphore
        self.address = int(self._words.ctypes.data)

    def close(self) -> None:
        """Give the semaphore back to the C library; no kernel may use `address` any more."""
        libc.sem_close(self._semaphore)
