"""Which process runs where and why: the rule of the design, on any machine and on real ones."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.errors import PlacementError
from launch.host.topology import Topology
from launch.placement.affinity import CoreMap, place
from pipeline.line.placement import CORE_ORDER, STAGES
from tests.launch.machines import CPUS, MACHINES, machine


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Machines with any cores usable, isolated, paired, in any L3 and node, under any quota."""
    cores = sorted(draw(st.sets(st.integers(0, 31), min_size=1)))
    wide, node = draw(st.sampled_from([2, 4, 8, 32])), draw(st.sampled_from([8, 16, 32]))
    paired = draw(st.booleans())
    return Topology(
        tuple(cores),
        frozenset(draw(st.sets(st.sampled_from(cores)))),
        {core: frozenset({core, core ^ 1}) for core in cores} if paired else {},
        draw(st.none() | st.floats(0.5, 40)),
        l3={core: frozenset(range(core // wide * wide, core // wide * wide + wide)) for core in cores},
        nodes={core: core // node for core in cores},
        sockets={core: core // 16 for core in cores},
    )


def used(cores: CoreMap) -> list[int]:
    return [core.cpu for core in cores.pollers.values()]


IDLES = ("auto", "spin", "yield", "backoff", "doorbell")


@given(topologies(), st.sampled_from([STAGES, ("line",)]), st.sampled_from(IDLES))
def test_placement_holds_on_any_machine(topology: Topology, pollers: tuple[str, ...], idle: str) -> None:
    cores = place(pollers, topology, idle)  # type: ignore[arg-type]
    spare = topology.core_limit - 1
    assert set(used(cores)) | {cores.housekeeping} <= set(topology.usable)
    assert len(set(used(cores)) | {cores.housekeeping}) <= topology.core_limit
    if spare:
        assert cores.housekeeping not in used(cores)
    for name, core in cores.pollers.items():
        alone = used(cores).count(core.cpu) == 1 and core.cpu != cores.housekeeping
        assert core.alone == alone, name
        assert core.alone or core.idle != "spin"
        assert core.why
        if idle == "auto":
            assert core.idle == ("spin" if alone else "yield")
    assert len({core.cpu for core in cores.pollers.values() if not core.alone}) <= 1
    assert sum(core.alone for core in cores.pollers.values()) == (
        len(pollers) if spare >= len(pollers) else max(0, spare - 1)
    )


@given(topologies())
def test_no_thread_of_a_physical_core_is_taken_twice_while_a_whole_one_is_free(topology: Topology) -> None:
    cores = place(STAGES, topology)
    taken = {*used(cores), cores.housekeeping}
    free = [
        core for core in topology.usable
        if core != 0 and not topology.siblings_of(core) & taken
    ]  # fmt: skip
    doubled = [cpu for cpu in set(used(cores)) if topology.siblings_of(cpu) & taken - {cpu}]
    assert not (free and doubled), (free, doubled)
    if 0 in used(cores):
        assert taken >= set(topology.usable) or topology.core_limit < 2


@given(topologies())
def test_one_l3_holds_all_stages_where_one_has_room(topology: Topology) -> None:
    cores = place(STAGES, topology)
    domains = {min(topology.l3_of(core)) for core in used(cores)}
    busy = topology.siblings_of(cores.housekeeping)

    def room(core: int) -> int:
        return len({
            min(topology.siblings_of(other) & set(topology.usable))
            for other in topology.l3_of(core) - busy - {0, *topology.siblings_of(cores.housekeeping)}
        })  # fmt: skip

    wanted = min(len(STAGES), topology.core_limit - 1)
    if wanted and any(room(core) >= wanted for core in topology.usable):
        assert len(domains) == 1


@given(topologies())
def test_a_mask_of_the_placed_cores_alone_places_the_same(topology: Topology) -> None:
    """A service manager that sets the affinity to the plan's cores changes nothing (CPUAffinity of the unit)."""
    cores = place(STAGES, topology, own_first=CORE_ORDER)
    kept = tuple(sorted({*used(cores), cores.housekeeping}))
    again = place(STAGES, replace(topology, usable=kept, isolated=topology.isolated & set(kept)), own_first=CORE_ORDER)
    assert again.housekeeping == cores.housekeeping
    assert sorted(used(again)) == sorted(used(cores))


CHOICES = {
    "2-core VM": (0, [1, 1, 1, 1, 1]),
    "8-core desktop with SMT": (0, [1, 2, 3, 4, 5]),
    "dual-socket server": (0, [1, 2, 3, 4, 5]),
    "AMD with four CCX of four cores": (0, [4, 5, 6, 7, 8]),
    "AMD with two CCX of eight cores": (0, [8, 9, 10, 11, 12]),
    "aarch64 server": (0, [1, 2, 3, 4, 5]),
    "aarch64 board without L3": (0, [1, 2, 3, 3, 3]),
    "container with a quota of six cores": (0, [1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_stages_of_real_machines(name: str, tmp_path: Path) -> None:
    cores = place(STAGES, machine(tmp_path, name), own_first=CORE_ORDER)
    assert (cores.housekeeping, sorted(used(cores))) == CHOICES[name]


def test_two_cores_give_the_stages_the_second() -> None:
    cores = place(STAGES, Topology((0, 1)))
    assert cores.housekeeping == 0
    assert {(core.cpu, core.idle, core.alone) for core in cores.pollers.values()} == {(1, "yield", False)}
    assert "2 usable cores for housekeeping and 5 polling processes" in cores.pollers["feed"].why


def test_a_packed_line_on_two_cores_has_one_to_itself() -> None:
    core = place(("line",), Topology((0, 1))).pollers["line"]
    assert (core.cpu, core.idle, core.alone) == (1, "spin", True)


def test_the_stages_that_make_system_calls_get_a_core_of_their_own_first() -> None:
    cores = place(STAGES, Topology((0, 1, 2, 3)), own_first=CORE_ORDER)
    assert {name for name, core in cores.pollers.items() if core.alone} == {"feed", "router"}


def test_isolated_cores_go_to_the_stages_and_never_to_housekeeping() -> None:
    cores = place(("line",), Topology((0, 1, 2, 3), frozenset({0, 3})))
    assert (cores.housekeeping, cores.pollers["line"].cpu) == (1, 3)
    assert "isolated" in cores.pollers["line"].why


def test_isolated_cores_are_taken_first_and_decide_on_the_l3(tmp_path: Path) -> None:
    files = {f"{CPUS}/isolated": "11-13,27-29\n", f"{CPUS}/nohz_full": "12-13\n"}
    cores = place(STAGES, machine(tmp_path, "AMD with two CCX of eight cores", "0-10,14-26,30-31", **files))
    assert used(cores) == [12, 13, 11, 8, 9]  # without a tick first, then isolated, then what else the L3 has
    assert "isolated, nohz_full" in cores.pollers["feed"].why
    assert "SMT sibling 28 left empty" in cores.pollers["feed"].why


def test_neighbours_in_the_flow_stay_together_where_the_stages_are_apart(tmp_path: Path) -> None:
    cores = place(STAGES, machine(tmp_path, "AMD with four CCX of four cores"), own_first=CORE_ORDER)
    assert [core.cpu for core in cores.pollers.values()] == [4, 5, 6, 7, 8]
    assert "no L3 has 5 free physical cores" in cores.pollers["router"].why


def test_siblings_are_taken_where_physical_cores_are_too_few_the_housekeepings_last() -> None:
    four_by_two = {core: frozenset({core % 4, core % 4 + 4}) for core in range(8)}
    cores = place(STAGES, Topology(tuple(range(8)), siblings=four_by_two))
    assert used(cores) == [1, 2, 3, 5, 6]
    assert "its SMT sibling runs router" in cores.pollers["book"].why
    assert "SMT sibling 7 left empty" in cores.pollers["strategy"].why


def test_a_sibling_of_a_busy_core_is_taken_last() -> None:
    neighbours = {0: frozenset({0, 1}), 1: frozenset({0, 1}), 2: frozenset({2, 3}), 3: frozenset({2, 3})}
    assert place(("line",), Topology((0, 1, 2, 3), siblings=neighbours)).pollers["line"].cpu == 2


def test_a_quota_leaves_the_best_cores_not_the_first(tmp_path: Path) -> None:
    topology = replace(machine(tmp_path, "dual-socket server"), quota_cores=3.7)
    cores = place(STAGES, topology)
    assert sorted(set(used(cores))) == [1, 2]
    assert "3 usable cores (CPU quota 3.7)" in cores.pollers["risk"].why


def test_pinned_stages_stay_and_the_others_come_near_them(tmp_path: Path) -> None:
    topology = machine(tmp_path, "AMD with two CCX of eight cores")
    cores = place(STAGES, topology, pins={"strategy": 3, "risk": 4}, own_first=CORE_ORDER)
    assert {"strategy": 3, "risk": 4}.items() <= {name: core.cpu for name, core in cores.pollers.items()}.items()
    assert set(used(cores)) <= topology.l3_of(3)
    assert "pinned by launch.cores.strategy" in cores.pollers["strategy"].why


def test_the_housekeeping_can_be_pinned_and_gives_way_to_pins() -> None:
    assert place(STAGES, Topology(tuple(range(8))), housekeeping=7).housekeeping == 7
    assert 0 not in used(place(STAGES, Topology(tuple(range(8))), housekeeping=7))
    assert place(STAGES, Topology((0, 1)), pins=dict.fromkeys(STAGES, 0)).housekeeping == 1


@pytest.mark.parametrize(
    ("cores", "pins", "housekeeping", "what", "hint"),
    [
        (8, {"fed": 1}, None, "launch.cores.fed: this run has no such process", "feed, book"),
        (8, {"feed": 9}, None, "core 9 is not usable", "usable: 0-7"),
        (8, {}, 9, "launch.housekeeping_core = 9: core 9 is not usable", "usable: 0-7"),
        (8, {"feed": 2}, 2, "is also launch.housekeeping_core", "another core"),
        (8, {"feed": 2, "book": 2}, None, "pins feed and book to core 2, and 3 usable cores stay empty", "its own"),
        (2, {"feed": 1}, None, "leaves no core for book, strategy, risk, router", "pin these as well"),
        (
            2,
            {"feed": 0, "book": 1, "strategy": 1, "risk": 1, "router": 1},
            None,
            "none is left for the house",
            "pin two",
        ),
    ],
)
def test_pins_that_contradict_are_refused_with_a_hint(
    cores: int, pins: dict[str, int], housekeeping: int | None, what: str, hint: str
) -> None:
    with pytest.raises(PlacementError) as caught:
        place(STAGES, Topology(tuple(range(cores))), pins=pins, housekeeping=housekeeping)
    assert what in str(caught.value)
    assert hint in caught.value.hint


def test_pins_beyond_the_quota_are_refused() -> None:
    with pytest.raises(PlacementError, match="take 4 cores, the CPU quota of the control group grants 2"):
        place(STAGES, Topology(tuple(range(8)), quota_cores=2.0), pins={"feed": 1, "book": 2, "risk": 3})


@given(topologies(), st.dictionaries(st.sampled_from(STAGES), st.integers(0, 31)), st.none() | st.integers(0, 31))
def test_pins_are_kept_or_refused_never_bent(
    topology: Topology, pins: dict[str, int], housekeeping: int | None
) -> None:
    try:
        cores = place(STAGES, topology, pins=pins, housekeeping=housekeeping)
    except PlacementError:
        return
    assert all(cores.pollers[name].cpu == core for name, core in pins.items())
    assert housekeeping in (None, cores.housekeeping)
    if topology.core_limit > 1:
        assert cores.housekeeping not in used(cores)
    unpinned = {name: core for name, core in cores.pollers.items() if name not in pins}
    assert not {core.cpu for core in unpinned.values()} & set(pins.values()) or topology.core_limit == 1
