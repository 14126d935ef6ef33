"""The control groups that this process is in and what they allow, whichever version the machine has."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from launch.host.machine import Machine

MOUNT = "/sys/fs/cgroup"
UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of a page in an int64."""


def folders(machine: Machine, controller: str) -> Iterator[str]:
    """Folders of our group and of its ancestors, innermost first, where `controller` is in force.

    In a container the group's path may be the host's, and only its root is mounted: absent folders are left out.
    """
    for line in machine.text_or("/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base = f"{MOUNT}/{controller}" if number != "0" else MOUNT
        group = PurePosixPath(path.lstrip("/"))
        for ancestor in (group, *group.parents):
            folder = base if str(ancestor) in (".", "..") else f"{base}/{ancestor}"
            if ".." not in ancestor.parts and machine.path(folder).is_dir():
                yield folder


def least(machine: Machine, controller: str, *files: str) -> tuple[int, str] | None:
    """The least limit that a file of one of these names sets in our groups, and the folder; None when unlimited."""
    limits = []
    for folder in folders(machine, controller):
        for file in files:
            text = machine.text_or(f"{folder}/{file}", "max")
            if text.isdecimal() and int(text) < UNLIMITED_BYTES:
                limits.append((int(text), folder))
    return min(limits, default=None)


def quota_cores(machine: Machine) -> float | None:
    """The least CPU quota of our groups, in cores; None when unlimited."""
    quotas = [quota for folder in folders(machine, "cpu") if (quota := _quota_of(machine, folder)) is not None]
    return min(quotas, default=None)


def _quota_of(machine: Machine, folder: str) -> float | None:
    words = machine.text_or(f"{folder}/cpu.max").split() or [
        machine.text_or(f"{folder}/cpu.cfs_quota_us"), machine.text_or(f"{folder}/cpu.cfs_period_us"),
    ]  # fmt: skip
    try:
        quota_us, period_us = map(int, words)
    except ValueError:  # "max", or no such file
        return None
    return quota_us / period_us if quota_us >= 0 and period_us > 0 else None


def cpuset(machine: Machine) -> frozenset[int]:
    """Cores that our group may use; empty when nothing says so."""
    for folder in folders(machine, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus"):
            cores = machine.cpus_or(f"{folder}/{name}")
            if cores:
                return cores
    return frozenset()
