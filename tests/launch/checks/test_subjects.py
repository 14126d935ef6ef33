"""Each subject of the doctor, on a machine that is spoiled in one respect."""

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launch.checks import cores, interrupts, network
from launch.doctor import SUBJECTS
from launch.findings import Finding
from launch.host.machine import Machine
from launch.host.network_card import ADAPTIVE_RX, GET_COALESCE, GET_FLAGS, GET_GRO, GET_RINGS, RX_MAX, RX_NOW, RX_USECS
from launch.host.topology import Topology
from tests.launch.fake_machine import CLOCK, CPU, GOOD, HUGE, SWAP_TITLE, machine_of


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake machine's cores, not those that this process happens to have."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})


def look(machine: Machine, subject: str) -> Finding:
    return next(one for one in SUBJECTS if one.id == subject).finding(machine)


def test_a_good_machine_has_nothing_to_complain_of(tmp_path: Path) -> None:
    machine = machine_of(tmp_path)
    assert [one.finding(machine) for one in SUBJECTS if one.finding(machine).status != "ok"] == []


def test_ids_are_unique_and_every_subject_says_why() -> None:
    assert len({one.id for one in SUBJECTS}) == len(SUBJECTS)
    assert all(one.why for one in SUBJECTS)


def limit(name: str, value: int) -> dict[str, str]:
    return {"/proc/self/limits": f"{name:25} {value:<20} {value:<20} units\n"}


VIRTUAL = {"/proc/cpuinfo": "flags : hypervisor\n"}
SMT = {f"{CPU}/smt/active": "1\n"}
CONFIG = "/boot/config-6.8.0-generic"
LOGIND = "/etc/systemd/logind.conf"
GROUP = {"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cgroup.procs": "1\n"}
V1 = {"/proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n2:pids:/a\n"}
SPOILED: list[tuple[str, Mapping[str, str | None], str, str]] = [
    # subject, files (None: absent), status, words
    ("isolation", {f"{CPU}/isolated": "\n"}, "warn", "no core is isolated"),
    ("isolation", {f"{CPU}/isolated": None}, "warn", "cannot be told here"),
    ("nohz-full", {f"{CPU}/nohz_full": "(null)\n"}, "warn", "250 times a second"),
    ("nohz-full", {f"{CPU}/nohz_full": None, CONFIG: "CONFIG_HZ=1000\n"}, "warn", "built without"),
    ("nohz-full", {f"{CPU}/nohz_full": None}, "warn", "cannot be told here"),
    ("smt", SMT | {f"{CPU}/cpu1/topology/thread_siblings_list": "1,3\n"}, "warn", "share 1"),
    ("smt", SMT | {f"{CPU}/cpu0/topology/thread_siblings_list": "0,9\n"}, "ok", "no core for stages"),
    ("governor", {f"{CPU}/cpufreq/policy1/scaling_governor": "powersave\n"}, "warn", "1 of 2 frequency domains"),
    ("turbo", {f"{CPU}/intel_pstate/no_turbo": "1\n"}, "warn", "off"),
    ("turbo", {f"{CPU}/intel_pstate/no_turbo": None, f"{CPU}/cpufreq/boost": "1\n"}, "ok", "on"),
    ("turbo", {f"{CPU}/intel_pstate/no_turbo": None}, "warn", "cannot be told here"),
    ("c-states", {f"{CPU}/cpu0/cpuidle/state1/latency": "133\n"}, "warn", "C1, takes 133 µs"),
    ("c-states", {f"{CPU}/cpu0/cpuidle/state1/latency": "133\n", "/proc/cmdline": "idle=poll"}, "ok", "stay awake"),
    ("c-states", {f"{CPU}/cpu0/cpuidle/state1/disable": "1\n"}, "warn", "no idle states"),
    ("virtual-machine", VIRTUAL, "warn", "0.00 %"),
    ("virtual-machine", VIRTUAL | {"/proc/stat": "cpu 9 0 0 90 0 0 0 1 0 0"}, "warn", "1.00 %"),
    ("virtual-machine", VIRTUAL | {"/proc/stat": "cpu 9 0 0 9 0 0 0 2 0 0"}, "bad", "10.00 %"),
    ("clock-source", {f"{CLOCK}/current_clocksource": "kvm-clock\n"}, "warn", "kvm-clock"),
    ("clock-source", dict.fromkeys((f"{CLOCK}/{which}_clocksource" for which in ("current", "available")), "hpet\n"),
     "bad", "hpet"),
    ("fifo", limit("Max realtime priority", 0), "warn", "refused"),
    ("fifo", {"/proc/self/limits": None, "/proc/self/status": "CapEff:\t0000000000800000\n"}, "ok", "CAP_SYS_NICE"),
    ("fifo", V1 | {"/sys/fs/cgroup/cpu/a/cpu.rt_runtime_us": "0\n"}, "warn", "even to root"),
    ("fifo-throttled", {"/proc/sys/kernel/sched_rt_runtime_us": "950000\n"}, "warn", "950000 of every 1000000"),
    ("memlock", limit("Max locked memory", 8388608), "warn", "8 MB"),
    ("descriptors", limit("Max open files", 32), "bad", "32"),
    ("shm-size", {"/proc/mounts": "overlay /dev/shm overlay rw 0 0\n"}, "bad", "overlay"),
    ("shm-size", {"/dev/shm/.keep": None}, "warn", "cannot be told here"),
    ("shmem-huge-pages", {"/proc/mounts": "tmpfs /dev/shm tmpfs rw 0 0\n"}, "warn", "huge=never"),
    ("shmem-huge-pages", {"/proc/mounts": "tmpfs /dev/shm tmpfs rw,huge=advise 0 0\n"}, "warn", "huge=advise"),
    ("shmem-huge-pages", {"/proc/mounts": "tmpfs /dev/shm tmpfs rw,huge=always 0 0\n"}, "ok", "huge=always"),
    ("shmem-huge-pages", {"/proc/mounts": "", f"{HUGE}/shmem_enabled": "never [force]\n"}, "ok", "force"),
    ("shmem-huge-pages", {f"{HUGE}/shmem_enabled": "[deny] force\n"}, "warn", "deny"),
    ("shmem-huge-pages", {f"{HUGE}/shmem_enabled": None}, "warn", "cannot be told here"),
    ("transparent-huge-pages", {f"{HUGE}/enabled": "[always] madvise never\n"}, "warn", "khugepaged"),
    ("explicit-huge-pages", {"/proc/sys/vm/nr_hugepages": "0\n"}, "ok", "none reserved"),
    ("swap", {"/proc/swaps": f"{SWAP_TITLE}/dev/sda2 partition 4096 0 -2\n"}, "warn", "/dev/sda2"),
    ("swap", {"/proc/swaps": f"{SWAP_TITLE}/dev/sda2 partition 4096 2048 -2\n"}, "bad", "2 MB in use"),
    ("memory-limit", GROUP | {"/sys/fs/cgroup/a/memory.max": "500000000\n"}, "warn", "500 MB"),
    ("memory-limit", V1 | {"/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, "ok", "no limit"),
    ("memory-limit", V1 | {"/sys/fs/cgroup/memory/memory.limit_in_bytes": "4000000\n"}, "warn", "4 MB"),
    ("memory-cgroup", GROUP | {"/sys/fs/cgroup/a/b/memory.high": "1000000\n"}, "bad", "memory.high is 1 MB"),
    ("irq-affinity", {"/proc/irq/10/smp_affinity_list": "0-3\n"}, "warn", "1 of 2 interrupts"),
    ("irq-affinity", {"/proc/irq/9/smp_affinity_list": "0-3\n"}, "ok", "none of 2"),
    ("irqbalance", {"/proc/77/comm": "irqbalance\n"}, "warn", "irqbalance runs"),
    ("kernel", {"/proc/sys/kernel/osrelease": "5.3.1\n"}, "warn", "CPU quota"),
    ("kernel", {"/proc/sys/kernel/osrelease": "what\n"}, "warn", "cannot be told here"),
    ("preemption", {"/proc/sys/kernel/version": "#1 SMP PREEMPT_RT\n"}, "warn", "FIFO 50"),
    ("cpu-quota", GROUP | {"/sys/fs/cgroup/a/cpu.max": "200000 100000\n"}, "warn", "2 cores"),
    ("cpu-quota", GROUP | {"/sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                           "/sys/fs/cgroup/a/cpu.stat": "nr_throttled 7\n"}, "bad", "7 times"),
    ("cores", GROUP | {"/sys/fs/cgroup/a/cpu.max": "100000 100000\n"}, "bad", "1 of 4"),
    ("cores", {f"{CPU}/online": "0-7\n"}, "warn", "4 of 8"),
    ("pids-limit", GROUP | {"/sys/fs/cgroup/a/pids.max": "100\n", "/sys/fs/cgroup/a/pids.current": "60\n"},
     "bad", "40 left"),
    ("remove-ipc", {LOGIND: "[Login]\n#RemoveIPC=no\n"}, "bad", "RemoveIPC=yes"),
    ("remove-ipc", {LOGIND: None}, "bad", "RemoveIPC=yes"),
    ("remove-ipc", {"/etc/systemd/logind.conf.d/x.conf": "[Login]\nRemoveIPC=yes\n"}, "bad", "RemoveIPC=yes"),
    ("remove-ipc", {LOGIND: None, "/usr/lib/systemd/logind.conf.d/x.conf": "RemoveIPC = no\n"}, "ok", "no"),
    ("remove-ipc", {LOGIND: None, "/run/systemd/system/.keep": None}, "ok", "no systemd"),
    ("remove-ipc", {LOGIND: None, "/var/lib/systemd/linger/u": ""}, "warn", "linger"),
    ("remove-ipc", {"/proc/self/status": "Uid:\t0\t0\t0\t0\n", LOGIND: None}, "ok", "system user"),
    ("tuning", {"/proc/sys/vm/swappiness": "60\n"}, "warn", "1 of"),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "files", "status", "words"), SPOILED)
def test_what_is_wrong_is_found(
    subject: str, files: Mapping[str, str | None], status: str, words: str, tmp_path: Path
) -> None:
    finding = look(machine_of(tmp_path, GOOD | files), subject)
    assert finding.status == status, finding
    assert words in finding.what
    assert bool(finding.hint) == (status != "ok"), "what is not in order has a hint"


@pytest.mark.parametrize("garbage", [None, "", "garbage\n", "[", "\x00\xff", "1 2 3", "-1\n", "99999999999999999999\n"])
def test_nothing_that_a_file_says_crashes_a_look(garbage: str | None, tmp_path: Path) -> None:
    machine = machine_of(tmp_path, dict.fromkeys(GOOD, garbage))
    for subject in SUBJECTS:
        assert subject.finding(machine).status in ("ok", "warn", "bad")


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.text(max_size=40), max_size=8))
@example({"/proc/swaps": "Filename\n\n"})
@example({"/proc/swaps": "Filename\n/swap file 1024 \N{SUPERSCRIPT TWO} -2\n"})
def test_nor_any_mixture_of_what_they_say(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]) -> None:
    machine = machine_of(tmp_path_factory.mktemp("machine"), GOOD | files)
    for subject in SUBJECTS:
        assert subject.finding(machine).status in ("ok", "warn", "bad")


def test_an_empty_tree_is_told_subject_by_subject(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {})
    told = {one.id for one in SUBJECTS if "cannot be told here" in one.finding(machine).what}
    assert {"isolation", "clock-source", "fifo-throttled", "swap", "irq-affinity", "kernel", "nic-rings"} <= told


def _card(coalesce_us: int = 0, adaptive: int = 0, ring: int = 512, flags: int = 0, gro: int = 0) -> "Machine":
    answers = {
        GET_COALESCE: {RX_USECS: coalesce_us, ADAPTIVE_RX: adaptive}, GET_RINGS: {RX_NOW: ring, RX_MAX: 4096},
        GET_GRO: {1: gro}, GET_FLAGS: {1: flags},
    }  # fmt: skip

    def ask(interface: str, request: bytes) -> bytes:
        assert interface == "eth7"
        words = list(struct.unpack(f"={len(request) // 4}I", request))
        for index, value in answers[words[0]].items():
            words[index] = value
        return struct.pack(f"={len(words)}I", *words)

    return Machine(Path("/"), ask)


@pytest.mark.parametrize(
    ("subject", "card", "missed", "status", "words"),
    [
        ("nic-coalescing", _card(), "0", "ok", "off"),
        ("nic-coalescing", _card(coalesce_us=50), "0", "warn", "up to 50 µs"),
        ("nic-coalescing", _card(adaptive=1), "0", "warn", "adaptive"),
        ("nic-rings", _card(), "0", "ok", "512 of 4096"),
        ("nic-rings", _card(), "12", "warn", "12 packets missed"),
        ("nic-offloads", _card(), "0", "ok", "not merged"),
        ("nic-offloads", _card(gro=1, flags=1 << 15), "0", "warn", "gro and lro on"),
        ("nic-offloads", Machine(), "0", "warn", "the driver does not say"),
    ],
)
def test_a_card_is_asked_what_it_does(
    subject: str, card: Machine, missed: str, status: str, words: str, tmp_path: Path
) -> None:
    machine_of(tmp_path, {
        "/sys/class/net/eth7/device/x": "", "/sys/class/net/lo/mtu": "1",
        "/sys/class/net/eth7/statistics/rx_missed_errors": missed,
    })  # fmt: skip
    finding = look(Machine(tmp_path, card.ethtool), subject)
    assert (finding.status, words in finding.what) == (status, True), finding


def test_loopback_alone_has_no_card(tmp_path: Path) -> None:
    machine = machine_of(tmp_path)
    assert network.cards(machine) == []
    assert look(machine, "nic-rings").what.startswith("no network card")


def test_stages_get_the_isolated_cores_or_all_but_the_first() -> None:
    assert cores.stage_cores(Topology((0, 1, 2, 3), frozenset({3}))) == {3}
    assert cores.stage_cores(Topology((0, 1, 2))) == {1, 2}
    assert not cores.stage_cores(Topology((0,)))
    assert {one.id for one in interrupts.SUBJECTS} == {"irq-affinity", "irqbalance"}
