"""A weak memory: C11 by views (release-acquire with relaxed accesses and fences), for what ARM and compilers do.

Each word has all its values ever stored, in order. Each side has a view: for each word, the oldest value it may still
read. A load returns *any* value not older than that, so loads and stores become visible out of order unless something
orders them. A release store carries its side's view along, an acquire load that reads it takes that view over; a
release fence lends the view as it stood to the relaxed stores after it, an acquire fence takes over what relaxed loads
before it have met; sequentially consistent fences also meet in one common view. (Kang et al., "A promising semantics
for relaxed-memory concurrency", POPL 2017, without promises; Lahav et al., "Repairing sequential consistency in
C/C++11", PLDI 2017.)

Not covered by views is a load that is overtaken by a *later store* of its side. For plain accesses data races are
checked: a plain load while a store to its word is not ordered before it, or a store while another side's plain load is
not ordered before it, is an error (so a load that may sink below the store that hands a slot back is found). For
relaxed loads the shape itself is an error: a relaxed load of a foreign word, then a store that is not a release, with
no fence in between.

A successor starts with its killed predecessor's view, for the supervisor has reaped that one, and with nothing else.
"""

from typing import Any

from tests.shm.interleavings.operations import WrongError
from tests.shm.interleavings.places import Places
from tests.shm.interleavings.source import Event
from tests.shm.interleavings.tso import LOADS, STORES

PLAIN = {"load_word", "store_word"}

View = tuple[int, ...]
"""For each place the number of the oldest readable value; then, for each place and side, how many of that side's plain
loads are known."""
Side = tuple[View, View, View, bool]
"""(view, what an acquire fence would add, what a release fence lends, a relaxed load is unordered)"""
Memory = tuple[tuple[tuple[tuple[int, View | None], ...], ...], tuple[Side, ...], View, tuple[tuple[int, View], ...]]
"""(values of each place with the views they carry, sides, the common view of full fences, semaphores)"""


class Weak:
    """The model over the words of `places`; `races` says whether data races are errors, or only what they lead to."""

    def __init__(self, places: Places, sides: int, *, races: bool = True) -> None:
        self._places, self._sides, self._races = places, sides, races
        self._count = len(places.values)
        self._nothing: View = (0,) * (self._count * (1 + sides))

    def start(self) -> Memory:
        nothing = self._nothing
        side = (nothing, nothing, nothing, False)
        values = tuple(((value, None),) for value in self._places.values)
        return values, (side,) * self._sides, nothing, tuple((value, nothing) for value in self._places.values)

    def is_local(self, side: int, event: Event) -> bool:
        """Whether the step commutes with everything that other sides can do before it.

        A store does: it only adds to what others may read, and they may still read the older values.
        """
        name = event[0]
        if name in STORES or name in ("fence_acquire", "fence_release"):
            return True
        return name in LOADS and self._places.is_own(self._places.find(event[1], side, writes=False), side)

    def step(self, memory: Memory, side: int, event: Event) -> list[tuple[int, Memory]]:
        """Every (value returned, memory after) that the access may lead to; none when it has to wait."""
        name = event[0]
        if name in LOADS:
            return self._load(memory, side, name, event[1])
        if name in STORES:
            return [(0, self._store(memory, side, name, event[1], event[2]))]
        values, sides, common, semaphores = memory
        view, pending, lent, _ = sides[side]
        if name == "fence_acquire":
            return [(0, (values, _replaced(sides, side, (pending, pending, lent, False)), common, semaphores))]
        if name == "fence_release":
            return [(0, (values, _replaced(sides, side, (view, pending, view, False)), common, semaphores))]
        if name == "fence_seq_cst":
            view = _joined(pending, common)
            return [(0, (values, _replaced(sides, side, (view, view, view, False)), view, semaphores))]
        place = self._places.find(event[1], side, writes=True)
        count, carried = semaphores[place]
        if name == "sem_post":
            semaphore = (count + 1, _joined(carried, view))
            return [(0, (values, sides, common, _replaced(semaphores, place, semaphore)))]
        if name in ("sem_clockwait", "sem_trywait"):
            if count == 0:
                return [] if name == "sem_clockwait" else [(-1, memory)]
            new = (_joined(view, carried), _joined(pending, carried), lent, False)
            semaphores = _replaced(semaphores, place, (count - 1, carried))
            return [(0, (values, _replaced(sides, side, new), common, semaphores))]
        raise WrongError(f"the checker does not know {name}")

    def _load(self, memory: Memory, side: int, name: str, address: int) -> list[tuple[int, Memory]]:
        values, sides, common, semaphores = memory
        place = self._places.find(address, side, writes=False)
        view, pending, lent, unordered = sides[side]
        stored = values[place]
        foreign = self._places.is_foreign(place, side)
        if self._races and name in PLAIN and foreign:
            if view[place] < len(stored) - 1:
                raise WrongError(f"data race: {self._places.name(address)} is loaded, a store to it not ordered before")
            reads = self._count + place * self._sides + side
            view, pending = _raised(view, reads, view[reads] + 1), _raised(pending, reads, view[reads] + 1)
        if self._races and name == "load_relaxed" and foreign:
            unordered = True
        outcomes = []
        for number in range(view[place], len(stored)):
            value, carried = stored[number]
            new_view, new_pending = _raised(view, place, number), _raised(pending, place, number)
            if carried is not None:
                new_pending = _joined(new_pending, carried)
                if name == "load_acquire":
                    new_view = _joined(new_view, carried)
            new = (new_view, new_pending, lent, unordered)
            outcomes.append((value, (values, _replaced(sides, side, new), common, semaphores)))
        return outcomes

    def _store(self, memory: Memory, side: int, name: str, address: int, value: int) -> Memory:
        values, sides, common, semaphores = memory
        place = self._places.find(address, side, writes=True)
        view, pending, lent, unordered = sides[side]
        if self._places.is_exclusive(place):
            return _replaced(values, place, ((value, None),)), sides, common, semaphores
        number = len(values[place])
        if view[place] < number - 1:
            raise WrongError(f"two writers: {self._places.name(address)} is stored over a value not seen")
        if self._races and unordered and name != "store_release":
            raise WrongError(f"{self._places.name(address)}: this store may overtake a relaxed load before it")
        if self._races:
            self._check_readers(memory, side, place, address)
        view, pending = _raised(view, place, number), _raised(pending, place, number)
        carried = view if name == "store_release" else _raised(lent, place, number)
        values = _replaced(values, place, (*values[place], (value, carried)))
        return values, _replaced(sides, side, (view, pending, lent, unordered)), common, semaphores

    def _check_readers(self, memory: Memory, side: int, place: int, address: int) -> None:
        for other in range(self._sides):
            reads = self._count + place * self._sides + other
            if other != side and memory[1][other][0][reads] > memory[1][side][0][reads]:
                raise WrongError(f"data race: {self._places.name(address)} is stored, a load of it not ordered before")

    def hidden_steps(self, memory: Memory) -> list[tuple[str, Memory]]:
        """Nothing: what a load returns is chosen by the load."""
        return []

    def restarted(self, memory: Memory, side: int) -> Memory | None:
        """Memory as the successor of a killed process finds it."""
        values, sides, common, semaphores = memory
        view = sides[side][0]
        return values, _replaced(sides, side, (view, view, self._nothing, False)), common, semaphores


def _joined(one: View, other: View) -> View:
    return one if one is other else tuple(map(max, one, other))


def _raised(view: View, at: int, number: int) -> View:
    return view if view[at] == number else (*view[:at], number, *view[at + 1 :])


def _replaced(items: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*items[:at], value, *items[at + 1 :])
