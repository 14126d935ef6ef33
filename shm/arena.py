"""Message arena: variable-length pieces of one block of shared memory, given out in order and taken back all at once.

Byte picture (offsets from the arena's base address, which is a multiple of 128):

      0  capacity_bytes                          written once at creation
    128  used_bytes, resets, overflows           the owner's line
    256  capacity_bytes of memory

One process, the owner, allocates and resets. A piece is a range of bytes that nobody else was given since the last
reset; it is named to other processes by its offset (`offset_of`), because each maps the arena elsewhere, together with
the number of resets: a reader copies the bytes and then asks whether the piece still `stands`. What does not fit is
refused and counted; nothing that was given out moves or changes.

Order. The ring that carries a piece's offset makes its bytes visible, nothing here does. A reset stores the new number
relaxed, before a release fence, before any byte of a later piece; a reader's `stands` is an acquire fence and a relaxed
load of that number: had a byte that it copied come from a later piece, it would see the new number.

An allocation happens by the one store of `used_bytes`. An owner killed before it has taken nothing; killed after it, it
has taken a piece that nobody knows, until the next reset: lost room, never lost data. Killed within a reset, between
`resets` and `used_bytes`: all pieces have ceased to stand, and their room comes back with its successor's next reset.
A counted overflow may be missing. There is nothing to recover, and nobody waits.
"""

from typing import Any

import numpy as np

from shm.atomics import fence_acquire, fence_release, load_relaxed, load_word, peek, poke, store_relaxed, store_word
from shm.kernel import kernel, primitive
from shm.layout import bytes_at

CAPACITY_BYTES = 0
USED_BYTES = 128
RESETS = 136
OVERFLOWS = 144
MEMORY = 256

NONE = 0


def arena_bytes(capacity_bytes: int) -> int:
    """Bytes of an arena for `capacity_bytes` of pieces. Raises ValueError when that is not positive."""
    if capacity_bytes < 1:
        raise ValueError(f"arena capacity_bytes={capacity_bytes} must be positive")
    return MEMORY + capacity_bytes


def format_arena(base: int, capacity_bytes: int) -> None:
    """Write the header of a fresh, zeroed arena at `base`."""
    arena_bytes(capacity_bytes)
    poke(base + CAPACITY_BYTES, capacity_bytes)


@primitive
def allocate(base: int, size: int, alignment: int) -> int:
    """Owner: the address of `size` bytes on a multiple of `alignment`, a power of two <= 128; NONE if they do not fit.

    A negative size, or an alignment that is none, fits never. The bytes are what they were: nothing is cleared.
    """
    used = load_word(base + USED_BYTES)
    is_alignment = 0 < alignment <= 128 and alignment & (alignment - 1) == 0
    start = (used + alignment - 1) & -alignment
    if not is_alignment or size < 0 or size > load_word(base + CAPACITY_BYTES) - start:
        store_word(base + OVERFLOWS, load_word(base + OVERFLOWS) + 1)
        return NONE
    store_word(base + USED_BYTES, start + size)
    return base + MEMORY + start


@primitive
def offset_of(base: int, address: int) -> int:
    """How to name a piece to a process that maps the arena elsewhere."""
    return address - base


@primitive
def address_of(base: int, offset: int) -> int:
    """Where the piece of an offset stands in the mapping of `base`."""
    return base + offset


@primitive
def reset(base: int) -> None:
    """Owner: take everything back."""
    store_relaxed(base + RESETS, load_word(base + RESETS) + 1)
    fence_release()  # no byte of a later piece is visible before the new number
    store_word(base + USED_BYTES, 0)


@primitive
def stands(base: int, resets: int) -> bool:
    """Whether what was read of a piece until now was that piece: the arena was not reset since `resets` was noted."""
    fence_acquire()
    return load_relaxed(base + RESETS) == resets


@kernel
def _allocate(base: int, size: int, alignment: int) -> int:
    return allocate(base, size, alignment)


@kernel
def _reset(base: int) -> None:
    reset(base)


@kernel
def _stands(base: int, resets: int) -> bool:
    return stands(base, resets)


class Arena:
    """An arena for ordinary Python, over the same bytes; the mapping of `base` must outlive it and its views."""

    def __init__(self, base: int) -> None:
        self._base = base
        self.capacity_bytes = peek(base + CAPACITY_BYTES)

    @property
    def used_bytes(self) -> int:
        """Bytes given out since the last reset, gaps for alignment included."""
        return peek(self._base + USED_BYTES)

    @property
    def resets(self) -> int:
        """How often everything was taken back."""
        return peek(self._base + RESETS)

    @property
    def overflows(self) -> int:
        """Requests that did not fit."""
        return peek(self._base + OVERFLOWS)

    def allocate(self, size: int, alignment: int = 8) -> tuple[int, np.ndarray[Any, Any]] | None:
        """(offset, the bytes themselves) of a piece; None when it does not fit."""
        address = int(_allocate(self._base, size, alignment))
        return (address - self._base, self.view(address - self._base, size)) if address != NONE else None

    def view(self, offset: int, size: int) -> np.ndarray[Any, Any]:
        """`size` bytes at `offset`. Raises IndexError when they are not all within the arena's memory."""
        if offset < MEMORY or size < 0 or offset + size > MEMORY + self.capacity_bytes:
            raise IndexError(f"{size} bytes at offset {offset} of an arena of {self.capacity_bytes} bytes")
        return np.ndarray((size,), np.uint8, bytes_at(self._base + offset, size))

    def stands(self, resets: int) -> bool:
        """Whether no reset came since `resets` was noted: what was copied by now was what it was meant to be."""
        return bool(_stands(self._base, resets))

    def reset(self) -> None:
        """Take everything back."""
        _reset(self._base)
