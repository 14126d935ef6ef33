"""Unsigned big-endian integers at any address, each one load and one byte swap. An 8-byte value keeps its 64 bits."""

import numpy as np

from shm.atomics import byte_swap, load_u16_unaligned, load_u32_unaligned, load_unaligned
from shm.kernel import primitive

assert np.little_endian

_MASK_16, _MASK_32, _MASK_48 = (1 << 16) - 1, (1 << 32) - 1, (1 << 48) - 1


@primitive
def load_big_u16(at: int) -> int:
    """The 2 bytes at `at`."""
    return byte_swap(load_u16_unaligned(at)) >> 48 & _MASK_16


@primitive
def load_big_u32(at: int) -> int:
    """The 4 bytes at `at`."""
    return byte_swap(load_u32_unaligned(at)) >> 32 & _MASK_32


@primitive
def load_big_u48(at: int) -> int:
    """The 6 bytes at `at`; the 2 before them are read too."""
    return byte_swap(load_unaligned(at - 2)) & _MASK_48


@primitive
def load_big_u64(at: int) -> int:
    """The 8 bytes at `at`, as int64: 2**63 and above are negative."""
    return byte_swap(load_unaligned(at))
