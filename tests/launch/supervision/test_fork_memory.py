"""Memory in huge pages: the same memory, and no more of it."""

import mmap
import random
from pathlib import Path

import numpy as np
import pytest

from launch.supervision import fork_memory
from launch.supervision.fork_memory import use_huge_pages
from shm.huge_pages import HUGE_PAGE_BYTES

SIZE = 8 * HUGE_PAGE_BYTES


def private() -> mmap.mmap:
    return mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def resident_bytes(memory: mmap.mmap, what: str) -> int:
    """Of the mapping that holds `memory`, and of what the kernel has joined with it."""
    address = np.frombuffer(memory, np.uint8).ctypes.data
    is_inside, kilobytes = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            low, high = (int(bound, 16) for bound in first.split("-"))
            is_inside = low <= address < high
        elif is_inside and first == f"{what}:":
            kilobytes += int(rest[0])
    return 1024 * kilobytes


def test_memory_in_use_moves_to_huge_pages_and_holds_what_it_held() -> None:
    content = random.Random(1).randbytes(SIZE)
    memory = private()
    memory[:] = content
    if not use_huge_pages():
        pytest.skip("this kernel moves no memory to huge pages")
    assert memory[:] == content
    assert resident_bytes(memory, "AnonHugePages") >= SIZE // 2


def test_memory_that_nobody_has_touched_is_not_taken() -> None:
    use_huge_pages()  # what else there is, and may be joined with ours, has moved already
    memory = private()
    for page in range(0, SIZE, HUGE_PAGE_BYTES):
        memory[page] = 1
    before = resident_bytes(memory, "Rss")
    use_huge_pages()
    assert resident_bytes(memory, "Rss") <= before + HUGE_PAGE_BYTES


def test_memory_that_may_not_be_looked_at_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_memory, "PAGEMAP", Path("/nonexistent"))
    assert use_huge_pages() == 0
