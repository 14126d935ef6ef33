"""The settings of `pipeline tune`: each declared once, in the order in which they are made."""

from launch.host.mounts import SHM
from launch.tuning.setting import SWAPS, Setting

_FAR = (
    "right on a short, loss-free path (a cross-connect, one data centre). Over the internet it makes the tail worse: "
    "leave it with --skip"
)
BUFFER_BYTES = 26_214_400

SETTINGS = (
    Setting(
        "governor", "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor", "performance",
        "a core at full speed needs no time to speed up when a message comes",
        trade_off="heat and power",
    ),
    Setting(
        "net.core.rmem_max", "/proc/sys/net/core/rmem_max", str(BUFFER_BYTES),
        "a burst waits in the socket instead of being dropped or stopped; SO_RCVBUF is capped by this", "at_least",
    ),
    Setting(
        "net.core.wmem_max", "/proc/sys/net/core/wmem_max", str(BUFFER_BYTES),
        "orders are taken by the kernel at once, even when the peer is slow; SO_SNDBUF is capped by this", "at_least",
    ),
    Setting(
        "net.ipv4.tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem", f"4096 131072 {BUFFER_BYTES}",
        "the same, for buffers that TCP sizes itself (least, first, most)", "at_least",
    ),
    Setting(
        "net.ipv4.tcp_wmem", "/proc/sys/net/ipv4/tcp_wmem", f"4096 65536 {BUFFER_BYTES}",
        "the same, for sending", "at_least",
    ),
    Setting(
        "net.ipv4.tcp_timestamps", "/proc/sys/net/ipv4/tcp_timestamps", "0",
        "12 bytes and some ns less for each packet; new connections only",
        trade_off=f"no protection against wrapped sequence numbers, coarser round-trip times: {_FAR}",
    ),
    Setting(
        "net.ipv4.tcp_sack", "/proc/sys/net/ipv4/tcp_sack", "0",
        "no bookkeeping of selective acknowledgements; new connections only",
        trade_off=f"several packets lost together take a round trip each to recover: {_FAR}",
    ),
    Setting(
        "net.ipv4.tcp_low_latency", "/proc/sys/net/ipv4/tcp_low_latency", "1",
        "no prequeue: packets are handled when they come (Linux before 4.14; later kernels ignore it)",
    ),
    Setting(
        "net.core.busy_poll", "/proc/sys/net/core/busy_poll", "50",
        "poll and select look at the card for 50 µs before they sleep", trade_off="their cores are busy meanwhile",
    ),
    Setting(
        "net.core.busy_read", "/proc/sys/net/core/busy_read", "50",
        "a read looks at the card for 50 µs before it sleeps: no interrupt on the way",
        trade_off="its core is busy meanwhile",
    ),
    Setting(
        "kernel.sched_rt_runtime_us", "/proc/sys/kernel/sched_rt_runtime_us", "-1",
        "a stage under SCHED_FIFO is not stopped for 50 ms of every second, where the kernel does that: see "
        "fifo-throttled in `pipeline doctor`",
        trade_off=(
            "without the throttle nothing stops a FIFO process that spins by mistake: kernel threads of its core wait "
            "for ever, and a machine whose every core has one is locked up until it is switched off. Stages are FIFO "
            "only alone on their core, and one core is always left"
        ),
    ),
    Setting(
        "vm.swappiness", "/proc/sys/vm/swappiness", "1",
        "the kernel takes cached files before it takes a program's memory; counts if swap stays on or comes back",
    ),
    Setting(
        "kernel.numa_balancing", "/proc/sys/kernel/numa_balancing", "0",
        "no page is unmapped to see who faults on it, or moved between nodes, under a running stage",
        trade_off="programs that are not pinned lose the automatic placement",
    ),
    Setting(
        "kernel.soft_watchdog", "/proc/sys/kernel/soft_watchdog", "0",
        "no timer on each core that looks for lock-ups (half of kernel.watchdog)",
        trade_off="lock-ups of the kernel are not reported any more",
    ),
    Setting(
        "kernel.nmi_watchdog", "/proc/sys/kernel/nmi_watchdog", "0",
        "no non-maskable interrupt on each core, and its counter is free for perf (the other half)",
        trade_off="hard lock-ups of the kernel are not reported any more",
    ),
    Setting(
        "vm.stat_interval", "/proc/sys/vm/stat_interval", "120",
        "the kernel's worker that folds memory statistics visits each core every two minutes, not every second",
        "at_least", trade_off="the figures of vmstat are that old",
    ),
    Setting(
        "vm.nr_hugepages", "/proc/sys/vm/nr_hugepages", "1024",
        "huge pages for programs that ask for them (hugetlbfs, MAP_HUGETLB), while memory is in one piece",
        "at_least", trade_off="2 GB (with 2 MB pages) that nothing else can use; our own segments do not need them",
        reserves_huge_pages=True,
    ),
    Setting(
        "shmem-huge-pages", SHM, "huge=within_size huge=always",
        "a TLB entry reaches over 2 MB of a ring or table, not over 4 KiB; segments made from now on, of 2 MB or more",
        "one_of", trade_off="what else keeps large files in /dev/shm has them in whole huge pages, too",
    ),
    Setting(
        "swap", SWAPS, "",
        "no page of a stage is ever on disk", trade_off="when memory runs out a process is killed instead",
    ),
    Setting(
        "irqs-new", "/proc/irq/default_smp_affinity", "1",
        "interrupts that are requested from now on go to core 0, where no stage runs", "mask",
    ),
    Setting(
        "irqs", "/proc/irq/[0-9]*/smp_affinity_list", "0",
        "interrupts go to core 0, where no stage runs; those that belong to one core stay",
        trade_off="core 0 takes all network traffic: enough for a trading line, not for a file server",
        some_refuse=True,
    ),
)  # fmt: skip
