"""An agent's private memory, faulted in before its first poll.

Fresh memory has no pages until it is written to, and after a fork the first write to a page copies it: 10 to 20 us
each, paid by whichever order comes to a new page of a table first (1 in 100 risk checks). So every page of every array
an agent leads to is written once, to what it holds, when its process starts. The large ones come to lie in huge pages:
books at random in small ones cost a third more (bench/alternatives/small_pages.py).
"""

import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm import huge_pages

_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})


def fault_in(agent: object) -> int:
    """Write to each page of the arrays reachable from `agent`; returns their bytes. Shared segments are left alone."""
    total = 0
    for array in _arrays(agent):
        huge_pages.move(array.ctypes.data, array.nbytes)
        pages = array.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE]
        pages[:] = pages.copy()
        total += array.nbytes
    return total


def _arrays(root: object) -> Iterator[NDArray[Any]]:
    """Arrays that own their memory, from the attributes of our own objects, and from containers, each once.

    A restart waits for this: names of thousands of symbols are passed over a list at a time, not one by one (20 ms).
    """
    left, seen = [root], set[int]()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            if value.base is not None:
                left.append(value.base)
            elif value.flags.writeable and value.flags.c_contiguous and value.size and not value.dtype.hasobject:
                yield value
        elif isinstance(value, dict):
            left += _not_plain(value.values())
        elif isinstance(value, tuple | list | set | frozenset):
            left += _not_plain(value)
        elif type(value).__module__.startswith("stages."):
            left += _not_plain(vars(value).values())


def _not_plain(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if type(value) not in _PLAIN]
