"""Which mechanism stops a spinning real-time process, by kernel version, build and sysctl."""

from pathlib import Path

import pytest

from launch.realtime import PERIOD, RUNTIME, real_time_limit
from tests.launch.fake_machine import GOOD, machine_of

CONFIG = "/boot/config-{}"
GROUPS = "CONFIG_RT_GROUP_SCHED=y\n"
GROUPS_OFF = f"{GROUPS}CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y\n"


@pytest.mark.parametrize(
    ("release", "runtime", "config", "cmdline", "throttles", "words"),
    [
        ("5.15.0", "950000", "x", "", True, "950000 of every 1000000"),
        ("5.15.0", "-1", "x", "", False, "not throttled"),
        ("5.15.0", "1000000", "x", "", False, "not throttled"),
        ("6.11.9", "950000", "x", "", True, "950000 of every 1000000"),
        ("6.12.0", "950000", "x", "", False, "fair server"),
        ("6.12.0", "950000", None, "", False, "cannot be read here"),
        ("6.18.4", "950000", GROUPS, "", True, "RT_GROUP_SCHED"),
        ("6.18.4", "-1", GROUPS, "", False, "fair server"),
        ("6.18.4", "950000", GROUPS, "rt_group_sched=0", False, "fair server"),
        ("6.18.4", "950000", GROUPS_OFF, "", False, "fair server"),
        ("6.18.4", "950000", GROUPS_OFF, "rt_group_sched=1", True, "throttled"),
        ("10.0.0", "950000", "x", "", False, "fair server"),
    ],
)  # fmt: skip
def test_the_mechanism(
    release: str, runtime: str, config: str | None, cmdline: str, throttles: bool, words: str, tmp_path: Path
) -> None:
    limit = real_time_limit(machine_of(tmp_path, GOOD | {
        "/proc/sys/kernel/osrelease": release, RUNTIME: runtime, PERIOD: "1000000", "/proc/cmdline": cmdline,
        CONFIG.format(release): config,
    }))  # fmt: skip
    assert limit.throttles == throttles
    assert words in limit.words


def test_a_group_with_a_real_time_budget_shows_how_the_kernel_was_built(tmp_path: Path) -> None:
    limit = real_time_limit(machine_of(tmp_path, GOOD | {
        "/proc/sys/kernel/osrelease": "6.14.0", RUNTIME: "950000", "/proc/self/cgroup": "1:cpu:/\n",
        "/sys/fs/cgroup/cpu/cpu.rt_runtime_us": "950000\n",
    }))  # fmt: skip
    assert limit.throttles
