"""Which process runs on which core: a pure function of the topology.

With two usable cores or more, the first one does the housekeeping (supervisor, venue, observers, helper threads) and no
stage ever runs there: one busy neighbour turns 29 µs into 3.7 ms. The others are for the pollers: one each while there
are enough, then those without a core of their own share one. With one core everything shares it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from launch.topology import Topology

Idle = Literal["auto", "spin", "yield", "backoff", "doorbell"]


@dataclass(frozen=True)
class Core:
    """Where one polling process runs."""

    cpu: int
    alone: bool
    """Nothing else of ours runs on this core: it may spin, and may have SCHED_FIFO."""
    idle: str
    """spin, yield, backoff or doorbell, concluded."""


@dataclass(frozen=True)
class CoreMap:
    """The housekeeping core, and each poller's."""

    housekeeping: int
    pollers: Mapping[str, Core]


def place(pollers: Sequence[str], topology: Topology, idle: Idle = "auto") -> CoreMap:
    """Cores for `pollers`, named in the order in which they are given a core of their own."""
    housekeeping, others = _split(topology)
    if not others:
        return CoreMap(housekeeping, {name: Core(housekeeping, False, _idle(idle, False)) for name in pollers})
    own = len(pollers) if len(others) >= len(pollers) else len(others) - 1
    cores = {}
    for index, name in enumerate(pollers):
        alone = index < own
        cores[name] = Core(others[index if alone else own], alone, _idle(idle, alone))
    return CoreMap(housekeeping, cores)


def _idle(wanted: Idle, alone: bool) -> str:
    if wanted == "auto":
        return "spin" if alone else "yield"
    # Spinning on a shared core would keep the others off it for whole time slices.
    return "yield" if wanted == "spin" and not alone else wanted


def _split(topology: Topology) -> tuple[int, list[int]]:
    """The housekeeping core, and the rest, best first: isolated, then one thread of each physical core."""
    usable = list(topology.usable)
    housekeeping = next((core for core in usable if core not in topology.isolated), usable[0])
    taken = set(topology.siblings.get(housekeeping, frozenset())) | {housekeeping}
    rest = [core for core in usable if core != housekeeping]
    rest.sort(key=lambda core: (core not in topology.isolated, core))
    first: list[int] = []
    second: list[int] = []  # the other thread of a physical core that is taken already
    for core in rest:
        (second if core in taken else first).append(core)
        taken |= topology.siblings.get(core, frozenset())
    return housekeeping, first + second
