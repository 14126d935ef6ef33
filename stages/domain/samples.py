"""Latency samples, taken on the critical path and counted off it.

A histogram is 200 kB of which a sample touches three lines, cold ones as a rule: between two orders whole milliseconds
pass. Counting two of them before the next stage may run cost more than the check they measure. So a stage notes
(histogram, value) in a few private lines and counts the notes when a poll has found nothing to do.
"""

import numpy as np
from numpy.typing import NDArray

from shm import histogram
from shm.kernel import primitive, routine

CAPACITY = 128
WARM_SAMPLES_BYTES = 320
"""The lines that the samples of a decision are noted in."""


def new_samples() -> NDArray[np.int64]:
    """An empty notebook: the count, then CAPACITY pairs of histogram address and value."""
    return np.zeros(1 + 2 * CAPACITY, np.int64)


@primitive
def note(samples: NDArray[np.int64], base: int, value: int) -> None:
    """Note `value` for the histogram at address `base`; a full notebook is counted first."""
    if samples[0] == CAPACITY:
        count_noted(samples)
    at = samples[0]
    samples[1 + 2 * at] = base
    samples[2 + 2 * at] = value
    samples[0] = at + 1


@routine
def count_noted(samples: NDArray[np.int64]) -> None:
    """Count every note in its histogram."""
    for index in range(samples[0]):
        histogram.record(samples[1 + 2 * index], samples[2 + 2 * index])
    samples[0] = 0
