"""The knobs of the scheduler: affinity, SCHED_FIFO, nice, timer slack.

FIFO and nice always with reset-on-fork, so that helper threads have neither. Whether a process is to have FIFO at all
is decided in schedule.py: never on a shared core, where its spinning would starve the neighbours.
"""

import errno
import os
import resource

from launch.host.machine import SYS_NICE
from launch.knobs.knob import Knob, call, has_capability, soft_limit

PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
POLICIES = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr", os.SCHED_BATCH: "batch"}


class Affinity(Knob):
    """The core a process is pinned to."""

    name = "affinity"
    wanted = "pinning to core {value}"
    cost = "the scheduler moves processes between cores, each move costs tens of µs"
    grants = "allow sched_setaffinity in the container's seccomp profile"

    def read(self) -> int:
        """The core, when it is only one; -1 otherwise."""
        cores = os.sched_getaffinity(0)
        return next(iter(cores)) if len(cores) == 1 else -1

    def apply(self, value: int) -> None:
        """Pin."""
        os.sched_setaffinity(0, {value})

    def undo(self, before: int) -> None:
        """Back to the one core, or to all that are allowed."""
        os.sched_setaffinity(0, {before} if before >= 0 else range(os.cpu_count() or 1))


class Fifo(Knob):
    """SCHED_FIFO, for a process that is pinned to a core of its own."""

    name = "fifo"
    wanted = "SCHED_FIFO priority {value}"
    cost = "stages run under the normal scheduler; other work on their cores shows in the tail"
    grants = "run with CAP_SYS_NICE, or allow it: ulimit -r {value} (limits.conf: rtprio {value}; unit: LimitRTPRIO)"

    def read(self) -> int:
        """The priority; 0 under any other policy."""
        return policy_of(0)[1] if policy_of(0)[0] == "fifo" else 0

    def check(self, value: int) -> str | None:
        """By capability and resource limit."""
        limit = soft_limit(resource.RLIMIT_RTPRIO)
        if has_capability(SYS_NICE) or limit is None or limit >= value:
            return None
        return f"RLIMIT_RTPRIO={limit}, and no CAP_SYS_NICE"

    def apply(self, value: int) -> None:
        """Only where it is pinned: a spinner that the scheduler moved could come to the housekeeping core."""
        if len(os.sched_getaffinity(0)) != 1:
            raise OSError(errno.EPERM, "the process could not be pinned to its core")
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(value))

    def undo(self, before: int) -> None:
        """Back to the normal policy, or to the priority there was."""
        policy = os.SCHED_FIFO if before else os.SCHED_OTHER
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(before))


class Nice(Knob):
    """A higher weight under the normal scheduler. With autogroups it counts within the session only."""

    name = "nice"
    wanted = "nice {value}"
    cost = "stages have no more weight than any other work on their cores"
    grants = "start it without `nice`, and with CAP_SYS_NICE or a limit of {value} (limits.conf: nice; unit: LimitNICE)"

    def read(self) -> int:
        """The nice level."""
        return os.getpriority(os.PRIO_PROCESS, 0)

    def check(self, value: int) -> str | None:
        """By capability and resource limit; and whoever started the run under `nice` meant it to yield."""
        level = self.read()
        if level > 0:
            return f"the run was started with nice {level}"
        limit = soft_limit(resource.RLIMIT_NICE) if hasattr(resource, "RLIMIT_NICE") else 0
        if value >= level or has_capability(SYS_NICE) or limit is None or 20 - limit <= value:
            return None
        return f"RLIMIT_NICE={limit}, and no CAP_SYS_NICE"

    def apply(self, value: int) -> None:
        """Weight first: reset-on-fork is what keeps it from helper threads."""
        os.setpriority(os.PRIO_PROCESS, 0, value)
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))

    def undo(self, before: int) -> None:
        """The level there was."""
        os.setpriority(os.PRIO_PROCESS, 0, before)


class TimerSlack(Knob):
    """How late the kernel may wake a sleeper to save power: 50 µs by default, as long as the backoff sleeps at all."""

    name = "timer_slack"
    wanted = "timer slack of {value} ns"
    cost = "sleeps end up to 50 µs late"
    grants = "allow prctl in the container's seccomp profile"

    def read(self) -> int:
        """The slack of the calling thread."""
        return call("prctl", PR_GET_TIMERSLACK, 0, 0, 0, 0)

    def apply(self, value: int) -> None:
        """For the calling thread and those it starts."""
        call("prctl", PR_SET_TIMERSLACK, value, 0, 0, 0)


def policy_of(pid: int) -> tuple[str, int]:
    """("fifo" | "rr" | "other" | ..., priority) of a process; ("unknown", 0) when it is gone."""
    try:
        policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
        return POLICIES.get(policy, str(policy)), int(os.sched_getparam(pid).sched_priority)
    except OSError:
        return "unknown", 0
