"""What keeps a spinning SCHED_FIFO process from locking up its core, and what that costs the spinner.

The throttle stops all real-time work of a core for what is left of each period once it has run for
sched_rt_runtime_us: 50 ms of every second by default, whether anybody needs the core or not. Linux 6.12 replaced it by
the fair server, which lends 50 ms of a second to normal work that has starved, and only then. But a kernel built with
CONFIG_RT_GROUP_SCHED throttles on: on 6.18 so built a spinner alone on its core stood still for 52 ms of every second,
and its run queue said rt_throttled. So the release alone does not tell.

A spinner that is throttled is worse than one without FIFO. A spinner that nothing stops (older kernel, throttle off)
starves the kernel threads bound to its core, and whatever waits for all cores (memory hotplug, module loading, sync)
hangs with it: only an administrator who isolated the core has said that this is wanted.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

FAIR_SERVER_SINCE = (6, 12)
RUNTIME = "proc/sys/kernel/sched_rt_runtime_us"
PERIOD = "proc/sys/kernel/sched_rt_period_us"


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
    throttle_us: int | None = None
    """Real-time work of a core is stopped after this much of each period; None when it is not."""
    period_us: int = 1_000_000

    @property
    def mechanism(self) -> str:
        """In words: what applies to a spinning FIFO process."""
        if self.throttle_us is not None:
            return (
                f"real-time throttling: stopped for {(self.period_us - self.throttle_us) / 1000:g} ms of every "
                f"{self.period_us / 1000:g} ms (sched_rt_runtime_us={self.throttle_us})"
            )
        if self.fair_server:
            return "fair server: normal work that has starved on the core is lent up to 50 ms of a second, else nothing"
        return "none: neither throttle nor fair server, kernel threads bound to the core starve"

    def refusal(self, isolated: bool) -> Refusal | None:
        """Why a process that spins on a core of its own must not have FIFO; None when it may."""
        if self.throttle_us is not None:
            isolate = "" if self.fair_server or isolated else ", and an isolated core (isolcpus=)"
            return Refusal(self.mechanism, f"sysctl -w kernel.sched_rt_runtime_us=-1{isolate}")
        if not self.fair_server and not isolated:
            return Refusal(
                "nothing would stop a spinner: kernel threads bound to its core starve, what waits for all cores hangs",
                "isolate the core (isolcpus=), or Linux 6.12, whose fair server lends them time",
            )
        return None


def read_rt_guard(root: Path = Path("/")) -> RtGuard:
    """This kernel's; `root` stands in for / in tests. What cannot be read is taken to be the kernel's default."""
    release = _text(root / "proc/sys/kernel/osrelease")
    fair_server = _version(release) >= FAIR_SERVER_SINCE
    runtime_us, period_us = _number(root / RUNTIME, -1), _number(root / PERIOD, 1_000_000)
    throttles = 0 <= runtime_us < period_us and (not fair_server or _group_scheduling(root, release))
    return RtGuard(fair_server, runtime_us if throttles else None, period_us)


def _group_scheduling(root: Path, release: str) -> bool:
    """Whether the kernel was built with CONFIG_RT_GROUP_SCHED, as far as it tells."""
    if (root / "sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() or (
        root / "sys/fs/cgroup/cpu,cpuacct/cpu.rt_runtime_us"
    ).exists():
        return True
    for path, unpack in ((root / "proc/config.gz", gzip.decompress), (root / f"boot/config-{release}", bytes)):
        try:
            return b"\nCONFIG_RT_GROUP_SCHED=y\n" in unpack(path.read_bytes())
        except (OSError, EOFError):
            continue
    return False


def _version(release: str) -> tuple[int, int]:
    try:
        major, minor = release.split(".")[:2]
        return int(major), int(minor.split("-")[0])
    except ValueError:
        return FAIR_SERVER_SINCE


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _number(path: Path, default: int) -> int:
    try:
        return int(_text(path))
    except ValueError:
        return default
