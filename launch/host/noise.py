"""How often, and for how long, a core is taken from a program that only reads the clock.

A compiled loop reads the counter over and over. When nothing comes between two reads they are one loop time apart;
GAP_LOOPS times that or more is a gap: an interrupt, another task, the hypervisor, a memory or frequency stall. What a
gap has above the loop time goes into a histogram. The loop runs pinned, under the normal scheduler, in slices that are
bounded by time and by count, so that Ctrl-C is heard and nothing starves; what lies between two slices is not measured.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from launch.errors import UnreadableError
from shm.atomics import cycles
from shm.clock import calibrate, frequency_hz
from shm.histogram import HISTOGRAM, record, to_hdr
from shm.kernel import kernel

GAP_LOOPS = 8
SLICE_S = 0.05
LOOPS_PER_SLICE = 20_000_000
"""Ends a slice whose counter stands still; 50 ms are some 5 million loops."""

SETTLING_READS = 20_000


@dataclass(frozen=True)
class Noise:
    """One core. Times in ns; `p999_ns` and `max_ns` are of the gaps, 0 when there was none."""

    cpu: int
    p999_ns: int
    max_ns: int
    gaps: int
    lost_ppm: float
    """The part of the time that lay in gaps, in millionths."""
    threshold_ns: float
    """What is at least this much above the loop time is a gap."""
    duration_s: float

    def document(self) -> dict[str, float]:
        """For JSON."""
        return {
            "cpu": self.cpu, "p999_ns": self.p999_ns, "max_ns": self.max_ns, "gaps": self.gaps,
            "lost_ppm": round(self.lost_ppm, 1), "threshold_ns": round(self.threshold_ns, 1),
            "duration_s": round(self.duration_s, 3),
        }  # fmt: skip


@kernel
def _loop_cycles(reads: NDArray[np.int64]) -> None:
    """The distances of consecutive reads."""
    last = cycles()
    for index in range(reads.size):
        now = cycles()
        reads[index] = now - last
        last = now


@kernel
def _spin(histogram: int, loop: int, duration: int, totals: NDArray[np.int64]) -> None:
    """Record the gaps, for `duration` cycles. Adds to totals: [cycles elapsed, cycles lost in gaps]."""
    start = cycles()
    last = start
    lost = 0
    for _ in range(LOOPS_PER_SLICE):
        now = cycles()
        gap = now - last - loop
        if gap >= GAP_LOOPS * loop:
            record(histogram, gap)
            lost += gap
        last = now
        if now - start >= duration:
            break
    totals[0] += last - start
    totals[1] += lost


def measure(cpus: Iterable[int], seconds: float) -> list[Noise]:
    """The noise of each core in turn, for `seconds` each. Raises UnreadableError when a core cannot be had."""
    before = os.sched_getaffinity(0)
    clock = calibrate()
    try:
        return [_measure(cpu, seconds, clock) for cpu in cpus]
    finally:
        os.sched_setaffinity(0, before)


def _measure(cpu: int, seconds: float, clock: NDArray[np.int64]) -> Noise:
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise UnreadableError(f"core {cpu}", f"pinning was refused: {error.strerror}") from None
    histogram = np.zeros(1, HISTOGRAM)
    totals = np.zeros(2, np.int64)
    loop, cycle_ns = _loop_time(), 1e9 / frequency_hz(clock)
    _spin(histogram.ctypes.data, loop, 0, totals)  # compiled, or loaded, before the time runs
    histogram[:], totals[:] = 0, 0
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _spin(histogram.ctypes.data, loop, int(min(left, SLICE_S) * 1e9 / cycle_ns), totals)
    gaps = to_hdr(histogram[0])
    greatest = int(histogram[0]["max"])
    p999 = min(greatest, gaps.get_value_at_percentile(99.9)) if greatest else 0
    return Noise(
        cpu, int(p999 * cycle_ns), int(greatest * cycle_ns), gaps.get_total_count(),
        1e6 * int(totals[1]) / max(1, int(totals[0])), GAP_LOOPS * loop * cycle_ns, int(totals[0]) * cycle_ns / 1e9,
    )  # fmt: skip


def _loop_time() -> int:
    """The median distance of two reads, in cycles; the first round warms the loop up."""
    reads = np.zeros(SETTLING_READS, np.int64)
    for _ in range(2):
        _loop_cycles(reads)
    return max(1, int(np.median(reads)))
