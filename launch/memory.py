"""Room in /dev/shm, huge pages, limits: looked at before anything starts."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path

from launch.errors import MachineError
from launch.findings import Finding
from shm.segment import HEADER_BYTES, SHM_DIRECTORY, Layout

SHMEM_HUGE = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
DESCRIPTORS_NEEDED = 64


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


def findings() -> list[Finding]:
    """What memory limits and page sizes cost on this machine."""
    found = []
    try:
        mode = SHMEM_HUGE.read_text(encoding="ascii").partition("[")[2].partition("]")[0]
    except OSError:
        mode = "absent"
    if mode not in ("advise", "always", "within_size", "force"):
        found.append(
            Finding(
                "huge-pages",
                f"huge pages for shared memory are off (shmem_enabled: {mode})",
                "each 4 KiB page of a ring takes its own TLB entry",
                f"echo advise > {SHMEM_HUGE}" if mode != "absent" else "a kernel with transparent huge pages",
            )
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS_NEEDED:
        found.append(
            Finding(
                "descriptors", f"RLIMIT_NOFILE={soft}, {DESCRIPTORS_NEEDED} needed", "sockets and segments need them",
                f"ulimit -n {DESCRIPTORS_NEEDED if hard == resource.RLIM_INFINITY else max(hard, DESCRIPTORS_NEEDED)}",
                "bad",
            )
        )  # fmt: skip
    return found
