"""What is mounted where, from /proc/mounts."""

from dataclasses import dataclass

from launch.host.machine import Machine

SHM = "/dev/shm"
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"
SHMEM_ENABLED = f"{HUGE_PAGES}/shmem_enabled"
"""Not there: this kernel has no huge pages in a tmpfs. A mount has its own say, `huge=`; this is that of memory
without one, but for `deny` and `force`."""


@dataclass(frozen=True)
class Mount:
    """A file system that is mounted."""

    kind: str
    options: tuple[str, ...]

    @property
    def huge(self) -> str:
        """The option of a tmpfs that says when it takes huge pages; the kernel does not show the default."""
        return next((option for option in self.options if option.startswith("huge=")), "huge=never")


def mount_at(machine: Machine, folder: str) -> Mount | None:
    """What was last mounted on this folder; None also when it cannot be told."""
    mounts = [line.split() for line in machine.text_or("/proc/mounts").splitlines()]
    found = [fields for fields in mounts if len(fields) > 3 and fields[1] == folder]
    return Mount(found[-1][2], tuple(found[-1][3].split(","))) if found else None
