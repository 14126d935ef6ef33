"""What stops a process under SCHED_FIFO that never sleeps: it differs by kernel, and costs 50 ms of every second.

Up to Linux 6.11 real-time work is *throttled*: after sched_rt_runtime_us of each sched_rt_period_us (950 of 1,000 ms)
the core is idle or does normal work, whether anybody waits or not. Linux 6.12 replaced that by a *fair server*: only
when normal work on the core has starved does it get 50 ms of each second. But where the kernel is built with
RT_GROUP_SCHED the throttle stayed in force (commit "sched/rt: Remove default bandwidth control"): on Linux 6.18 so
built, a FIFO spinner alone on its core stood still for 46 to 52 ms each second, until sched_rt_runtime_us was -1.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from launch.control_groups import folders
from launch.errors import UnreadableError
from launch.machine import Machine

FAIR_SERVER_SINCE = (6, 12)
RUNTIME, PERIOD = "/proc/sys/kernel/sched_rt_runtime_us", "/proc/sys/kernel/sched_rt_period_us"


@dataclass(frozen=True)
class RealTimeLimit:
    """The mechanism of this kernel."""

    runtime_us: int
    """-1: no limit."""
    period_us: int
    fair_server: bool
    groups: bool | None
    """RT_GROUP_SCHED in force; None when the kernel does not say."""

    @property
    def throttles(self) -> bool:
        """Whether a spinning FIFO process stands still in every period, alone on its core or not."""
        return 0 <= self.runtime_us < self.period_us and (not self.fair_server or self.groups is True)

    @property
    def words(self) -> str:
        """What applies, in one clause."""
        if self.throttles:
            built = " (this kernel has the fair server, but keeps the throttle for RT_GROUP_SCHED)"
            return (
                f"real-time work is throttled: it runs {self.runtime_us} of every {self.period_us} µs"
                f"{built if self.fair_server else ''}"
            )
        if not self.fair_server:
            return "real-time work is not throttled"
        unless = ", unless it was built with RT_GROUP_SCHED, which cannot be read here" if self.groups is None else ""
        return f"a fair server, no throttle: a FIFO process yields only to normal work that starves on its core{unless}"


def real_time_limit(machine: Machine) -> RealTimeLimit:
    """Read it. Raises UnreadableError."""
    return RealTimeLimit(
        machine.number(RUNTIME), machine.number(PERIOD), machine.version >= FAIR_SERVER_SINCE, _groups(machine)
    )


def _groups(machine: Machine) -> bool | None:
    """Whether RT_GROUP_SCHED is in force: built in, and not switched off at boot (possible since Linux 6.16)."""
    asked = [word.partition("=")[2] for word in _boot_arguments(machine) if word.startswith("rt_group_sched=")]
    if asked:
        return asked[-1] not in ("0", "off", "n", "no", "false")
    built = machine.kernel_option("RT_GROUP_SCHED")
    if built is None:
        return True if group_runtime(machine) is not None else None
    return built == "y" and machine.kernel_option("RT_GROUP_SCHED_DEFAULT_DISABLED") != "y"


def _boot_arguments(machine: Machine) -> list[str]:
    try:
        return machine.boot_arguments
    except UnreadableError:
        return []


def group_runtime(machine: Machine) -> tuple[str, int] | None:
    """Our control group and the real-time µs per period that it grants: 0 refuses FIFO even to root. None: no say."""
    for folder in folders(machine, "cpu"):
        text = machine.text_or(f"{folder}/cpu.rt_runtime_us")
        if text.lstrip("-").isdigit():
            return str(PurePosixPath(folder)), int(text)
    return None
