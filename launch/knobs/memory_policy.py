"""The knobs of memory: pages kept in it, and taken from the node that uses them."""

import ctypes
import os
import platform
import resource
from pathlib import Path

from launch.host.machine import IPC_LOCK
from launch.knobs.knob import Knob, call, has_capability, soft_limit

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
MPOL_DEFAULT, MPOL_PREFERRED = 0, 1
NODE_BITS = 1024
"""Size of a node mask: the kernel's own limit."""
SYSCALLS = {"x86_64": (238, 239), "aarch64": (237, 236)}
"""Machine: numbers of set_mempolicy and get_mempolicy, which libc does not wrap."""


class MemoryLock(Knob):
    """Pages stay in memory once they are in it.

    On fault, not at once: to fault in all that a forked process inherits copies the compiler's memory for each stage
    (0.6 s and 340 MB here, against 4 to 20 ms). And only where nothing limits it: under a finite RLIMIT_MEMLOCK a later
    mmap, a growing stack or a realloc fails, which is worse than a page that may be swapped.
    """

    name = "memory_lock"
    wanted = "locking memory (mlockall)"
    cost = "pages that were not used for a while can be swapped out or dropped, and take a disk's time to come back"
    grants = "ulimit -l unlimited (limits.conf: memlock unlimited; unit: LimitMEMLOCK=infinity), or CAP_IPC_LOCK"

    def read(self) -> int:
        """Whether any memory is locked."""
        return int(locked_bytes("self") > 0)

    def check(self, value: int) -> str | None:
        """By capability and resource limit."""
        limit = soft_limit(resource.RLIMIT_MEMLOCK)
        if limit is None or has_capability(IPC_LOCK):
            return None
        return f"RLIMIT_MEMLOCK={limit} bytes, and no CAP_IPC_LOCK: later allocations would fail"

    def apply(self, value: int) -> None:
        """What is there and what will come."""
        call("mlockall", MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)

    def undo(self, before: int) -> None:
        """All or nothing."""
        if not before:
            call("munlockall")


class LocalMemory(Knob):
    """New pages come from the node of the core, whatever policy the run was started under (numactl)."""

    name, early = "local_memory", True
    wanted = "memory of NUMA node {value}"
    cost = "memory of another node costs about twice the time"
    grants = "allow set_mempolicy in the container's seccomp profile (docker: --cap-add SYS_NICE)"

    def read(self) -> int:
        """The preferred node; -1 when it is whichever touches first."""
        mode, mask = ctypes.c_int(), (ctypes.c_ulong * (NODE_BITS // 64))()
        call("syscall", *_words(_numbers()[1]), ctypes.byref(mode), mask, ctypes.c_ulong(NODE_BITS), None, None)
        if mode.value != MPOL_PREFERRED:
            return -1
        return next((64 * at + word.bit_length() - 1 for at, word in enumerate(mask) if word), -1)

    def check(self, value: int) -> str | None:
        """By trying to read."""
        try:
            self.read()
        except OSError as error:
            return error.strerror
        return None

    def apply(self, value: int) -> None:
        """Preferred, not bound: a full node must not end the process."""
        mask = (ctypes.c_ulong * (NODE_BITS // 64))()
        mask[value // 64] = 1 << value % 64
        # One more than the bits it reads: the kernel subtracts one.
        call("syscall", *_words(_numbers()[0], MPOL_PREFERRED), mask, ctypes.c_ulong(NODE_BITS + 1))

    def undo(self, before: int) -> None:
        """The node there was, or the default."""
        if before >= 0:
            self.apply(before)
        else:
            call("syscall", *_words(_numbers()[0], MPOL_DEFAULT), None, ctypes.c_ulong(0))


def locked_bytes(pid: int | str) -> int:
    """Locked memory of a process. Raises OSError."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("VmLck:"):
            return int(line.split()[1]) * 1024
    return 0


def _numbers() -> tuple[int, int]:
    numbers = SYSCALLS.get(platform.machine())
    if numbers is None:
        raise OSError(38, f"{os.strerror(38)} on {platform.machine()}")
    return numbers


def _words(*values: int) -> list[ctypes.c_long]:
    """Variadic arguments of syscall(2) are whole registers."""
    return [ctypes.c_long(value) for value in values]
