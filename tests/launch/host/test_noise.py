"""The loop that listens to a core: what it counts, that it is bounded, and that it leaves no trace."""

import os

import numpy as np
import pytest

from launch.doctor import judge_noise
from launch.errors import UnreadableError
from launch.host import noise
from shm.clock import calibrate, frequency_hz
from shm.histogram import HISTOGRAM


def test_each_core_is_listened_to_and_the_affinity_restored() -> None:
    before = os.sched_getaffinity(0)
    cpus = sorted(before)[:2]
    heard = noise.measure(cpus, 0.05)
    assert os.sched_getaffinity(0) == before
    assert [one.cpu for one in heard] == cpus
    for one in heard:
        assert 0 <= one.p999_ns <= one.max_ns
        assert one.duration_s > 0
        assert 0 <= one.lost_ppm <= 1e6
        assert (one.gaps == 0) == (one.max_ns == 0)
        assert one.document().keys() >= {"cpu", "p999_ns", "max_ns"}


def test_the_normal_scheduler_is_kept() -> None:
    noise.measure(sorted(os.sched_getaffinity(0))[:1], 0.01)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_core_that_cannot_be_had_is_an_error_and_the_affinity_restored() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(UnreadableError, match="core 1000: pinning was refused"):
        noise.measure([1000], 0.01)
    assert os.sched_getaffinity(0) == before


def test_every_gap_is_counted_and_none_is_longer_than_the_time() -> None:
    """With a loop time of nothing each read is a gap: then all of the time lies in gaps."""
    histogram, totals = np.zeros(1, HISTOGRAM), np.zeros(2, np.int64)
    noise._spin(histogram.ctypes.data, 0, int(frequency_hz(calibrate()) * 0.001), totals)
    elapsed, lost = totals.tolist()
    assert elapsed == lost
    assert 0 < histogram[0]["max"] <= elapsed
    assert histogram[0]["total_count"] > 0


def test_a_loop_time_longer_than_any_gap_finds_none() -> None:
    histogram, totals = np.zeros(1, HISTOGRAM), np.zeros(2, np.int64)
    noise._spin(histogram.ctypes.data, 1 << 50, int(frequency_hz(calibrate()) * 0.001), totals)
    assert (histogram[0]["total_count"], totals[1]) == (0, 0)


@pytest.mark.parametrize(("max_ns", "status"), [(0, "ok"), (19_999, "ok"), (20_000, "warn"), (1_000_000, "bad")])
def test_the_noisiest_core_decides(max_ns: int, status: str) -> None:
    quiet = noise.Noise(0, 0, 0, 0, 0.0, 80.0, 1.0)
    loud = noise.Noise(1, max_ns, max_ns, 5, 1.0, 80.0, 1.0)
    verdict = judge_noise([quiet, loud])
    assert verdict.status == status
    assert bool(verdict.hint) == (status != "ok")
