"""Turns: processes that share a core and yield it to each other, each right behind the one whose records it reads.

A kernel lets processes that yield run in a circle, and keeps to the order that they happen to have. Where it is not the
line's, a record waits at each hop for all that come between: of five processes two and a half, half of a circle.
Yielding never changes the order, but a sleep does: whoever wakes is put in anew, somewhere. So each process stamps its
turns, and one that again and again has not run right behind its predecessor sleeps for a moment, and so draws another
place, until it has the right one. (EEVDF, Linux 6.6 and later: a yield moves the deadline by a slice, so that deadlines
keep their distances; a sleeper is put in by how far the others came meanwhile, so its moments are of unequal length.)

    turn     0  last_ns     when the process began its last cycle        one record for each process, its own segment

The process's private words, none where nobody shares its core:

     0  address of its own record         8  index of its predecessor among the others, -1: it is the first in line
    16  cycles out of place in a row     24  after how many it sleeps: PATIENCE more, after each that did not help
    32  addresses of the others' records

Nothing depends on the order but the time that records wait; a stamp that is old, or of a process that has died, costs a
sleep now and then.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_relaxed, load_word, store_relaxed, store_word
from shm.kernel import primitive
from shm.layout import WRITER_SEPARATION_BYTES, record_dtype
from shm.segment import record_layout

TURN = record_dtype([("last_ns", "<i8")], WRITER_SEPARATION_BYTES)
TURN_LAYOUT = record_layout(TURN)

OWN, PREDECESSOR, MISSES, MISSES_MAX, OTHERS = 0, 8, 16, 24, 32
PATIENCE, PATIENCE_MOST = 64, 16_384
"""Cycles: one millisecond, and a quarter of a second, where five processes take 3 µs each."""
SLEEP_NS_MAX = 0xFFFF
"""Some four circles."""

ALONE = np.zeros(0, np.int64)
"""The words of a process that shares its core with none."""


def words_of(own: int, others: Sequence[int], predecessor: int) -> NDArray[np.int64]:
    """The private words. `own`, `others`: addresses of records; `predecessor`: index among the others, or -1."""
    return np.array([own, predecessor, 0, PATIENCE, *others], np.int64)


@primitive
def stamp(words: int, now_ns: int) -> None:
    """A cycle has begun at `now_ns`."""
    store_relaxed(load_word(words + OWN), now_ns)


@primitive
def sleep_ns(words: int, others: int) -> int:
    """How long to sleep, to draw another place; 0: yield. Asked in each cycle that has found no work."""
    newest, last = 0, -1
    for index in range(others):
        at_ns = load_relaxed(load_word(words + OTHERS + 8 * index))
        if at_ns > newest:
            newest, last = at_ns, index
    predecessor = load_word(words + PREDECESSOR)
    if last == predecessor or predecessor < 0:
        store_word(words + MISSES, 0)
        store_word(words + MISSES_MAX, PATIENCE)
        return 0
    misses, most = load_word(words + MISSES) + 1, load_word(words + MISSES_MAX)
    store_word(words + MISSES, misses)
    if misses < most:
        return 0
    store_word(words + MISSES, 0)
    store_word(words + MISSES_MAX, min(most + PATIENCE, PATIENCE_MOST))
    return max(1, load_word(load_word(words + OWN)) & SLEEP_NS_MAX)
