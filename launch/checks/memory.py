"""Memory: room in /dev/shm, huge pages, swap, and what control groups take."""

import os

from launch.checks.subject import Subject, Verdict, bad, ok, warn
from launch.errors import UnreadableError
from launch.host.control_groups import folders, least
from launch.host.machine import Machine
from launch.host.mounts import HUGE_PAGES as HUGE
from launch.host.mounts import SHM, SHMEM_ENABLED, mount_at

ROOM_BYTES = 64 << 20
"""What a container gets when nobody asks for more; a default run fits it."""

HEADROOM_BYTES = 1 << 30


def _shm_size(machine: Machine) -> Verdict:
    try:
        status = os.statvfs(machine.path(SHM))
    except OSError as error:
        raise UnreadableError(SHM, error.strerror or str(error)) from None
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    mount = mount_at(machine, SHM)
    if mount is not None and mount.kind != "tmpfs":
        return bad(f"{SHM} is {mount.kind}, not memory", f"mount -t tmpfs tmpfs {SHM}")
    what = f"{free / 1e6:,.0f} of {total / 1e6:,.0f} MB free"
    if free >= ROOM_BYTES:
        return ok(what)
    return bad(what, f"docker: --shm-size=256m; else mount -o remount,size=256m {SHM}; `ls {SHM}` shows what fills it")


def _shmem_huge_pages(machine: Machine) -> Verdict:
    """Segments reserve their space when they are made, and `huge=advise` gives small pages for that."""
    mode, mount = machine.chosen(SHMEM_ENABLED), mount_at(machine, SHM)
    huge = mount.huge if mount is not None else "huge=never"
    if mode == "force" or (mode != "deny" and huge in ("huge=within_size", "huge=always")):
        return ok(f"{SHM} is mounted with {huge}, shmem_enabled: {mode}")
    denied = f"echo never > {SHMEM_ENABLED}; " if mode == "deny" else ""
    return warn(
        f"huge pages for segments are off ({SHM} is mounted with {huge}, shmem_enabled: {mode})",
        f"{denied}pipeline tune --apply --only shmem-huge-pages",
    )


def _transparent_huge_pages(machine: Machine) -> Verdict:
    mode, defrag = machine.chosen(f"{HUGE}/enabled"), machine.text_or(f"{HUGE}/defrag")
    if mode != "always":
        return ok(f"enabled: {mode}: only where a program asks for them")
    stalls = " and a page fault may wait for memory to be defragmented" if "[always]" in defrag else ""
    return warn(
        f"enabled: always: khugepaged moves pages of running programs{stalls}", f"echo madvise > {HUGE}/enabled"
    )


def _explicit_huge_pages(machine: Machine) -> Verdict:
    count = machine.number("/proc/sys/vm/nr_hugepages")
    if count:
        return ok(f"{count} reserved")
    return ok("none reserved: segments lie in /dev/shm, which takes transparent ones; for programs that ask for these")


def _swap(machine: Machine) -> Verdict:
    areas = [fields for line in machine.text("/proc/swaps").splitlines()[1:] if (fields := line.split())]
    if not areas:
        return ok("none")
    used_kb = sum(int(fields[3]) for fields in areas if len(fields) > 3 and fields[3].isdecimal())
    what = f"{', '.join(fields[0] for fields in areas)}; {used_kb / 1024:,.0f} MB in use"
    hint = "pipeline tune --apply --only swap"
    return bad(what, hint) if used_kb else warn(what, hint)


def used_bytes(machine: Machine, folder: str) -> int:
    """Memory that the control group of this folder has taken."""
    texts = (machine.text_or(f"{folder}/{file}") for file in ("memory.current", "memory.usage_in_bytes"))
    return next((int(text) for text in texts if text.isdecimal()), 0)


def _memory_limit(machine: Machine) -> Verdict:
    found = least(machine, "memory", "memory.max", "memory.limit_in_bytes")
    if found is None:
        return ok("no limit")
    limit, folder = found
    used = used_bytes(machine, folder)
    what = f"{limit / 1e6:,.0f} MB, of which {used / 1e6:,.0f} MB are used ({folder})"
    if limit - used >= HEADROOM_BYTES:
        return ok(what)
    return warn(what, "raise it (docker: --memory); the compiler of a first start takes most")


def _memory_cgroup(machine: Machine) -> Verdict:
    if not any(True for _ in folders(machine, "memory")):
        return ok("no memory control group is in force")
    high = least(machine, "memory", "memory.high")
    if high is not None:
        return bad(f"memory.high is {high[0] / 1e6:,.0f} MB ({high[1]}): above it every allocation is delayed",
                   f"echo max > {high[1]}/memory.high; systemd: MemoryHigh=infinity")  # fmt: skip
    return ok("pages are charged when first touched, which stages do before they trade; no memory.high delays them")


SHMEM_HUGE_PAGES = Subject("shmem-huge-pages", "each 4 KiB page of a ring takes its own TLB entry", _shmem_huge_pages)
SUBJECTS = (
    Subject("shm-size", "rings and tables lie there; a run that does not fit is refused", _shm_size),
    SHMEM_HUGE_PAGES,
    Subject("transparent-huge-pages", "pages that the kernel merges or moves stop whoever touches them",
            _transparent_huge_pages),
    Subject("explicit-huge-pages", "a huge page takes one TLB entry where 512 small ones take as many each",
            _explicit_huge_pages),
    Subject("swap", "a page that was swapped out costs some ms of disk when it is next touched", _swap),
    Subject("memory-limit", "a group above its limit reclaims pages in its own time, then has a process killed; "
            "/dev/shm counts too", _memory_limit),
    Subject("memory-cgroup", "charging costs each first touch, and memory.high sleeps in the middle of one",
            _memory_cgroup),
)  # fmt: skip
