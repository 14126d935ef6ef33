"""SCHED_FIFO for a process alone on its core, where the machine permits it.

Never on a shared core: sched_yield under FIFO yields to equal priority only, so the neighbours would starve. Always
with reset-on-fork, so that helper threads are not FIFO. A spinning FIFO process on a kernel that throttles real-time
work stands still for 50 ms of every second: worse than no FIFO at all, so it is not taken there. Which kernels do that
is told by `launch.realtime`.
"""

import os

from launch.errors import UnreadableError
from launch.findings import Finding
from launch.machine import Machine
from launch.realtime import real_time_limit

THIS_MACHINE = Machine()


def throttled_finding(machine: Machine = THIS_MACHINE) -> Finding | None:
    """A finding when this kernel would stop a spinning FIFO process for a part of every second."""
    try:
        limit = real_time_limit(machine)
    except UnreadableError:
        return None
    if not limit.throttles:
        return None
    return Finding(
        "fifo-throttled",
        f"SCHED_FIFO not taken: {limit.words}, and would stop a spinning stage for the rest",
        "stages run under the normal scheduler; other work on their cores shows in the tail",
        "sysctl -w kernel.sched_rt_runtime_us=-1",
    )


def take_fifo(priority: int) -> Finding | None:
    """Put this process under SCHED_FIFO; a finding when that is refused."""
    throttled = throttled_finding()
    if throttled is not None:
        return throttled
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except PermissionError:
        return Finding(
            "fifo",
            f"SCHED_FIFO priority {priority} was refused",
            "stages run under the normal scheduler; other work on their cores shows in the tail",
            f"run with CAP_SYS_NICE, or allow it: ulimit -r {priority} (limits.conf: rtprio {priority})",
        )
    except OSError as error:
        return Finding("fifo", f"SCHED_FIFO priority {priority}: {error.strerror}", "stages run without it", "")
    return None


def pin(cpu: int) -> Finding | None:
    """Pin this process to `cpu`; a finding when that is refused."""
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        return Finding(
            "affinity",
            f"pinning to core {cpu} was refused: {error.strerror}",
            "the scheduler moves processes between cores, each move costs tens of µs",
            "allow sched_setaffinity in the container's seccomp profile",
        )
    return None


def policy_of(pid: int) -> tuple[str, int]:
    """("fifo" | "rr" | "other" | ..., priority) of a process; ("unknown", 0) when it is gone."""
    names = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr", os.SCHED_BATCH: "batch"}
    try:
        policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
        return names.get(policy, str(policy)), int(os.sched_getparam(pid).sched_priority)
    except OSError:
        return "unknown", 0
