"""Real-time scheduling and the limits of this process."""

from launch.checks.subject import Subject, Verdict, bad, ok, warn
from launch.host.machine import IPC_LOCK, SYS_NICE, Machine
from launch.host.rt_guard import group_runtime, read_rt_guard

DESCRIPTORS_NEEDED = 64
LOCKED_BYTES_NEEDED = 512 << 20
"""A stage's mappings: its segments, and what it shares with its warm parent (interpreter, compiler, libraries)."""


def _fifo_permitted(machine: Machine) -> Verdict:
    group = group_runtime(machine)
    if group is not None and group[1] == 0:
        return warn(
            f"refused by the control group {group[0]}, even to root: cpu.rt_runtime_us is 0",
            f"echo 950000 > {group[0]}/cpu.rt_runtime_us, parents first",
        )
    if machine.may(SYS_NICE):
        return ok("permitted (CAP_SYS_NICE)")
    limit = machine.limit("Max realtime priority")
    if limit is None or limit > 0:
        return ok(f"permitted up to priority {99 if limit is None else limit} (RLIMIT_RTPRIO)")
    return warn(
        "refused: no CAP_SYS_NICE, and RLIMIT_RTPRIO is 0", "limits.conf: USER - rtprio 98; systemd: LimitRTPRIO=98"
    )


def _throttling(machine: Machine) -> Verdict:
    guard = read_rt_guard(machine)
    if guard.throttles:
        return warn(
            guard.mechanism, "pipeline tune --apply --only kernel.sched_rt_runtime_us, and read there what it costs"
        )
    return ok(guard.mechanism) if guard.groups is not None or not guard.fair_server else warn(
        guard.mechanism, "zgrep RT_GROUP_SCHED /proc/config.gz, where the kernel shows it"
    )  # fmt: skip


def _memlock(machine: Machine) -> Verdict:
    if machine.may(IPC_LOCK):
        return ok("no limit (CAP_IPC_LOCK)")
    limit = machine.limit("Max locked memory")
    if limit is None or limit >= LOCKED_BYTES_NEEDED:
        return ok("unlimited" if limit is None else f"{limit >> 20} MB")
    return warn(
        f"{limit / 2**20:.0f} MB may be locked", "limits.conf: USER - memlock unlimited; docker: --ulimit memlock=-1"
    )


def _descriptors(machine: Machine) -> Verdict:
    limit = machine.limit("Max open files")
    if limit is None or limit >= DESCRIPTORS_NEEDED:
        return ok("unlimited" if limit is None else f"{limit}")
    return bad(f"RLIMIT_NOFILE={limit}, {DESCRIPTORS_NEEDED} needed", f"ulimit -n {DESCRIPTORS_NEEDED}")


DESCRIPTORS = Subject("descriptors", "sockets and segments need them", _descriptors)
SUBJECTS = (
    Subject("fifo", "under the normal scheduler any other work may take the core, for up to some ms", _fifo_permitted),
    Subject("fifo-throttled", "a throttled spinner stands still for 50 ms of every second, busy or not", _throttling),
    Subject("memlock", "memory that is not locked may be paged out or moved, and is then faulted in again", _memlock),
    DESCRIPTORS,
)
