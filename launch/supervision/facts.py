"""What the operating system says about a running process, for reports."""

import os
from dataclasses import dataclass
from pathlib import Path

from launch.knobs.memory_policy import locked_bytes
from launch.knobs.scheduling import policy_of


@dataclass(frozen=True)
class ProcessFacts:
    """One process at one moment."""

    pid: int
    cpus: tuple[int, ...]
    policy: str
    priority: int
    rss_bytes: int
    nice: int = 0
    timer_slack_ns: int | None = None
    """None where this process may not look: another's takes CAP_SYS_NICE."""
    locked_bytes: int = 0


def read_facts(pid: int) -> ProcessFacts | None:
    """Facts of a live process; None when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        cpus = tuple(sorted(os.sched_getaffinity(pid)))
        nice, locked = os.getpriority(os.PRIO_PROCESS, pid), locked_bytes(pid)
    except (OSError, IndexError):
        return None
    if not pages:  # a zombie has no memory any more
        return None
    policy, priority = policy_of(pid)
    rss_bytes = pages * os.sysconf("SC_PAGE_SIZE")
    return ProcessFacts(pid, cpus, policy, priority, rss_bytes, nice, _timer_slack_ns(pid), locked)


def _timer_slack_ns(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/timerslack_ns").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
