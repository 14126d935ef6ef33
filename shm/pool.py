"""Object pool: a fixed number of objects in shared memory, taken and given back in constant time by one process.

Byte picture (offsets from the pool's base address, which is a multiple of 128):

      0  capacity, object_bytes                     written once at creation
    128  free_count, refused                        the owner's line
    256  one word per object: its generation        odd while it is held
     ..  one word per free object: its index        a stack; the newest is taken next, its lines are still cached
     ..  the objects, each on a multiple of 64

One process, the owner, takes and gives back; it may pass handles on, through a ring, to processes that read or fill the
objects and pass them back. A handle is an object's index and its generation at that time; both taking and giving back
raise the generation. So a handle that was given back already, or is of another pool or a made-up one, is refused and
counted, and never frees what somebody else holds meanwhile. A handle is never 0 nor negative. Generations begin anew
after 2**39: a handle kept while its object was taken 2**38 times more would be taken for the newest.

Which objects are held is said by the generations alone; the stack only makes finding a free one quick. Each operation
changes one generation, with one store, and that is the moment it happens. An owner killed before or after it leaves a
stack that disagrees by that one object: a restarted owner calls `recover` first, which writes the stack anew. Then each
object is either held or free, none both or neither. What is held stays held: `handle_of` says its handle. Content is
never touched here; what a dead owner held is not lost, and not freed by itself. A refusal may be missing in `refused`.

Nothing is ordered for other processes here: the ring that carries a handle does that.
"""

from typing import Any

import numpy as np

from shm.atomics import load_word, peek, poke, store_word
from shm.kernel import kernel, primitive
from shm.layout import align_up, bytes_at

CAPACITY = 0
OBJECT_BYTES = 8
FREE_COUNT = 128
REFUSED = 136
GENERATIONS = 256

INDEX_BITS = 24
CAPACITY_MAX = 1 << INDEX_BITS
_INDEX_MASK = CAPACITY_MAX - 1
_GENERATION_MASK = (1 << 63 - INDEX_BITS) - 1
NO_HANDLE = 0


def pool_bytes(capacity: int, object_bytes: int) -> int:
    """Bytes of a pool of `capacity` objects. Raises ValueError for sizes the pool cannot have."""
    if not 1 <= capacity <= CAPACITY_MAX:
        raise ValueError(f"pool capacity={capacity} must be 1 to {CAPACITY_MAX}")
    if object_bytes < 1:
        raise ValueError(f"pool object_bytes={object_bytes} must be positive")
    return align_up(GENERATIONS + 16 * capacity, 64) + capacity * align_up(object_bytes, 64)


def format_pool(base: int, capacity: int, object_bytes: int) -> None:
    """Write the header of a fresh, zeroed pool at `base`; all objects are free."""
    pool_bytes(capacity, object_bytes)
    poke(base + CAPACITY, capacity)
    poke(base + OBJECT_BYTES, align_up(object_bytes, 64))
    _recover(base)


@primitive
def _stack(base: int) -> int:
    return base + GENERATIONS + 8 * load_word(base + CAPACITY)


@primitive
def acquire(base: int) -> int:
    """Owner: the handle of a free object, now held; NO_HANDLE when none is free."""
    free = load_word(base + FREE_COUNT)
    if free == 0:
        return NO_HANDLE
    index = load_word(_stack(base) + 8 * (free - 1))
    generation = (load_word(base + GENERATIONS + 8 * index) + 1) & _GENERATION_MASK
    store_word(base + GENERATIONS + 8 * index, generation)
    store_word(base + FREE_COUNT, free - 1)
    return generation << INDEX_BITS | index


@primitive
def is_held(base: int, handle: int) -> bool:
    """Whether `handle` is of an object that is held, by this very handle."""
    index = handle & _INDEX_MASK
    generation = handle >> INDEX_BITS
    if index >= load_word(base + CAPACITY) or generation & 1 == 0:
        return False
    return load_word(base + GENERATIONS + 8 * index) == generation


@primitive
def release(base: int, handle: int) -> bool:
    """Owner: give an object back. False, and counted in `refused`, when `handle` does not hold one."""
    if not is_held(base, handle):
        store_word(base + REFUSED, load_word(base + REFUSED) + 1)
        return False
    index = handle & _INDEX_MASK
    free = load_word(base + FREE_COUNT)
    store_word(base + GENERATIONS + 8 * index, ((handle >> INDEX_BITS) + 1) & _GENERATION_MASK)
    store_word(_stack(base) + 8 * free, index)
    store_word(base + FREE_COUNT, free + 1)
    return True


@primitive
def object_address(base: int, handle: int) -> int:
    """Where the object of a handle stands, in the mapping of `base`; any process. The handle is not looked at."""
    capacity = load_word(base + CAPACITY)
    objects = base + (GENERATIONS + 16 * capacity + 63 & -64)
    return objects + (handle & _INDEX_MASK) * load_word(base + OBJECT_BYTES)


@primitive
def handle_of(base: int, index: int) -> int:
    """The handle that holds the object `index` < capacity, NO_HANDLE when it is free."""
    generation = load_word(base + GENERATIONS + 8 * index)
    return generation << INDEX_BITS | index if generation & 1 else NO_HANDLE


@primitive
def recover(base: int) -> int:
    """A restarted owner, before anything else: write the stack of free objects anew. Returns how many are held."""
    capacity = load_word(base + CAPACITY)
    free = 0
    for at in range(capacity):
        index = capacity - 1 - at
        if load_word(base + GENERATIONS + 8 * index) & 1 == 0:
            store_word(_stack(base) + 8 * free, index)
            free += 1
    store_word(base + FREE_COUNT, free)
    return capacity - free


@kernel
def _acquire(base: int) -> int:
    return acquire(base)


@kernel
def _release(base: int, handle: int) -> bool:
    return release(base, handle)


@kernel
def _is_held(base: int, handle: int) -> bool:
    return is_held(base, handle)


@kernel
def _object_address(base: int, handle: int) -> int:
    return object_address(base, handle)


@kernel
def _handle_of(base: int, index: int) -> int:
    return handle_of(base, index)


@kernel
def _recover(base: int) -> int:
    return recover(base)


class Pool:
    """A pool for ordinary Python, over the same bytes. The mapping of `base` must outlive the object and its views."""

    def __init__(self, base: int, dtype: np.dtype[Any]) -> None:
        """The pool at address `base`. Raises ValueError when its objects have another size."""
        if peek(base + OBJECT_BYTES) != align_up(dtype.itemsize, 64):
            raise ValueError(f"pool of object_bytes={peek(base + OBJECT_BYTES)}, not of {dtype.itemsize} ({dtype})")
        self._base, self._dtype = base, dtype
        self.capacity = peek(base + CAPACITY)

    @property
    def free(self) -> int:
        """Objects that can be taken."""
        return peek(self._base + FREE_COUNT)

    @property
    def refused(self) -> int:
        """Handles given back that held nothing."""
        return peek(self._base + REFUSED)

    def acquire(self) -> int | None:
        """A handle of an object, None when all are held."""
        return int(_acquire(self._base)) or None

    def release(self, handle: int) -> bool:
        """Give an object back; False when the handle holds none."""
        return -(2**63) <= handle < 2**63 and bool(_release(self._base, handle))

    def view(self, handle: int) -> np.ndarray[Any, Any]:
        """The object of a handle itself, a 1-element array. Raises KeyError when the handle holds none."""
        if not (-(2**63) <= handle < 2**63 and _is_held(self._base, handle)):
            raise KeyError(handle)
        address = int(_object_address(self._base, handle))
        return np.frombuffer(bytes_at(address, self._dtype.itemsize), self._dtype)

    def held(self) -> list[int]:
        """The handles of all objects that are held."""
        handles = (int(_handle_of(self._base, index)) for index in range(self.capacity))
        return [handle for handle in handles if handle != NO_HANDLE]

    def recover(self) -> int:
        """After the owner died, by its successor: see the module. Returns how many objects are held."""
        return int(_recover(self._base))
