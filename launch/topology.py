"""The cores this process may use: allowed by affinity and by the control group's quota, isolated, siblings.

A container that is given one CPU of time on a machine of many cores still sees them all in its affinity mask; pollers
on two of them would use its quota up within each period and then all stop for the rest of it. So the quota, rounded
down, bounds the number of cores.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Topology:
    """What placement is decided on."""

    usable: tuple[int, ...]
    """Cores that may be used, ascending, never empty."""
    isolated: frozenset[int] = frozenset()
    """Cores the kernel keeps other work away from (isolcpus)."""
    siblings: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """Core: the hardware threads of the same physical core, itself included."""
    quota_cores: float | None = None
    """CPU time the control group grants, in cores; None when unlimited."""


def parse_cpu_list(text: str) -> frozenset[int]:
    """The kernel's list format: "0-3,7" is {0, 1, 2, 3, 7}. Raises ValueError when it is not one."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


def read_topology(root: Path = Path("/")) -> Topology:
    """This machine's, as far as this process may use it. `root` stands in for / in tests."""
    quota = _quota_cores(root)
    allowed = sorted(os.sched_getaffinity(0))
    if quota is not None:
        allowed = allowed[: max(1, int(quota))]
    siblings = {core: _cpu_list(root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or
                frozenset({core}) for core in allowed}  # fmt: skip
    isolated = _cpu_list(root / "sys/devices/system/cpu/isolated")
    return Topology(tuple(allowed), isolated & frozenset(allowed), siblings, quota)


def _cpu_list(path: Path) -> frozenset[int]:
    try:
        return parse_cpu_list(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return frozenset()


def _quota_cores(root: Path) -> float | None:
    """The least quota of our control group and its ancestors, in cores."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        if line.count(":") < 2:
            continue  # not what the kernel writes
        _, controllers, path = line.split(":", 2)
        base = root / "sys/fs/cgroup" / ("cpu" if "cpu" in controllers.split(",") else "")
        if controllers and base.name != "cpu":
            continue
        folder = Path(path.lstrip("/"))
        for ancestor in (folder, *folder.parents):
            quota = _quota_of(base / ancestor)
            if quota is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            return None if quota == "max" else int(quota) / int(period)
        quota_us = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        return None if quota_us < 0 else quota_us / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError, ZeroDivisionError):
        return None
