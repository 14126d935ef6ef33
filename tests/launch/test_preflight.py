"""What does not fit into this machine's memory is refused before anything is created."""

import pytest

from launch import preflight
from launch.errors import MachineError
from shm.control import STATUS
from shm.segment import record_layout, ring_layout


def test_segments_that_do_not_fit_are_refused_before_anything_is_created() -> None:
    huge = ring_layout(STATUS, 1 << 40)
    with pytest.raises(MachineError, match="MB needed") as caught:
        preflight.check_room([huge])
    assert "shm-size" in caught.value.hint


def test_needed_memory_counts_headers_and_whole_pages() -> None:
    assert preflight.needed_bytes([record_layout(STATUS)]) == 8192
