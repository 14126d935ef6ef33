"""The kernel's version and what it entails, limits of containers, logins, and the settings of `pipeline tune`."""

import re
from dataclasses import dataclass

from launch.checks.subject import Status, Subject, Verdict, bad, ok, warn, worst
from launch.errors import UnreadableError
from launch.host.control_groups import folders, least, quota_cores
from launch.host.machine import Machine
from launch.host.rt_guard import FAIR_SERVER_SINCE
from launch.tuning.catalogue import SETTINGS
from launch.tuning.survey import survey

Version = tuple[int, int]


@dataclass(frozen=True)
class Trap:
    """What holds for kernels since one version and before another."""

    since: Version
    before: Version
    status: Status
    what: str
    hint: str = ""


TRAPS = (
    Trap((0, 0), (5, 4), "warn", "a CPU quota throttles groups that did not use it up (unused slices expire)",
         "Linux 5.4, or no quota"),
    Trap((0, 0), (5, 6), "warn", "isolcpus does not keep the interrupts of multi-queue devices away (no managed_irq)",
         "Linux 5.6"),
    Trap((4, 14), (99, 0), "ok", "tcp_low_latency is still there, and does nothing"),
    Trap((5, 13), (99, 0), "ok", "the scheduler's granularities are in debugfs, not sysctl: older guides' names fail"),
    Trap(FAIR_SERVER_SINCE, (99, 0), "ok", "sched_rt_runtime_us does not govern the fair server: that is set in "
         "/sys/kernel/debug/sched/fair_server"),
)  # fmt: skip
PIDS_NEEDED = 64


def _kernel(machine: Machine) -> Verdict:
    version = machine.version
    text = f"Linux {version[0]}.{version[1]}"
    applying = [trap for trap in TRAPS if trap.since <= version < trap.before]
    found = worst((Verdict(trap.status, trap.what, trap.hint) for trap in applying), ok("no traps are known"))
    return found._replace(what=f"{text}: {found.what}")


def _preemption(machine: Machine) -> Verdict:
    built = machine.text("/proc/sys/kernel/version")
    model = next(
        (word for word in ("PREEMPT_RT", "PREEMPT_DYNAMIC", "PREEMPT_LAZY", "PREEMPT") if word in built.split()), ""
    )
    if model == "PREEMPT_RT":
        return warn(
            "PREEMPT_RT: interrupts are threads under FIFO 50, and network packets wait for them",
            "keep launch.fifo_priority below 50 on cores that take a card's interrupts, or move those away",
        )
    return ok(model or "not preemptible within the kernel")


def _cpu_quota(machine: Machine) -> Verdict:
    quota = quota_cores(machine)
    if quota is None:
        return ok("no quota")
    throttled = 0
    for folder in folders(machine, "cpu"):
        match = re.search(r"^nr_throttled (\d+)$", machine.text_or(f"{folder}/cpu.stat"), re.MULTILINE)
        throttled = max(throttled, int(match[1]) if match else 0)
    what = f"{quota:g} cores of time; stopped {throttled:,} times so far"
    hint = "whole cores instead of time: docker --cpuset-cpus, Kubernetes' static CPU manager"
    return bad(what, hint) if throttled else warn(what, hint)


def _pids_limit(machine: Machine) -> Verdict:
    found = least(machine, "pids", "pids.max")
    if found is None:
        return ok("no limit")
    limit, folder = found
    current = machine.text_or(f"{folder}/pids.current", "0")
    left = limit - (int(current) if current.isdecimal() else 0)
    what = f"{limit} processes and threads, {left} left ({folder})"
    return ok(what) if left >= PIDS_NEEDED else bad(what, "docker: --pids-limit=1024; systemd: TasksMax=1024")


def _remove_ipc(machine: Machine) -> Verdict:
    user = int(machine.status_field("Uid").split()[0])
    if user < 1000:
        return ok(f"user {user} is a system user, whose shared memory stays")
    if not machine.path("/run/systemd/system").is_dir():
        return ok("no systemd runs here")
    value = "yes"  # systemd's default
    for file in _logind_files(machine):
        for line in machine.text_or(file).splitlines():
            key, _, text = line.partition("=")
            if key.strip() == "RemoveIPC":
                value = text.strip().lower()
    if value in ("no", "false", "off", "0", "n", "f"):
        return ok("RemoveIPC=no")
    if machine.path("/var/lib/systemd/linger").is_dir() and machine.names("/var/lib/systemd/linger/*"):
        return warn("RemoveIPC=yes; it spares users who linger", "loginctl show-user $USER -p Linger, or RemoveIPC=no")
    return bad(
        "RemoveIPC=yes: shared memory of a detached run goes when its user logs out",
        "RemoveIPC=no in /etc/systemd/logind.conf, or loginctl enable-linger, or run it as a system service",
    )


def _logind_files(machine: Machine) -> list[str]:
    """In the order in which they are read; a later line replaces an earlier one, a file in /etc one in /usr/lib."""
    places = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")
    main = [name for place in places if machine.path(name := f"{place}/logind.conf").is_file()]
    extra = {
        name.rsplit("/", 1)[1]: name for place in places for name in machine.names(f"{place}/logind.conf.d/*.conf")
    }
    return main[-1:] + [extra[name] for name in sorted(extra)]


def _tuning(machine: Machine) -> Verdict:
    rows = survey(machine, SETTINGS)
    different = sorted({row.setting.id for row in rows if row.state == "differs"})
    known = len({row.setting.id for row in rows if row.state in ("differs", "same")})
    if not known:
        raise UnreadableError("/proc/sys", "none of the settings that `pipeline tune` knows")
    if not different:
        return ok(f"all {known} settings that this kernel has are as `pipeline tune` wants them")
    return warn(f"{len(different)} of {known} settings differ from what `pipeline tune` wants", "pipeline tune")


SUBJECTS = (
    Subject("kernel", "what is true of one kernel is wrong for another", _kernel),
    Subject(
        "preemption", "a neighbour inside the kernel gives the core back sooner or later, by this model", _preemption
    ),
    Subject("cpu-quota", "pollers use the quota up within each period, and all stop for the rest of it", _cpu_quota),
    Subject("pids-limit", "a stage that cannot be forked, or have its helper thread, does not start", _pids_limit),
    Subject("remove-ipc", "logind removes the rings of a run that outlives its login", _remove_ipc),
    Subject("tuning", "each is explained by `pipeline tune`", _tuning),
)
