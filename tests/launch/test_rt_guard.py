"""What protects a machine from a FIFO spinner, on kernels of any age and configuration."""

import gzip
from pathlib import Path

import pytest

from launch.rt_guard import RtGuard, read_rt_guard
from tests.launch.machines import write


def kernel(root: Path, release: str, runtime_us: int, config: str = "") -> RtGuard:
    write(root, {
        "proc/sys/kernel/osrelease": f"{release}\n",
        "proc/sys/kernel/sched_rt_runtime_us": f"{runtime_us}\n",
        "proc/sys/kernel/sched_rt_period_us": "1000000\n",
        f"boot/config-{release}": f"CONFIG_X=y\n{config}\nCONFIG_Z=y\n",
    })  # fmt: skip
    return read_rt_guard(root)


@pytest.mark.parametrize(
    ("release", "runtime_us", "config", "mechanism", "plain", "isolated"),
    [
        ("5.15.0-91-generic", 950_000, "", "stopped for 50 ms of every 1000 ms", False, False),
        ("5.15.0-91-generic", -1, "", "none: neither throttle nor fair server", False, True),
        ("5.15.0-91-generic", 1_000_000, "", "none: neither throttle nor fair server", False, True),
        ("6.12.1", 950_000, "# CONFIG_RT_GROUP_SCHED is not set", "fair server", True, True),
        ("6.18.44", 950_000, "CONFIG_RT_GROUP_SCHED=y", "stopped for 50 ms of every 1000 ms", False, False),
        ("6.18.44", -1, "CONFIG_RT_GROUP_SCHED=y", "fair server", True, True),
        ("7.0-rc1", 950_000, "", "fair server", True, True),
    ],
)
def test_the_mechanism_is_named_and_decides(
    release: str, runtime_us: int, config: str, mechanism: str, plain: bool, isolated: bool, tmp_path: Path
) -> None:
    guard = kernel(tmp_path, release, runtime_us, config)
    assert mechanism in guard.mechanism
    for is_isolated, is_granted in ((False, plain), (True, isolated)):
        refusal = guard.refusal(is_isolated)
        assert (refusal is None) == is_granted
        assert refusal is None or (refusal.why and refusal.hint)


def test_a_throttled_kernel_says_what_would_end_it(tmp_path: Path) -> None:
    refusal = kernel(tmp_path, "5.15.0", 950_000).refusal(isolated=True)
    assert refusal is not None
    assert refusal.hint == "sysctl -w kernel.sched_rt_runtime_us=-1"


def test_the_configuration_is_read_from_the_kernel_itself_too(tmp_path: Path) -> None:
    kernel(tmp_path, "6.18.44", 950_000)
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_A=y\nCONFIG_RT_GROUP_SCHED=y\n"))
    assert "stopped" in read_rt_guard(tmp_path).mechanism


def test_the_older_control_groups_tell_it_as_well(tmp_path: Path) -> None:
    kernel(tmp_path, "6.18.44", 950_000)
    write(tmp_path, {"sys/fs/cgroup/cpu/cpu.rt_runtime_us": "950000\n"})
    assert "stopped" in read_rt_guard(tmp_path).mechanism


def test_a_kernel_that_tells_nothing_is_taken_to_be_a_present_one(tmp_path: Path) -> None:
    assert read_rt_guard(tmp_path).refusal(isolated=False) is None
