"""Room in /dev/shm, huge pages, limits: looked at before anything starts."""

import os
import re
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

from launch.checks.memory import SHMEM_HUGE_PAGES, used_bytes
from launch.checks.realtime import DESCRIPTORS
from launch.errors import MachineError
from launch.findings import Finding
from launch.host.control_groups import least
from launch.host.machine import Machine
from shm.segment import HEADER_BYTES, SHM_DIRECTORY, Layout


def needed_bytes(layouts: Iterable[Layout]) -> int:
    """What segments of these layouts take in /dev/shm, headers and whole pages included."""
    page = resource.getpagesize()
    return sum(-(-(HEADER_BYTES + layout.payload_bytes) // page) * page for layout in layouts)


def check_room(layouts: Iterable[Layout], folder: Path = SHM_DIRECTORY) -> int:
    """Bytes needed, when they are free. Raises MachineError with both figures otherwise."""
    needed = needed_bytes(layouts)
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise MachineError(f"{folder}: {error.strerror}", "mount a tmpfs there") from error
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise MachineError(
            f"{folder}: {needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free",
            f"a container gets more by --shm-size={-(-needed * 2 // 2**20)}m; `ls {folder}` shows what fills it",
        )
    return needed


def available_bytes(machine: Machine | None = None) -> int:
    """Memory that can be taken: what the system has available, and our control groups leave of their limits."""
    machine = machine or Machine()
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", machine.text_or("/proc/meminfo"), re.M)
    free = int(found[1]) * 1024 if found else sys.maxsize
    limit = least(machine, "memory", "memory.max", "memory.limit_in_bytes")
    return free if limit is None else min(free, max(0, limit[0] - used_bytes(machine, limit[1])))


def check_memory(needed: int, hint: str) -> None:
    """Raises MachineError when so much private memory is not there to be taken."""
    available = available_bytes()
    if needed > available:
        raise MachineError(f"{needed / 1e6:.1f} MB of memory needed, {available / 1e6:.1f} MB available", hint)


def findings() -> list[Finding]:
    """What memory limits and page sizes cost on this machine."""
    found = (subject.finding(Machine()) for subject in (SHMEM_HUGE_PAGES, DESCRIPTORS))
    return [finding for finding in found if finding.status != "ok"]
