"""What does not fit into this machine's memory is refused before anything is created."""

from pathlib import Path

import pytest

from launch import preflight
from launch.errors import MachineError
from shm.control import STATUS
from shm.segment import record_layout, ring_layout
from tests.launch.fake_machine import GOOD, machine_of


def test_segments_that_do_not_fit_are_refused_before_anything_is_created() -> None:
    huge = ring_layout(STATUS, 1 << 40)
    with pytest.raises(MachineError, match="MB needed") as caught:
        preflight.check_room([huge])
    assert "shm-size" in caught.value.hint


def test_needed_memory_counts_headers_and_whole_pages() -> None:
    assert preflight.needed_bytes([record_layout(STATUS)]) == 8192


def test_available_memory_is_the_systems_or_what_a_control_group_leaves(tmp_path: Path) -> None:
    facts = {"/proc/meminfo": "MemTotal:  16000000 kB\nMemAvailable:  1000 kB\n"}
    assert preflight.available_bytes(machine_of(tmp_path / "free", GOOD | facts)) == 1_024_000
    group = {
        "/proc/self/cgroup": "0::/box\n",
        "/sys/fs/cgroup/box/memory.max": "900000\n",
        "/sys/fs/cgroup/box/memory.current": "500000\n",
    }
    assert preflight.available_bytes(machine_of(tmp_path / "box", GOOD | facts | group)) == 400_000


def test_memory_that_is_not_there_is_refused_with_both_figures() -> None:
    with pytest.raises(MachineError, match=r"1125899906\.8 MB of memory needed, [0-9.]+ MB available"):
        preflight.check_memory(1 << 50, "take less")
