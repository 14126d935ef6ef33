"""Two processes over one ring, of which one or both sleep: the reader for a record, the writer for room for several.

The ring has scenarios of its own: here its records stay empty. So its capacity need be no power of two, and 3 is the
least at which a reader may make room and not ring.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from shm import doorbell, neighbour, ring
from tests.shm.interleavings.operations import PRIVATE, Operation, Outcome
from tests.shm.interleavings.scenarios import BASE, CALLERS, names
from tests.shm.interleavings.search import Scenario

WRITER, READER = 0, 1
DOORS = (1 << 21, 1 << 23)
SEMAPHORES = (1 << 22, 1 << 24)
EDGE = PRIVATE + (1 << 22)
OWN_BELL = PRIVATE + (1 << 23)
OTHER_BELL = PRIVATE + (1 << 24)


@dataclass(frozen=True)
class End:
    """A process in its duty cycle. The state is (records moved so far or None: starts anew, seen, rung).

    A wait has no time-out here: a lost ring is a hang. A successor knows nothing of what its predecessor saw.
    """

    side: int
    total: int
    batch: int
    """Of the writer: how many it pushes at once. Of the reader: how many it pops at most."""
    sleeps: bool
    rings: bool
    start: Hashable = (None, 0, 0)
    restarts: bool = True

    @property
    def name(self) -> str:
        return ("writer", "reader")[self.side]

    def operation(self, state: Any) -> Operation | None:
        moved, seen, rung = state
        own, other = self.side, 1 - self.side
        words = (
            (OWN_BELL + doorbell.DOOR, DOORS[own]), (OWN_BELL + doorbell.SEMAPHORE, SEMAPHORES[own]),
            (OTHER_BELL + doorbell.DOOR, DOORS[other]), (OTHER_BELL + doorbell.SEMAPHORE, SEMAPHORES[other]),
            (OTHER_BELL + doorbell.RUNG, rung),
            (EDGE + neighbour.BELL, OTHER_BELL), (EDGE + neighbour.RING, BASE),
            (EDGE + neighbour.IS_WRITER, int(own == WRITER)), (EDGE + neighbour.SEEN, seen),
        )  # fmt: skip
        edge = EDGE if self.rings else 0
        if moved is None:
            return Operation(CALLERS, "begin", (BASE, edge), words)
        if moved == self.total:
            return None
        bell = OWN_BELL if self.sleeps else 0
        return Operation(CALLERS, ("fill", "empty")[own], (BASE, self.batch, edge, bell), words)

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        head, tail = outcome.result if state[0] is None else (0, 0)
        moved = (tail, head)[self.side] if state[0] is None else state[0] + outcome.result
        return moved, outcome.private[EDGE + neighbour.SEEN], outcome.private[OTHER_BELL + doorbell.RUNG]

    def restart(self, state: Any) -> Hashable:
        return None, 0, 0


def neighbour_scenario(
    capacity: int, total: int, *, sleepers: tuple[int, ...], wanted: int = 1, most: int = 1, ready: int = 0,
    kills: int = 0, victims: tuple[int, ...] = (WRITER, READER),
) -> Scenario:  # fmt: skip
    """`total` records through a ring of `capacity`, pushed `wanted` and popped up to `most` at once.

    `ready` of them are there before anybody starts.
    """
    address_name = names(BASE, header=0, tail=ring.TAIL, head=ring.HEAD)
    named = {DOORS[READER]: "reader's door", SEMAPHORES[READER]: "reader's semaphore"}
    who = " and ".join(("writer", "reader")[side] for side in sleepers)
    return Scenario(
        f"ring of {capacity}, {who} asleep, {total} records, {wanted} in, {most} out, {kills} of {victims} killed",
        (End(WRITER, total, wanted, WRITER in sleepers, READER in sleepers),
         End(READER, total, most, READER in sleepers, WRITER in sleepers)),
        lambda program: {BASE + ring.CAPACITY: capacity, BASE + ring.TAIL: ready},
        lambda address: named.get(address) or address_name(address), kills, victims=victims,
    )  # fmt: skip
