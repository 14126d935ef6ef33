"""The control groups that this process is in, whichever version of the interface the machine has."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from launch.machine import Machine

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
            if text.isdigit() and int(text) < UNLIMITED_BYTES:
                limits.append((int(text), folder))
    return min(limits, default=None)
