"""Memory for the books of a benchmark: anonymous, populated, in huge pages where the kernel gives them."""

import ctypes
import mmap
from pathlib import Path

import numpy as np

HUGE_BYTES = 2 << 20


class Memory:
    """`size` zeroed bytes at `address`, a multiple of HUGE_BYTES."""

    def __init__(self, size: int, *, huge: bool = True) -> None:
        self.size = -(-size // HUGE_BYTES) * HUGE_BYTES
        self._memory = mmap.mmap(-1, self.size + HUGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
        start = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        self.address = -(-start // HUGE_BYTES) * HUGE_BYTES
        ctypes.memset(self.address, 0, self.size)

    def copy(self, size: int) -> bytes:
        """The first `size` bytes."""
        return ctypes.string_at(self.address, size)


def huge_bytes() -> int:
    """Bytes of this process that lie in huge pages."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages")), 0)
