"""A /proc and /sys tree of a machine that is as good as it gets; tests spoil one thing each."""

from collections.abc import Mapping
from pathlib import Path

from launch.host.machine import Machine

CPU = "/sys/devices/system/cpu"
CLOCK = "/sys/devices/system/clocksource/clocksource0"
HUGE = "/sys/kernel/mm/transparent_hugepage"
SWAP_TITLE = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"

GOOD: dict[str, str] = {
    "/proc/cmdline": "quiet isolcpus=managed_irq,domain,1-3",
    "/proc/cpuinfo": "flags\t\t: fpu tsc constant_tsc nonstop_tsc rdtscp\n",
    "/proc/meminfo": "MemTotal:       16000000 kB\nHugepagesize:       2048 kB\n",
    "/proc/mounts": "tmpfs /dev/shm tmpfs rw,huge=within_size 0 0\n",
    "/proc/stat": "cpu  100 0 100 1000 0 0 0 0 0 0\n",
    "/proc/swaps": SWAP_TITLE,
    "/proc/self/cgroup": "0::/\n",
    "/proc/self/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 524288               files     \n"
        "Max locked memory         unlimited            unlimited            bytes     \n"
        "Max realtime priority     98                   98                   \n"
    ),
    "/proc/self/status": "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n",
    "/proc/1/comm": "systemd\n",
    "/proc/irq/default_smp_affinity": "00000000,00000001\n",
    "/proc/irq/9/smp_affinity_list": "0\n",
    "/proc/irq/9/effective_affinity_list": "0\n",
    "/proc/irq/10/smp_affinity_list": "0\n",
    "/proc/sys/kernel/osrelease": "6.8.0-generic\n",
    "/proc/sys/kernel/version": "#1 SMP PREEMPT_DYNAMIC\n",
    "/proc/sys/kernel/random/boot_id": "boot-1\n",
    "/proc/sys/kernel/sched_rt_runtime_us": "-1\n",
    "/proc/sys/kernel/sched_rt_period_us": "1000000\n",
    "/proc/sys/kernel/numa_balancing": "0\n",
    "/proc/sys/kernel/soft_watchdog": "0\n",
    "/proc/sys/kernel/nmi_watchdog": "0\n",
    "/proc/sys/net/core/rmem_max": "26214400\n",
    "/proc/sys/net/core/wmem_max": "26214400\n",
    "/proc/sys/net/core/busy_poll": "50\n",
    "/proc/sys/net/core/busy_read": "50\n",
    "/proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t26214400\n",
    "/proc/sys/net/ipv4/tcp_wmem": "4096\t65536\t26214400\n",
    "/proc/sys/net/ipv4/tcp_timestamps": "0\n",
    "/proc/sys/net/ipv4/tcp_sack": "0\n",
    "/proc/sys/net/ipv4/tcp_low_latency": "1\n",
    "/proc/sys/vm/swappiness": "1\n",
    "/proc/sys/vm/stat_interval": "120\n",
    "/proc/sys/vm/nr_hugepages": "1024\n",
    "/boot/config-6.8.0-generic": "CONFIG_HZ=250\nCONFIG_NO_HZ_FULL=y\n# CONFIG_RT_GROUP_SCHED is not set\n",
    f"{CPU}/online": "0-3\n",
    f"{CPU}/isolated": "1-3\n",
    f"{CPU}/nohz_full": "1-3\n",
    f"{CPU}/smt/active": "0\n",
    f"{CPU}/smt/control": "off\n",
    f"{CPU}/cpufreq/policy0/scaling_governor": "performance\n",
    f"{CPU}/cpufreq/policy1/scaling_governor": "performance\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    f"{CPU}/cpuidle/current_driver": "intel_idle\n",
    f"{CPU}/cpu0/cpuidle/state1/name": "C1\n",
    f"{CPU}/cpu0/cpuidle/state1/latency": "2\n",
    f"{CPU}/cpu0/cpuidle/state1/disable": "0\n",
    f"{CPU}/cpu0/topology/thread_siblings_list": "0\n",
    f"{CPU}/cpu1/online": "1\n",
    f"{CPU}/cpu2/online": "1\n",
    f"{CPU}/cpu3/online": "1\n",
    f"{CLOCK}/current_clocksource": "tsc\n",
    f"{CLOCK}/available_clocksource": "tsc hpet acpi_pm\n",
    f"{HUGE}/enabled": "always [madvise] never\n",
    f"{HUGE}/defrag": "always defer defer+madvise [madvise] never\n",
    f"{HUGE}/shmem_enabled": "always within_size advise [never] deny force\n",
    "/sys/class/net/lo/mtu": "65536\n",
    "/dev/shm/.keep": "",
    "/run/systemd/system/.keep": "",
    "/etc/systemd/logind.conf": "[Login]\n#RemoveIPC=yes\nRemoveIPC=no\n",
    "/sys/fs/cgroup/cgroup.procs": "1\n",
}

UNTUNED: dict[str, str] = GOOD | {
    "/proc/irq/default_smp_affinity": "f\n",
    "/proc/irq/9/smp_affinity_list": "0-3\n",
    "/proc/irq/10/smp_affinity_list": "2\n",
    "/proc/sys/kernel/sched_rt_runtime_us": "950000\n",
    "/proc/sys/net/core/rmem_max": "212992\n",
    "/proc/sys/net/core/wmem_max": "99999999\n",
    "/proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
    "/proc/sys/net/ipv4/tcp_wmem": "8192\t16384\t99999999\n",
    "/proc/sys/net/ipv4/tcp_sack": "1\n",
    "/proc/sys/vm/swappiness": "60\n",
    "/proc/sys/vm/nr_hugepages": "0\n",
    f"{CPU}/cpufreq/policy0/scaling_governor": "powersave\n",
    f"{CPU}/cpufreq/policy10/scaling_governor": "schedutil\n",
}
"""As a distribution leaves it."""


def no_card(interface: str, request: bytes) -> bytes:
    """The host's cards are not the fake machine's."""
    raise OSError(95, "Operation not supported")


def machine_of(root: Path, files: Mapping[str, str | None] = GOOD) -> Machine:
    """The machine whose files these are; None leaves a file out."""
    for name, text in files.items():
        if text is not None:
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return Machine(root, no_card)


def all_files(root: Path) -> dict[str, str]:
    """Every file of the tree and its text."""
    return {f"/{path.relative_to(root)}": path.read_text() for path in root.rglob("*") if path.is_file()}
