"""The supervisor's memory, as forks like it: nothing to collect, and in huge pages.

A fork copies the page table of all that a compiler leaves in memory, some 30,000 entries, and the end of a process
takes each of them back before the supervisor hears of it: 10 ms each, more where the core is shared, and the second is
part of every restart. With huge pages there are few entries: both cost a third to a half less.
"""

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path

from shm.huge_pages import HUGE_PAGE_BYTES, collapse, whole_pages

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PAGEMAP = Path("/proc/self/pagemap")


def freeze_garbage() -> None:
    """Before each fork: garbage with descriptors must not be collected in a child, where the numbers mean other files.

    What survives is frozen: a collection of all that a compiler leaves takes a quarter of a second, and would copy its
    pages.
    """
    gc.collect()
    gc.freeze()


def use_huge_pages() -> int:
    """Move this process's private memory to huge pages, once all is loaded; returns how many.

    Only where most of the 4 KiB pages exist already: memory that nobody has touched is not to be taken. Kernels before
    6.1 cannot, and refuse; others refuse single ones. An interpreter with capabilities of its file's may not look.
    """
    moved = 0
    with contextlib.suppress(OSError), PAGEMAP.open("rb", buffering=0) as pagemap:
        for address in _candidates():
            entries = os.pread(pagemap.fileno(), HUGE_PAGE_BYTES // PAGE_BYTES * 8, address // PAGE_BYTES * 8)
            present = sum(byte >> 7 for byte in entries[7::8])  # the highest bit of each 8-byte entry
            if 2 * present * PAGE_BYTES >= HUGE_PAGE_BYTES:
                moved += collapse(address)
    return moved


def _candidates() -> Iterator[int]:
    """Addresses of whole huge pages within the mappings that `malloc` and Python's own allocator take."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        extent, permissions, _, _, _, *name = line.split(None, 5)
        if permissions == "rw-p" and (not name or name[0].startswith(("[heap]", "[anon"))):
            low, high = (int(bound, 16) for bound in extent.split("-"))
            yield from whole_pages(low, high - low)
