"""Which process runs where: the rule of the design, for any machine."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.affinity import place
from launch.topology import Topology, parse_cpu_list, read_topology

STAGES = ("feed", "router", "book", "strategy", "risk")

topologies = st.builds(
    lambda cores, isolated, pairs: Topology(
        tuple(sorted(cores)),
        frozenset(isolated) & frozenset(cores),
        {core: frozenset({core, core ^ 1}) & frozenset(cores) for core in cores} if pairs else {},
    ),
    st.sets(st.integers(0, 31), min_size=1),
    st.sets(st.integers(0, 31)),
    st.booleans(),
)


@given(
    topologies, st.sampled_from([STAGES, ("line",)]), st.sampled_from(["auto", "spin", "yield", "backoff", "doorbell"])
)
def test_placement_holds_on_any_machine(topology: Topology, pollers: tuple[str, ...], idle: str) -> None:
    cores = place(pollers, topology, idle)  # type: ignore[arg-type]
    used = [core.cpu for core in cores.pollers.values()]
    assert set(used) | {cores.housekeeping} <= set(topology.usable)
    if len(topology.usable) >= 2:
        assert cores.housekeeping not in used
    for name, core in cores.pollers.items():
        alone = used.count(core.cpu) == 1 and core.cpu != cores.housekeeping
        assert core.alone == alone, name
        assert core.alone or core.idle != "spin"
        if idle == "auto":
            assert core.idle == ("spin" if alone else "yield")
    assert len({core.cpu for core in cores.pollers.values() if not core.alone}) <= 1
    spare = len(topology.usable) - 1
    assert sum(core.alone for core in cores.pollers.values()) == (
        len(pollers) if spare >= len(pollers) else max(0, spare - 1)
    )


def test_two_cores_give_the_stages_the_second() -> None:
    cores = place(STAGES, Topology((0, 1)))
    assert cores.housekeeping == 0
    assert {(core.cpu, core.idle, core.alone) for core in cores.pollers.values()} == {(1, "yield", False)}


def test_a_packed_line_on_two_cores_has_one_to_itself() -> None:
    core = place(("line",), Topology((0, 1))).pollers["line"]
    assert (core.cpu, core.idle, core.alone) == (1, "spin", True)


def test_isolated_cores_go_to_the_stages_and_never_to_housekeeping() -> None:
    cores = place(("line",), Topology((0, 1, 2, 3), frozenset({0, 3})))
    assert (cores.housekeeping, cores.pollers["line"].cpu) == (1, 0)


def test_a_sibling_of_a_busy_core_is_taken_last() -> None:
    pairs = {0: frozenset({0, 1}), 1: frozenset({0, 1}), 2: frozenset({2, 3}), 3: frozenset({2, 3})}
    assert place(("line",), Topology((0, 1, 2, 3), siblings=pairs)).pollers["line"].cpu == 2


@pytest.mark.parametrize(("text", "cores"), [("", set()), ("0", {0}), ("0-2,7\n", {0, 1, 2, 7})])
def test_the_kernels_cpu_lists_are_understood(text: str, cores: set[int]) -> None:
    assert parse_cpu_list(text) == cores


def _write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_quota_of_one_core_leaves_one(tmp_path: Path) -> None:
    root = _write(tmp_path, {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
    })  # fmt: skip
    topology = read_topology(root)
    assert topology.quota_cores == 1.5
    assert len(topology.usable) == 1


def test_a_quota_of_the_older_interface_is_understood(tmp_path: Path) -> None:
    root = _write(tmp_path, {
        "proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/x\n",
        "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    assert read_topology(root).quota_cores == 0.5


def test_no_control_group_is_no_quota(tmp_path: Path) -> None:
    assert read_topology(tmp_path).quota_cores is None
