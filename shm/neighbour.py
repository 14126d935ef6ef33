"""The neighbour: the process at the other end of a ring, which may sleep (`shm.doorbell`), and when it is rung.

An edge is this process's private record of such a ring, EDGE_WORDS long:

      0  address of the neighbour's bell      8  address of the ring
     16  1: this process writes the ring, 0: it reads it
     24  seen: this process's own cursor at its last look at the edge

`ring_if_moved`, once between two polls, rings by what the cursors say, whichever code moved them: a poll, one that then
asked for the cold side, or the cold side itself. A writer rings when its `tail` has moved: there are records. A reader
rings when its `head` has moved, for room, but only where the ring was half full at least: nobody may wait for more room
than half of a ring. (Ringing for every slot handed back woke the neighbour upstream for nothing at each record: 1.8
instead of 1.1 times a bare futex wake a hop.)

Order. For records it is the doorbell's: the store of `tail`, the fence in `ring`, the load of the door. For room one
more word is looked at. A writer that sleeps for room has announced its sleep, and in its second look has found too few
free slots, by some `head` h; so of its ring's C slots more than C/2 were unread: its `tail` t is above h + C/2. Take
the reader's first look at which `head` is beyond h. At the look before it was not, so seen <= h. Between its store of
that `head` and the load of `tail` stands a full fence, and it comes after the announcement's: otherwise the writer's
second look would have found that `head`, and not h. So `tail` reads as t or more, t - seen is above C/2, and the bell
is rung; and for the same reason the door reads as announced. Where the room is still too little, the writer announces
its next sleep, and all of this holds for that one. (Who waited for more could sleep over the last of the room: once
less than half is unread, nobody rings. tests/shm/interleavings shows it, and walks all the rest.)

An edge starts with nothing seen, so that whoever starts rings at its first look: a predecessor may have been killed
between its store of the cursor and the post; and the neighbour looks at the epoch of this end when it is awake.
"""

from typing import NamedTuple

from shm import doorbell, ring
from shm.atomics import fence_seq_cst, load_acquire, load_word, store_word
from shm.kernel import primitive

BELL = 0
RING = 8
IS_WRITER = 16
SEEN = 24
EDGE_WORDS = 4

NOTHING_SEEN = -(1 << 60)
"""So far below any cursor that even an empty ring counts as half full."""


class Edge(NamedTuple):
    """Addresses of the neighbour's bell and of the ring, and which end of it this process holds."""

    bell: int
    ring: int
    is_writer: bool

    def words(self) -> list[int]:
        """The record, nothing seen yet."""
        return [self.bell, self.ring, int(self.is_writer), NOTHING_SEEN]


@primitive
def ring_if_moved(edge: int) -> None:
    """Ring if this process has moved its cursor since the last look in a way that the neighbour may wait for."""
    base = load_word(edge + RING)
    seen = load_word(edge + SEEN)
    is_writer = load_word(edge + IS_WRITER) != 0
    cursor = load_word(base + ring.TAIL) if is_writer else load_word(base + ring.HEAD)
    if cursor == seen:
        return
    store_word(edge + SEEN, cursor)
    if not is_writer:
        fence_seq_cst()
        if 2 * (load_acquire(base + ring.TAIL) - seen) < load_word(base + ring.CAPACITY):
            return
    doorbell.ring(load_word(edge + BELL))
