"""Which process runs on which core, and why: a pure function of the topology and of what the configuration pins.

One core does the housekeeping (supervisor, venue, observers, helper threads), and no stage runs there where there are
two or more: one busy neighbour turns 29 µs into 3.7 ms. The pollers get distinct physical cores behind one L3 (and so
on one NUMA node), isolated ones first, their SMT siblings left empty, core 0 avoided: interrupts and unbound kernel
work prefer it. Where no L3 has enough free physical cores, the search widens to the node, the socket, the machine; then
it takes the siblings; and where even those are too few, the pollers that are left share one core.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from launch.host.cpu_lists import cpu_list
from launch.host.topology import Topology
from launch.placement.pins import check_pins

Idle = Literal["auto", "spin", "yield", "backoff", "doorbell"]


@dataclass(frozen=True)
class Core:
    """Where one polling process runs."""

    cpu: int
    alone: bool
    """Nothing else of ours runs on this core: it may spin, and may have SCHED_FIFO."""
    idle: str
    """spin, yield, backoff or doorbell, concluded."""
    why: str = ""
    """Why here."""


@dataclass(frozen=True)
class CoreMap:
    """The housekeeping core, and each poller's."""

    housekeeping: int
    pollers: Mapping[str, Core]
    topology: Topology
    housekeeping_why: str = ""


@dataclass(frozen=True)
class _Choice:
    """Free cores, best first, and how far apart they had to be taken."""

    cores: Sequence[int]
    apart: str = ""
    """Why not behind one L3; empty when they are."""


def place(
    pollers: Sequence[str],
    topology: Topology,
    idle: Idle = "auto",
    *,
    pins: Mapping[str, int] | None = None,
    housekeeping: int | None = None,
    own_first: Sequence[str] = (),
) -> CoreMap:
    """Cores for `pollers`, named in the order of the data flow, so that neighbours stay near each other.

    `own_first` is the order in which they get a core of their own when there are too few; `pins` and `housekeeping` are
    what the configuration demands. Raises PlacementError for what contradicts itself or the machine.
    """
    pins = dict(pins or {})
    check_pins(pollers, topology, pins, housekeeping)
    house, house_why = _housekeeping(topology, pins, housekeeping)
    free = [name for name in (own_first or pollers) if name not in pins]
    room = topology.core_limit - 1 - len(set(pins.values()))
    choice = _choose(topology, house, frozenset(pins.values()), min(len(free), room)) if room > 0 else _Choice(())
    cpus = dict(pins)
    if not choice.cores:
        cpus |= dict.fromkeys(free, house)  # one core only: check_pins refuses every other way to come here
    elif len(choice.cores) >= len(free):
        # By the flow where they are apart: then a message crosses from one group of cores to another once, or twice.
        order = [name for name in pollers if name in free] if choice.apart else free
        cpus |= dict(zip(order, choice.cores, strict=False))
    else:
        own = len(choice.cores) - 1
        cpus |= {name: choice.cores[min(index, own)] for index, name in enumerate(free)}
    return _explained(pollers, cpus, CoreMap(house, {}, topology, house_why), idle, pins, choice.apart)


def _housekeeping(topology: Topology, pins: Mapping[str, int], wanted: int | None) -> tuple[int, str]:
    if wanted is not None:
        return wanted, "pinned by launch.housekeeping_core"
    if topology.core_limit == 1:
        return next(iter(pins.values()), topology.usable[0]), "the only core"
    free = [core for core in topology.usable if core not in pins.values()]
    plain = [core for core in free if core not in topology.isolated]
    return (plain or free)[0], "the first usable core that is not isolated" if plain else "the first usable core"


# -- the choice ----------------------------------------------------------------------------------------------------


def _choose(topology: Topology, house: int, pinned: frozenset[int], count: int) -> _Choice:
    """At most `core_limit` - 1 - pinned cores, `count` of them wanted with a physical core of their own."""
    limit = topology.core_limit - 1 - len(pinned)
    busy = pinned | {house}
    candidates = [core for core in topology.usable if core not in busy and core != 0]
    scopes: tuple[tuple[str, Callable[[int], object]], ...] = (
        ("L3", lambda core: min(topology.l3_of(core))),
        ("NUMA node", lambda core: topology.nodes.get(core, 0)),
        ("socket", lambda core: topology.sockets.get(core, 0)),
        ("machine", lambda core: 0),
    )
    for depth, (_, key) in enumerate(scopes):
        groups = [_physical(topology, busy, group)[0] for group in _grouped(candidates, key)]
        roomy = [group for group in groups if len(group) >= count]
        if roomy:
            best = max(roomy, key=lambda group: _score(topology, house, pinned, group, count))
            tight = scopes[depth - 1][0]
            apart = f"no {tight} has {count} free physical cores" if depth else ""
            return _Choice(_by_l3(topology, house, pinned, best, count)[:limit], apart)
    first, second = _physical(topology, busy, candidates)
    # A sibling that spins is a steady neighbour; the housekeeping core's comes and goes.
    second.sort(key=lambda core: house in topology.siblings_of(core))
    last = [0] if 0 in topology.usable and 0 not in busy else []
    ranked = [*_by_l3(topology, house, pinned, first, count), *second, *last]
    return _Choice(ranked[:limit], f"the machine has {len(first)} free physical cores for {count}")


def _grouped(cores: Iterable[int], key: Callable[[int], object]) -> list[list[int]]:
    groups: dict[object, list[int]] = {}
    for core in cores:
        groups.setdefault(key(core), []).append(core)
    return list(groups.values())


def _physical(topology: Topology, busy: frozenset[int], cores: Iterable[int]) -> tuple[list[int], list[int]]:
    """(one thread of each physical core that is free, the other threads), isolated ones first."""
    taken = {thread for core in busy for thread in topology.siblings_of(core)}
    first: list[int] = []
    second: list[int] = []
    for core in sorted(cores, key=lambda core: (core not in topology.isolated, core not in topology.nohz_full, core)):
        (second if core in taken else first).append(core)
        taken |= topology.siblings_of(core)
    return first, second


def _score(
    topology: Topology, house: int, pinned: frozenset[int], group: Sequence[int], count: int
) -> tuple[int, int, int, int, bool, bool, int]:
    """Compared from left to right: near what is pinned, isolated, tickless, roomy, near devices, in a quiet L3."""
    picked = group[:count]
    domain = topology.l3_of(group[0])
    return (
        len(pinned & domain),
        sum(core in topology.isolated for core in picked),
        sum(core in topology.nohz_full for core in picked),
        len(picked),
        topology.nodes.get(group[0], 0) == topology.nodes.get(house, 0),
        house not in domain,
        -min(group),
    )


def _by_l3(topology: Topology, house: int, pinned: frozenset[int], cores: Sequence[int], count: int) -> list[int]:
    """The same cores, L3 by L3, the best of them first."""
    groups = _grouped(cores, lambda core: min(topology.l3_of(core)))
    groups.sort(key=lambda group: _score(topology, house, pinned, group, count), reverse=True)
    return [core for group in groups for core in group]


# -- the reasons ---------------------------------------------------------------------------------------------------


def _explained(
    pollers: Sequence[str], cpus: Mapping[str, int], bare: CoreMap, idle: Idle, pins: Mapping[str, int], apart: str
) -> CoreMap:
    cores = {}
    for name in pollers:
        cpu = cpus[name]
        others = [other for other in pollers if other != name and cpus[other] == cpu]
        alone = not others and cpu != bare.housekeeping
        placed = [f"pinned by launch.cores.{name}"] if name in pins else []
        if alone:
            placed += _own_core_words(cpu, cpus, bare)
            if len(pollers) > 1:
                placed.append(_nearness_words(name, cpus, bare.topology, apart))
        else:
            placed.append(_shared_words(others, cpu, len(pollers), bare))
        cores[name] = Core(cpu, alone, _idle(idle, alone), "; ".join(placed))
    return CoreMap(bare.housekeeping, cores, bare.topology, bare.housekeeping_why)


def _own_core_words(cpu: int, cpus: Mapping[str, int], bare: CoreMap) -> list[str]:
    topology = bare.topology
    siblings = topology.siblings_of(cpu) - {cpu}
    busy = [name for name, other in cpus.items() if other in siblings]
    if bare.housekeeping in siblings:
        busy.append("the housekeeping")
    if busy:
        words = [f"own hardware thread; its SMT sibling runs {', '.join(busy)}"]
    else:
        words = ["own physical core" + (f", SMT sibling {cpu_list(siblings)} left empty" if siblings else "")]
    kinds = (("isolated", topology.isolated), ("nohz_full", topology.nohz_full))
    marks = [word for word, cores in kinds if cpu in cores]
    return [*words, ", ".join(marks) or "not isolated"]


def _nearness_words(name: str, cpus: Mapping[str, int], topology: Topology, apart: str) -> str:
    domain = topology.l3_of(cpus[name])
    outside = [other for other, cpu in cpus.items() if cpu not in domain]
    if not outside:
        return f"one L3 with all others (cores {cpu_list(domain)})"
    return f"L3 of cores {cpu_list(domain)}, apart from {', '.join(outside)}" + (f": {apart}" if apart else "")


def _shared_words(others: Sequence[str], cpu: int, pollers: int, bare: CoreMap) -> str:
    topology = bare.topology
    with_house = ["the housekeeping"] if cpu == bare.housekeeping else []
    quota = f" (CPU quota {topology.quota_cores:g})" if topology.core_limit < len(topology.usable) else ""
    return (
        f"shares core {cpu} with {', '.join([*others, *with_house])}: {topology.core_limit} usable "
        f"core{'s' if topology.core_limit > 1 else ''}{quota} for housekeeping and {pollers} polling "
        f"process{'es' if pollers > 1 else ''}"
    )


def _idle(wanted: Idle, alone: bool) -> str:
    if wanted == "auto":
        return "spin" if alone else "yield"
    # Spinning on a shared core would keep the others off it for whole time slices.
    return "yield" if wanted == "spin" and not alone else wanted
