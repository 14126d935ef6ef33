"""The machine as placement sees it: cores this process may use, and what they share.

Two things are less simple than they look. A container that is given one CPU of time on a machine of many cores still
sees them all in its affinity mask; pollers on two of them would use its quota up within each period and then all stop
for the rest of it. So the quota, rounded down, bounds how many cores are used. And a process is born with an affinity
mask that lacks the isolated cores, the very ones that were set aside for it: they are usable where the control group
has them, unless somebody has narrowed the mask further (taskset), which is a wish to be kept.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.errors import UnreadableError
from launch.host.control_groups import MOUNT, cpuset, quota_cores
from launch.host.cpu_lists import cpu_list
from launch.host.machine import THIS_MACHINE, Machine
from launch.host.rt_guard import RtGuard, read_rt_guard

CPUS = "/sys/devices/system/cpu"
NODES = "/sys/devices/system/node"


@dataclass(frozen=True)
class Topology:
    """What placement is decided on. What a mapping does not name is as on a plain machine: one of everything."""

    usable: tuple[int, ...]
    """Cores (hardware threads) that may be used, ascending, never empty."""
    isolated: frozenset[int] = frozenset()
    """Cores the kernel keeps other work away from (isolcpus, or an isolated cpuset partition)."""
    siblings: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """Core: the hardware threads of the same physical core, itself included."""
    quota_cores: float | None = None
    """CPU time the control group grants, in cores; None when unlimited."""
    nohz_full: frozenset[int] = frozenset()
    """Cores without a timer tick while one task runs."""
    l3: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """Core: the cores that share its L3; of its socket, where the kernel tells of no L3."""
    nodes: Mapping[int, int] = field(default_factory=dict)
    """Core: its NUMA node."""
    sockets: Mapping[int, int] = field(default_factory=dict)
    """Core: its socket."""
    memory_nodes: int = 1
    """NUMA nodes of the machine."""
    swap: bool = False
    """Memory can be written out."""
    rt_guard: RtGuard = field(default_factory=RtGuard)
    """What keeps a spinning real-time process from stopping everything else."""

    @property
    def core_limit(self) -> int:
        """How many of the usable cores may be used."""
        return min(
            len(self.usable), max(1, int(self.quota_cores)) if self.quota_cores is not None else len(self.usable)
        )

    def siblings_of(self, core: int) -> frozenset[int]:
        """Hardware threads of the same physical core, itself included."""
        return self.siblings.get(core, frozenset({core}))

    def l3_of(self, core: int) -> frozenset[int]:
        """Usable cores behind the same L3 and on the same NUMA node (a socket cut in nodes may share one L3)."""
        domain = self.l3.get(core, frozenset(self.usable)) & frozenset(self.usable)
        return frozenset(other for other in domain if self.nodes.get(other, 0) == self.nodes.get(core, 0))

    def document(self) -> dict[str, Any]:
        """For people and for JSON."""
        return {
            "usable": list(self.usable),
            "isolated": sorted(self.isolated),
            "nohz_full": sorted(self.nohz_full),
            "physical_cores": len({min(self.siblings_of(core)) for core in self.usable}),
            "smt_siblings": sorted({cpu_list(self.siblings_of(core)) for core in self.usable}, key=_first),
            "l3_domains": sorted({cpu_list(self.l3_of(core)) for core in self.usable}, key=_first),
            "numa_nodes": sorted({self.nodes.get(core, 0) for core in self.usable}),
            "sockets": sorted({self.sockets.get(core, 0) for core in self.usable}),
            "quota_cores": self.quota_cores,
            "core_limit": self.core_limit,
        }


def _first(cores: str) -> int:
    return int(cores.replace("-", ",").split(",")[0])


def read_topology(machine: Machine = THIS_MACHINE, allowed: Collection[int] | None = None) -> Topology:
    """The machine's, as far as this process may use it. What cannot be read is as on a plain machine.

    In tests `allowed` stands in for the affinity mask that the process was started with.
    """
    mask = frozenset(os.sched_getaffinity(0) if allowed is None else allowed)
    # The second file is of an isolated partition of control groups (Linux 6.7), whose members see no others anyway.
    isolated = machine.cpus_or(f"{CPUS}/isolated") | machine.cpus_or(f"{MOUNT}/cpuset.cpus.isolated")
    usable = sorted(_with_isolated(mask, isolated, machine))
    kept = frozenset(usable)
    return Topology(
        usable=tuple(usable),
        isolated=isolated & kept,
        siblings={core: siblings for core in usable if (siblings := _threads(machine, core))},
        quota_cores=quota_cores(machine),
        nohz_full=machine.cpus_or(f"{CPUS}/nohz_full") & kept,
        l3={core: sharing for core in usable if (sharing := _l3_domain(machine, core))},
        nodes=_nodes(machine, kept),
        sockets={core: _socket(machine, core) for core in usable},
        memory_nodes=max(1, len(machine.names(f"{NODES}/node[0-9]*"))),
        swap=len(machine.text_or("/proc/swaps").splitlines()) > 1,  # the first is the heading
        rt_guard=_rt_guard(machine),
    )


def _with_isolated(mask: frozenset[int], isolated: frozenset[int], machine: Machine) -> frozenset[int]:
    online = machine.cpus_or(f"{CPUS}/online")
    offered = (cpuset(machine) or online) & (online or mask)
    return mask | (isolated & offered) if mask == offered - isolated else mask


def _threads(machine: Machine, core: int) -> frozenset[int]:
    folder = f"{CPUS}/cpu{core}/topology"
    return machine.cpus_or(f"{folder}/core_cpus_list") or machine.cpus_or(f"{folder}/thread_siblings_list")


def _socket(machine: Machine, core: int) -> int:
    try:
        return max(0, machine.number(f"{CPUS}/cpu{core}/topology/physical_package_id"))  # -1: firmware tells nothing
    except UnreadableError:
        return 0


def _l3_domain(machine: Machine, core: int) -> frozenset[int]:
    folder = f"{CPUS}/cpu{core}"
    shared = frozenset[int]()
    for level in machine.names(f"{folder}/cache/index*/level"):
        if machine.text_or(level) == "3":
            shared = machine.cpus_or(f"{level.removesuffix('level')}shared_cpu_list")
    shared = shared or machine.cpus_or(f"{folder}/topology/package_cpus_list")
    return shared or machine.cpus_or(f"{folder}/topology/core_siblings_list")


def _nodes(machine: Machine, cores: frozenset[int]) -> dict[int, int]:
    return {
        core: int(folder.rpartition("node")[2])
        for folder in machine.names(f"{NODES}/node[0-9]*")
        for core in machine.cpus_or(f"{folder}/cpulist") & cores
    }


def _rt_guard(machine: Machine) -> RtGuard:
    try:
        return read_rt_guard(machine)
    except UnreadableError:
        return RtGuard()
