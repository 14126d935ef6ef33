"""What our control group allows: CPU time and cores, of both interfaces (v1 and v2)."""

from collections.abc import Iterator
from pathlib import Path

from launch.cpu_lists import read_cpu_list


def quota_cores(root: Path) -> float | None:
    """The least CPU quota of our control group and its ancestors, in cores; None when unlimited."""
    quotas = [quota for folder in _folders(root, "cpu") if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def cpuset(root: Path) -> frozenset[int]:
    """Cores that our control group may use; empty when nothing says so."""
    for folder in _folders(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus"):
            cores = read_cpu_list(folder / name)
            if cores:
                return cores
    return frozenset()


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Our control group's folder and its ancestors', nearest first."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = Path(path.lstrip("/"))
        for part in (folder, *folder.parents):
            yield base / part


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            return None if quota == "max" else int(quota) / int(period)
        quota_us = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        return None if quota_us < 0 else quota_us / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError, ZeroDivisionError):
        return None
