"""An agent's private memory, faulted in before its first poll.

Fresh memory has no pages until it is written to, and after a fork the first write to a page copies it: 10 to 20 us
each, paid by whichever order comes to a new page of a table first (1 in 100 risk checks). So every page of every array
an agent leads to is written once, to what it holds, when its process starts. The large ones come to lie in huge pages:
books at random in small ones cost a third more (bench/alternatives/small_pages.py).
"""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm import huge_pages


def fault_in(agent: object) -> int:
    """Write to each page of the arrays reachable from `agent`; returns their bytes. Shared segments are left alone."""
    total = 0
    for array in _arrays(agent, set()):
        huge_pages.move(array.ctypes.data, array.nbytes)
        pages = array.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE]
        pages[:] = pages.copy()
        total += array.nbytes
    return total


def _arrays(value: Any, seen: set[int]) -> Iterator[NDArray[Any]]:
    """Arrays that own their memory, from the attributes of our own objects, and from containers, each once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        if value.base is not None:
            yield from _arrays(value.base, seen)
        elif value.flags.writeable and value.flags.c_contiguous and value.size and not value.dtype.hasobject:
            yield value
    elif isinstance(value, dict):
        yield from _all(value.values(), seen)
    elif isinstance(value, tuple | list | set | frozenset):
        yield from _all(value, seen)
    elif type(value).__module__.startswith("stages."):
        yield from _all(vars(value).values(), seen)


def _all(values: Any, seen: set[int]) -> Iterator[NDArray[Any]]:
    for value in values:
        yield from _arrays(value, seen)
