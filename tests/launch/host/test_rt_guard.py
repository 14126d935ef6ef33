"""What stops a FIFO spinner, and so whether it may be one, on kernels of any age, build and configuration."""

from pathlib import Path

import pytest

from launch.errors import UnreadableError
from launch.host.rt_guard import PERIOD, RUNTIME, RtGuard, read_rt_guard
from tests.launch.fake_machine import GOOD, machine_of

GROUPS = "CONFIG_RT_GROUP_SCHED=y\n"
GROUPS_OFF = f"{GROUPS}CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y\n"


def kernel(
    root: Path, release: str, runtime: str, config: str | None = "CONFIG_X=y\n", cmdline: str = "", **files: str
) -> RtGuard:
    return read_rt_guard(machine_of(root, GOOD | {
        "/proc/sys/kernel/osrelease": release, RUNTIME: runtime, PERIOD: "1000000", "/proc/cmdline": cmdline,
        f"/boot/config-{release}": config,
    } | files))  # fmt: skip


@pytest.mark.parametrize(
    ("release", "runtime", "config", "cmdline", "mechanism", "plain", "isolated"),
    [
        ("5.15.0-91-generic", "950000", "x", "", "throttled: it runs 950000 of every 1000000", False, False),
        ("5.15.0-91-generic", "-1", "x", "", "not throttled", False, True),
        ("5.15.0-91-generic", "1000000", "x", "", "not throttled", False, True),
        ("6.11.9", "950000", "x", "", "throttled: it runs 950000 of every 1000000", False, False),
        ("6.12.0", "950000", "# CONFIG_RT_GROUP_SCHED is not set", "", "a fair server, no throttle", True, True),
        ("6.12.0", "950000", None, "", "cannot be read here", True, True),
        ("6.18.4", "950000", GROUPS, "", "keeps the throttle for RT_GROUP_SCHED", False, False),
        ("6.18.4", "-1", GROUPS, "", "a fair server, no throttle", True, True),
        ("6.18.4", "950000", GROUPS, "rt_group_sched=0", "a fair server, no throttle", True, True),
        ("6.18.4", "950000", GROUPS_OFF, "", "a fair server, no throttle", True, True),
        ("6.18.4", "950000", GROUPS_OFF, "rt_group_sched=1", "keeps the throttle", False, False),
        ("7.0-rc1", "950000", "x", "", "a fair server, no throttle", True, True),
        ("10.0.0", "950000", "x", "", "a fair server, no throttle", True, True),
    ],
)  # fmt: skip
def test_the_mechanism_is_named_and_decides(
    release: str, runtime: str, config: str | None, cmdline: str, mechanism: str, plain: bool, isolated: bool,
    tmp_path: Path,
) -> None:  # fmt: skip
    guard = kernel(tmp_path, release, runtime, config, cmdline)
    assert mechanism in guard.mechanism
    for is_isolated, is_granted in ((False, plain), (True, isolated)):
        refusal = guard.refusal(is_isolated)
        assert (refusal is None) == is_granted
        assert refusal is None or (refusal.why and refusal.hint)


def test_a_throttled_kernel_says_what_would_end_it(tmp_path: Path) -> None:
    refusal = kernel(tmp_path, "5.15.0", "950000").refusal(isolated=True)
    assert refusal is not None
    assert refusal.hint == "sysctl -w kernel.sched_rt_runtime_us=-1"


def test_a_group_with_a_real_time_budget_shows_it_whatever_the_configuration_says(tmp_path: Path) -> None:
    group = {"/proc/self/cgroup": "1:cpu:/\n", "/sys/fs/cgroup/cpu/cpu.rt_runtime_us": "950000\n"}
    assert kernel(tmp_path, "6.14.0", "950000", "# CONFIG_RT_GROUP_SCHED is not set\n", **group).throttles


def test_a_kernel_that_tells_nothing_is_an_error_and_the_default_is_a_present_one(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError):
        read_rt_guard(machine_of(tmp_path, {}))
    assert RtGuard().refusal(isolated=False) is None
