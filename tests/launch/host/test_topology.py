"""What is read of a machine, on trees of real ones."""

import os
from pathlib import Path

import pytest

from launch.host.topology import read_topology
from tests.launch.fake_machine import SWAP_TITLE, machine_of
from tests.launch.machines import CPUS, MACHINES, machine

SHAPES = {
    "2-core VM": (2, 1, 1, 1),
    "8-core desktop with SMT": (8, 1, 1, 1),
    "dual-socket server": (32, 2, 2, 2),
    "AMD with four CCX of four cores": (16, 4, 1, 1),
    "AMD with two CCX of eight cores": (16, 2, 1, 1),
    "aarch64 server": (64, 1, 1, 1),
    "aarch64 board without L3": (4, 1, 1, 1),
    "container with a quota of six cores": (32, 1, 1, 1),
}


@pytest.mark.parametrize("name", MACHINES)
def test_physical_cores_l3_domains_nodes_and_sockets_are_told_apart(name: str, tmp_path: Path) -> None:
    document = machine(tmp_path, name).document()
    found = (document["physical_cores"], *(len(document[key]) for key in ("l3_domains", "numa_nodes", "sockets")))
    assert found == SHAPES[name]


def test_an_unset_nohz_full_is_none(tmp_path: Path) -> None:
    assert machine(tmp_path, "8-core desktop with SMT").nohz_full == frozenset()


def test_isolated_cores_are_usable_although_no_process_is_born_with_them(tmp_path: Path) -> None:
    files = {f"{CPUS}/isolated": "2-6\n", f"{CPUS}/nohz_full": "2-6\n"}
    topology = machine(tmp_path, "8-core desktop with SMT", "0-1,7-15", **files)
    assert topology.usable == tuple(range(16))
    assert topology.isolated == topology.nohz_full == {2, 3, 4, 5, 6}


def test_a_mask_that_somebody_narrowed_is_kept(tmp_path: Path) -> None:
    topology = machine(tmp_path, "8-core desktop with SMT", "0-1", **{f"{CPUS}/isolated": "2-6\n"})
    assert topology.usable == (0, 1)
    assert topology.isolated == frozenset()


def test_isolated_cores_outside_the_control_group_are_not_usable(tmp_path: Path) -> None:
    files = {
        f"{CPUS}/isolated": "2-6\n", "/proc/self/cgroup": "0::/a/b\n",
        "/sys/fs/cgroup/a/cpuset.cpus.effective": "0-3\n",
    }  # fmt: skip
    assert machine(tmp_path, "8-core desktop with SMT", "0-1", **files).usable == (0, 1, 2, 3)


def test_a_quota_bounds_how_many_cores_are_used_and_not_which(tmp_path: Path) -> None:
    topology = machine(tmp_path, "container with a quota of six cores")
    assert (topology.quota_cores, topology.core_limit, len(topology.usable)) == (6.0, 6, 64)


@pytest.mark.parametrize(
    ("files", "quota", "limit"),
    [
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
          "/sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5, 1),
        ({"/proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/x\n", "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000\n",
          "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n"}, 0.5, 1),
        ({"/proc/self/cgroup": "4:cpu:/x\n", "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n"}, None, 2),
        ({}, None, 2),
    ],
)  # fmt: skip
def test_the_least_quota_of_the_group_and_its_ancestors_counts(
    files: dict[str, str], quota: float | None, limit: int, tmp_path: Path
) -> None:
    topology = read_topology(machine_of(tmp_path, files), {0, 1})
    assert (topology.quota_cores, topology.core_limit) == (quota, limit)


def test_a_machine_that_tells_nothing_is_a_plain_one(tmp_path: Path) -> None:
    topology = read_topology(machine_of(tmp_path, {}), {3, 4})
    assert topology.usable == (3, 4)
    assert topology.l3_of(3) == {3, 4}
    assert topology.siblings_of(3) == {3}
    assert (topology.memory_nodes, topology.swap, topology.isolated) == (1, False, frozenset())


def test_swap_is_seen_below_the_heading(tmp_path: Path) -> None:
    assert not read_topology(machine_of(tmp_path, {"/proc/swaps": SWAP_TITLE}), {0}).swap
    assert read_topology(machine_of(tmp_path, {"/proc/swaps": SWAP_TITLE + "/dev/zram0 partition 1 0 5\n"}), {0}).swap


def test_this_machine_is_read_without_a_word() -> None:
    topology = read_topology()
    assert set(os.sched_getaffinity(0)) <= set(topology.usable)
    assert all(core in topology.l3_of(core) for core in topology.usable)
