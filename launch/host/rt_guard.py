"""What keeps a spinning SCHED_FIFO process from locking up its core, and what that costs the spinner.

Up to Linux 6.11 real-time work is *throttled*: after sched_rt_runtime_us of each sched_rt_period_us (950 of 1,000 ms)
the core is idle or does normal work, whether anybody waits or not. Linux 6.12 replaced that by a *fair server*: only
when normal work on the core has starved does it get 50 ms of each second. But where the kernel is built with
CONFIG_RT_GROUP_SCHED the throttle stayed in force (commit "sched/rt: Remove default bandwidth control"): on Linux 6.18
so built, a FIFO spinner alone on its core stood still for 46 to 52 ms each second, until sched_rt_runtime_us was -1,
and its run queue said rt_throttled. So the release alone does not tell.

A spinner that is throttled is worse than one without FIFO. A spinner that nothing stops (older kernel, throttle off)
starves the kernel threads bound to its core, and whatever waits for all cores (memory hotplug, module loading, sync)
hangs with it: only an administrator who isolated the core has said that this is wanted.
"""

from dataclasses import dataclass

from launch.host.control_groups import folders
from launch.host.machine import Machine

FAIR_SERVER_SINCE = (6, 12)
RUNTIME, PERIOD = "/proc/sys/kernel/sched_rt_runtime_us", "/proc/sys/kernel/sched_rt_period_us"


@dataclass(frozen=True)
class Refusal:
    """Why something is not to be taken, and what would change that."""

    why: str
    hint: str


@dataclass(frozen=True)
class RtGuard:
    """The mechanisms of one kernel, as configured. The default is Linux 6.12's."""

    fair_server: bool = True
    """Normal work that has starved on a core is lent a part of it."""
    groups: bool | None = False
    """RT_GROUP_SCHED in force; None when the kernel does not say."""
    runtime_us: int = 950_000
    """-1: no limit."""
    period_us: int = 1_000_000

    @property
    def throttles(self) -> bool:
        """Whether a spinning FIFO process stands still in every period, alone on its core or not."""
        return 0 <= self.runtime_us < self.period_us and (not self.fair_server or self.groups is True)

    @property
    def mechanism(self) -> str:
        """What applies to a spinning FIFO process, in one clause."""
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

    def refusal(self, isolated: bool) -> Refusal | None:
        """Why a process that spins on a core of its own must not have FIFO; None when it may."""
        if self.throttles:
            isolate = "" if self.fair_server or isolated else ", and an isolated core (isolcpus=)"
            return Refusal(self.mechanism, f"sysctl -w kernel.sched_rt_runtime_us=-1{isolate}")
        if not self.fair_server and not isolated:
            return Refusal(
                "nothing would stop a spinner: kernel threads bound to its core starve, what waits for all cores hangs",
                "isolate the core (isolcpus=), or Linux 6.12, whose fair server lends them time",
            )
        return None


def read_rt_guard(machine: Machine) -> RtGuard:
    """This kernel's. Unpacks the kernel's configuration (ms): once in a run. Raises UnreadableError."""
    return RtGuard(
        machine.version >= FAIR_SERVER_SINCE, _groups(machine), machine.number(RUNTIME), machine.number(PERIOD)
    )


def _groups(machine: Machine) -> bool | None:
    """Whether RT_GROUP_SCHED is in force: built in, and not switched off at boot (possible since Linux 6.16)."""
    if group_runtime(machine) is not None:
        return True
    asked = [word.partition("=")[2] for word in machine.text_or("/proc/cmdline").split()
             if word.startswith("rt_group_sched=")]  # fmt: skip
    if asked:
        return asked[-1] not in ("0", "off", "n", "no", "false")
    built = machine.kernel_option("RT_GROUP_SCHED")
    if built is None:
        return None
    return built == "y" and machine.kernel_option("RT_GROUP_SCHED_DEFAULT_DISABLED") != "y"


def group_runtime(machine: Machine) -> tuple[str, int] | None:
    """Our control group and the real-time µs per period that it grants: 0 refuses FIFO even to root. None: no say."""
    for folder in folders(machine, "cpu"):
        text = machine.text_or(f"{folder}/cpu.rt_runtime_us")
        if text.lstrip("-").isdecimal():
            return folder, int(text)
    return None
