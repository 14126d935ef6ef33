"""Private memory in huge pages: one entry of the TLB, and one fault, where there were 512."""

import ctypes

HUGE_PAGE_BYTES = 2 << 20
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def collapse(address: int) -> bool:
    """Make the huge page at `address`, a multiple of its size, one of what small pages hold there.

    False where the kernel does not: it cannot before 6.1, and needs memory in one piece.
    """
    return bool(_libc.madvise(address, HUGE_PAGE_BYTES, MADV_COLLAPSE) == 0)


def whole_pages(address: int, size: int) -> range:
    """Addresses of the huge pages that lie within `size` bytes."""
    first = -(-address // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    return range(first, address + size - HUGE_PAGE_BYTES + 1, HUGE_PAGE_BYTES)


def move(address: int, size: int) -> int:
    """Make the huge pages that lie within `size` bytes such; what they hold stays. Returns how many they are.

    One write gives a huge page where nothing was. Not so where something was: of a page that is shared with the parent
    since a fork, or before Linux 6.13 one that was read before it was written to, it copies 4 KiB. Those are collapsed,
    by one copy of the whole: a quarter of what it takes to write to each small page first, and to collapse them then.
    """
    pages = whole_pages(address, size)
    if not pages:
        return 0
    _libc.madvise(pages.start, len(pages) * HUGE_PAGE_BYTES, MADV_HUGEPAGE)  # refused by kernels without huge pages
    for page in pages:
        ctypes.memmove(page, page, 1)
    return sum(collapse(page) for page in pages)
