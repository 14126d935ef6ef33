"""HDR histogram in shared memory: fixed memory, 3 significant digits, recorded by compiled code.

The buckets are those of HdrHistogram (Gil Tene) with lowest trackable value 1, as the hdrhistogram package computes
them: values below 2048 have a counter each; every power of two above that is cut into 1024 equal parts. Counts are
identical to that package's for the same values, so its tools read them.

Byte picture: total_count, min, max, saturated (values above the highest trackable, counted at the highest), then one
int64 counter per bucket. One writing process; readers copy and may see a value's counter before the total.
"""

import numpy as np
from hdrh.histogram import HdrHistogram

from shm.atomics import leading_zeros, load_word, store_word
from shm.kernel import primitive

HIGHEST_NS = 60_000_000_000
"""One minute: nothing this system times takes longer and is still a latency."""

SIGNIFICANT_DIGITS = 3
SUB_BUCKET_HALF_MAGNITUDE = 10
SUB_BUCKET_HALF_COUNT = 1 << SUB_BUCKET_HALF_MAGNITUDE
SUB_BUCKET_MASK = (SUB_BUCKET_HALF_COUNT << 1) - 1

TOTAL = 0
MINIMUM = 8
MAXIMUM = 16
SATURATED = 24
COUNTS = 64


@primitive
def bucket_of(value: int) -> int:
    """Index of the counter of `value`, 0 <= value."""
    exponent = 64 - SUB_BUCKET_HALF_MAGNITUDE - 1 - leading_zeros(value | SUB_BUCKET_MASK)
    return (exponent << SUB_BUCKET_HALF_MAGNITUDE) + (value >> exponent)


def _bucket_count() -> int:
    exponent = max(0, HIGHEST_NS.bit_length() - SUB_BUCKET_HALF_MAGNITUDE - 1)
    return (exponent + 2) << SUB_BUCKET_HALF_MAGNITUDE


BUCKET_COUNT = _bucket_count()
HISTOGRAM_BYTES = COUNTS + 8 * BUCKET_COUNT
HISTOGRAM = np.dtype(
    {
        "names": ["total_count", "min", "max", "saturated", "counts"],
        "formats": ["<i8", "<i8", "<i8", "<i8", ("<i8", (BUCKET_COUNT,))],
        "offsets": [TOTAL, MINIMUM, MAXIMUM, SATURATED, COUNTS],
        "itemsize": HISTOGRAM_BYTES,
    }
)


@primitive
def record(base: int, value: int) -> None:
    """Count `value` in the histogram at address `base`. Negative values count as 0, too large ones as the highest."""
    if value < 0:
        value = 0
    if value > HIGHEST_NS:
        value = HIGHEST_NS
        store_word(base + SATURATED, load_word(base + SATURATED) + 1)
    total = load_word(base + TOTAL)
    if total == 0 or value < load_word(base + MINIMUM):
        store_word(base + MINIMUM, value)
    if value > load_word(base + MAXIMUM):
        store_word(base + MAXIMUM, value)
    address = base + COUNTS + 8 * bucket_of(value)
    store_word(address, load_word(address) + 1)
    store_word(base + TOTAL, total + 1)


def to_hdr(histogram: np.void | np.ndarray) -> HdrHistogram:
    """A copy of one HISTOGRAM record as an object of the hdrhistogram package."""
    result = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
    counts = np.asarray(histogram["counts"])
    occupied = np.nonzero(counts)[0]
    for index in occupied:
        result.counts[int(index)] = int(counts[index])
    result.total_count = int(counts.sum())
    if len(occupied):
        result.min_value = int(histogram["min"])
        result.max_value = int(histogram["max"])
    return result
