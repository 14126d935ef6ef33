"""Facts as files: numbers, lists, chosen words, the kernel's configuration, this process's limits."""

import gzip
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.errors import UnreadableError
from launch.host.control_groups import folders, least
from launch.host.cpu_lists import cpu_list, parse_cpu_list
from launch.host.machine import Machine
from tests.launch.fake_machine import machine_of


@given(st.sets(st.integers(0, 300)))
def test_a_list_of_cores_reads_back(cores: set[int]) -> None:
    assert parse_cpu_list(cpu_list(cores)) == cores


def test_lists_are_as_short_as_the_kernel_writes_them() -> None:
    assert cpu_list({7, 0, 1, 2}) == "0-2,7"
    assert (cpu_list(()), parse_cpu_list("")) == ("", frozenset())


@pytest.mark.parametrize(
    ("text", "read"),
    [("x", "number"), ("a b", "chosen"), ("1-x", "cpus")],
)
def test_what_a_file_should_not_say_is_an_error_with_its_name(text: str, read: str, tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {"/proc/x": text})
    with pytest.raises(UnreadableError, match=f"/proc/x: .*{text}"):
        getattr(machine, read)("/proc/x")
    with pytest.raises(UnreadableError, match="/proc/y: No such file"):
        getattr(machine, read)("/proc/y")


def test_names_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {f"/sys/cpu{number}/x": "" for number in (10, 2, 1)})
    assert machine.names("/sys/cpu*/x") == ["/sys/cpu1/x", "/sys/cpu2/x", "/sys/cpu10/x"]


def test_the_kernels_configuration_is_found_compressed_or_not(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {"/proc/sys/kernel/osrelease": "6.1.0\n"})
    assert machine.kernel_option("HZ") is None
    machine_of(tmp_path, {"/boot/config-6.1.0": 'CONFIG_HZ=250\nCONFIG_NAME="x"\n# CONFIG_NO_HZ_FULL is not set\n'})
    assert [machine.kernel_option(name) for name in ("HZ", "NAME", "NO_HZ_FULL")] == ["250", "x", "n"]
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_HZ=1000\n"))
    assert machine.kernel_option("HZ") == "1000"
    (tmp_path / "proc/config.gz").write_bytes(b"\x1f\x8b cut short")
    assert machine.kernel_option("HZ") == "250"


def test_this_process_is_read_as_the_system_calls_tell_it() -> None:
    machine = Machine()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert machine.limit("Max open files") == (None if soft == resource.RLIM_INFINITY else soft)
    assert machine.status_field("Uid").split()[0] == str(os.getuid())
    assert machine.release == os.uname().release


def test_groups_are_those_of_the_process_and_above_it(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, {
        "/proc/self/cgroup": "5:pids:/x\n4:cpu,cpuacct:/host/only\n0::/a/b\n",
        "/sys/fs/cgroup/a/b/memory.max": "max\n", "/sys/fs/cgroup/a/memory.max": "7\n",
        "/sys/fs/cgroup/pids/x/pids.max": "5\n", "/sys/fs/cgroup/cpu/cpu.shares": "1\n",
    })  # fmt: skip
    assert list(folders(machine, "memory")) == ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]
    assert "/sys/fs/cgroup/cpu" in folders(machine, "cpu"), "a container sees the host's path and only its own root"
    assert least(machine, "memory", "memory.max") == (7, "/sys/fs/cgroup/a")
    assert least(machine, "pids", "pids.max") == (5, "/sys/fs/cgroup/pids/x")
    assert least(machine, "memory", "memory.high") is None
