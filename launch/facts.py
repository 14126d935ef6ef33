"""What the operating system says about a running process, for reports."""

import os
from dataclasses import dataclass
from pathlib import Path

from launch.scheduling import policy_of


@dataclass(frozen=True)
class ProcessFacts:
    """One process at one moment."""

    pid: int
    cpus: tuple[int, ...]
    policy: str
    priority: int
    rss_bytes: int


def read_facts(pid: int) -> ProcessFacts | None:
    """Facts of a live process; None when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        cpus = tuple(sorted(os.sched_getaffinity(pid)))
    except (OSError, IndexError):
        return None
    if not pages:  # a zombie has no memory any more
        return None
    policy, priority = policy_of(pid)
    return ProcessFacts(pid, cpus, policy, priority, pages * os.sysconf("SC_PAGE_SIZE"))
