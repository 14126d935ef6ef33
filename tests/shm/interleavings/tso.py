"""x86-TSO: each side has a first-in first-out store buffer, which drains into one memory at any later moment.

Loads see the side's own newest buffered store, else memory. Locked instructions (the full fence, semaphores) wait for
an empty buffer. Acquire and release order nothing further here: the hardware keeps all other pairs in order. (What the
compiler may reorder is the weak model's matter.)

A killed process's retired stores are in its core's buffer, and drain: the hardware knows nothing of processes. That is
what happens here, at any later moment, but before its successor starts. A lost rest of a buffer would add nothing:
to everybody else it looks like a death some stores earlier, which is explored as well.
"""

from typing import Any

from tests.shm.interleavings.operations import WrongError
from tests.shm.interleavings.places import Places
from tests.shm.interleavings.source import Event

Buffer = tuple[tuple[int, int], ...]
Memory = tuple[tuple[int, ...], tuple[Buffer, ...]]
"""(the words, each side's buffer of (place, value), oldest first)"""

LOADS = {"load_acquire", "load_relaxed", "load_word", "peek"}
STORES = {"store_release", "store_relaxed", "store_word", "poke"}


class Tso:
    """The model over the words of `places`."""

    def __init__(self, places: Places, sides: int) -> None:
        self._places, self._sides = places, sides

    def start(self) -> Memory:
        return tuple(self._places.values), ((),) * self._sides

    def is_local(self, side: int, event: Event) -> bool:
        """Whether the step commutes with everything that other sides can do before it."""
        name = event[0]
        if name in STORES or name in ("fence_acquire", "fence_release"):
            return True
        return name in LOADS and self._places.is_own(self._places.find(event[1], side, writes=False), side)

    def step(self, memory: Memory, side: int, event: Event) -> list[tuple[int, Memory]]:
        """Every (value returned, memory after) that the access may lead to; none when it has to wait."""
        values, buffers = memory
        name, places = event[0], self._places
        if name in LOADS:
            place = places.find(event[1], side, writes=False)
            buffered = [value for at, value in buffers[side] if at == place]
            return [(buffered[-1] if buffered else values[place], memory)]
        if name in STORES:
            place = places.find(event[1], side, writes=True)
            if places.is_exclusive(place):
                return [(0, (_replaced(values, place, event[2]), buffers))]
            return [(0, (values, _replaced(buffers, side, (*buffers[side], (place, event[2])))))]
        if name in ("fence_acquire", "fence_release"):
            return [(0, memory)]
        if buffers[side]:
            return []
        if name == "fence_seq_cst":
            return [(0, memory)]
        place = places.find(event[1], side, writes=True)
        if name == "sem_post":
            return [(0, (_replaced(values, place, values[place] + 1), buffers))]
        if name in ("sem_clockwait", "sem_trywait"):
            if values[place] > 0:
                return [(0, (_replaced(values, place, values[place] - 1), buffers))]
            return [] if name == "sem_clockwait" else [(-1, memory)]
        raise WrongError(f"the checker does not know {name}")

    def hidden_steps(self, memory: Memory) -> list[tuple[str, Memory]]:
        """What memory may do by itself: one side's oldest store becomes visible."""
        values, buffers = memory
        return [
            (f"a store of side {side} drains", (_replaced(values, *buffer[0]), _replaced(buffers, side, buffer[1:])))
            for side, buffer in enumerate(buffers)
            if buffer
        ]  # fmt: skip

    def restarted(self, memory: Memory, side: int) -> Memory | None:
        """Memory as the successor of a killed process finds it; None as long as it cannot start."""
        return None if memory[1][side] else memory


def _replaced(items: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*items[:at], value, *items[at + 1 :])
