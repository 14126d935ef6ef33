"""Trees of /sys and /proc as real machines have them, as far as placement reads them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from launch.host.cpu_lists import cpu_list, parse_cpu_list
from launch.host.topology import Topology, read_topology
from tests.launch.fake_machine import machine_of

CPUS = "/sys/devices/system/cpu"


def tree(
    cores: int,
    *,
    threads: Sequence[str],
    l3: Sequence[str],
    nodes: Sequence[str] = (),
    sockets: Sequence[str] = (),
    older_names: bool = False,
) -> dict[str, str]:
    """Files of a machine of `cores` hardware threads; each group is a list in the kernel's format.

    `threads`: hardware threads of one physical core. `older_names`: as kernels before 4.20 have them.
    """
    whole = [f"0-{cores - 1}"]
    files = {f"{CPUS}/online": whole[0], f"{CPUS}/isolated": "\n"}
    for socket, group in enumerate(sockets or whole):
        for core in parse_cpu_list(group):
            files[f"{CPUS}/cpu{core}/topology/physical_package_id"] = f"{socket}\n"
            name = "core_siblings_list" if older_names else "package_cpus_list"
            files[f"{CPUS}/cpu{core}/topology/{name}"] = f"{group}\n"
    for group in threads:
        for core in parse_cpu_list(group):
            name = "thread_siblings_list" if older_names else "core_cpus_list"
            files[f"{CPUS}/cpu{core}/topology/{name}"] = f"{group}\n"
            files[f"{CPUS}/cpu{core}/cache/index0/level"] = "1\n"
            files[f"{CPUS}/cpu{core}/cache/index0/shared_cpu_list"] = f"{group}\n"
    for group in l3:
        for core in parse_cpu_list(group):
            files[f"{CPUS}/cpu{core}/cache/index3/level"] = "3\n"
            files[f"{CPUS}/cpu{core}/cache/index3/shared_cpu_list"] = f"{group}\n"
    for node, group in enumerate(nodes or whole):
        files[f"/sys/devices/system/node/node{node}/cpulist"] = f"{group}\n"
    return files


def pairs(cores: int) -> list[str]:
    """SMT siblings as most x86 firmware numbers them: N and N + half."""
    return [f"{core},{core + cores // 2}" for core in range(cores // 2)]


def halves(groups: Sequence[str], offset: int) -> list[str]:
    """Each group of first threads with its second threads."""
    return [cpu_list(parse_cpu_list(group) | {core + offset for core in parse_cpu_list(group)}) for group in groups]


MACHINES: dict[str, Callable[[], dict[str, str]]] = {
    "2-core VM": lambda: tree(2, threads=["0", "1"], l3=["0-1"]),
    # The "(null)" is what kernels before 6.x print without nohz_full=.
    "8-core desktop with SMT": lambda: (
        tree(16, threads=pairs(16), l3=["0-15"]) | {f"{CPUS}/nohz_full": "  (null)\n"}
    ),
    "dual-socket server": lambda: tree(
        64, threads=pairs(64), l3=halves(["0-15", "16-31"], 32), nodes=halves(["0-15", "16-31"], 32),
        sockets=halves(["0-15", "16-31"], 32),
    ),
    "AMD with four CCX of four cores": lambda: tree(
        32, threads=pairs(32), l3=halves(["0-3", "4-7", "8-11", "12-15"], 16)
    ),
    "AMD with two CCX of eight cores": lambda: tree(32, threads=pairs(32), l3=halves(["0-7", "8-15"], 16)),
    "aarch64 server": lambda: tree(64, threads=[str(core) for core in range(64)], l3=["0-63"]),
    "aarch64 board without L3": lambda: tree(4, threads=["0", "1", "2", "3"], l3=[], older_names=True),
    "container with a quota of six cores": lambda: (
        tree(64, threads=pairs(64), l3=halves(["0-31"], 32))
        | {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "600000 100000\n",
           "/sys/fs/cgroup/cpuset.cpus.effective": "0-63\n"}
    ),
}  # fmt: skip


def machine(root: Path, name: str, allowed: str = "", **files: str) -> Topology:
    """The topology read from a machine's tree; `allowed` is the affinity mask, by default all cores."""
    tree_files = MACHINES[name]()
    read = machine_of(root, tree_files | files)
    return read_topology(read, parse_cpu_list(allowed or tree_files[f"{CPUS}/online"]))
