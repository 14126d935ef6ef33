"""HDR histogram in shared memory: fixed memory, 3 significant digits, recorded and merged by compiled code.

The buckets are those of HdrHistogram (Gil Tene) with lowest trackable value 1, as the hdrhistogram package computes
them: values below 2048 have a counter each; every power of two above that is cut into 1024 equal parts. Counts are
identical to that package's for the same values, so its tools read them (`to_hdr`, `shm.histogram_log`).

Byte picture (offsets from the histogram's base address, a multiple of 64; all words int64, all zero when fresh):

      0  total_count      samples whose counting is over
      8  min              the least sample, exact; means nothing while there is none
     16  max              the greatest sample, exact
     24  saturated        samples above HIGHEST_NS; each is counted as HIGHEST_NS too
     32  nothing
     64  counts           one counter for each of BUCKET_COUNT buckets

One process writes all of it; any number of others map it read-only. Nobody waits for anybody, nothing is ever taken
back, and every function is bounded.

Order. A sample's words are stored untorn: saturated, min, max, its counter, total_count. The last one is a release
store, the others are relaxed: whoever loads total_count = n with acquire sees the counters of n samples at least, and
no reader may rely on more. So the counters alone say what was recorded: a reader sums them, and takes min and max for
what they are within the lowest and the highest occupied bucket (`to_hdr` and `add` do both).

What a writer that dies leaves behind, by the last store it made (a reader of a live writer may see the same, and on
weakly ordered machines any mixture of the first three):

    saturated   one more than the samples above the limit that are counted       a reader shows it: one too many
    min, max    a value that no counter holds                                    shows the occupied bucket's nearest
    a counter   a sample that total_count lacks, for good                        shows the counters' sum
    total_count nothing that disagrees

`record_corrected` stores many counters before total_count, and `add` all of them: killed in between, some samples of
that one call are counted and the others are not. A writer that starts anew just goes on. Only a first sample whose
writer died before total_count was stored is special: the next sample then sets min as a first one does. That too stays
within the lowest occupied bucket, 0.1 % wide, because readers put it there.

Data can be lost, here: the sample that was being counted, at a kill. Values are never refused: those below 0 count as
0, those above HIGHEST_NS as HIGHEST_NS, and these are counted apart as well.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

from shm.atomics import leading_zeros, load_relaxed, load_word, peek, store_relaxed, store_release
from shm.kernel import kernel, primitive

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


@primitive
def lowest_value(bucket: int) -> int:
    """The least value that is counted in `bucket`."""
    exponent = max(0, (bucket >> SUB_BUCKET_HALF_MAGNITUDE) - 1)
    return (bucket - (exponent << SUB_BUCKET_HALF_MAGNITUDE)) << exponent


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
        store_relaxed(base + SATURATED, load_relaxed(base + SATURATED) + 1)
    total = load_word(base + TOTAL)
    _widen(base, total, value, value)
    address = base + COUNTS + 8 * bucket_of(value)
    # A plain load and a relaxed store are two instructions and an addition, both relaxed one: 1.50 and 1.37 ns.
    store_relaxed(address, load_relaxed(address) + 1)
    _complete(base, total + 1)


@primitive
def _widen(base: int, total: int, least: int, greatest: int) -> None:
    """Let min and max include samples that are about to be counted beside `total` others."""
    if total == 0 or least < load_word(base + MINIMUM):
        store_relaxed(base + MINIMUM, least)
    if greatest > load_word(base + MAXIMUM):
        store_relaxed(base + MAXIMUM, greatest)


@primitive
def _complete(base: int, total: int) -> None:
    """The counters are stored: whoever sees this total with acquire sees them."""
    store_release(base + TOTAL, total)


@primitive
def record_corrected(base: int, value: int, expected_interval: int) -> None:
    """Count `value`, and the samples that it kept from being taken: one each `expected_interval`, while it lasted.

    HdrHistogram's recordValueWithExpectedInterval, for loops that wait for one answer before they ask again: an answer
    after 10 s where one was expected every 1 s hid nine others, of 9 s, 8 s and so on ("coordinated omission"). The
    values are value, value - expected_interval, ... as long as they are positive; without a positive interval it is
    value alone. So does the hdrhistogram package; Java's leaves out a last value that is less than the interval.

    Bounded whatever the interval: a turn of the loop counts all the values of one bucket, and goes on in a lower one.
    So there are at most BUCKET_COUNT turns, and at most one per value.
    """
    if expected_interval <= 0 or value <= expected_interval:
        record(base, value)
        return
    if value > HIGHEST_NS:
        value = HIGHEST_NS
        store_relaxed(base + SATURATED, load_relaxed(base + SATURATED) + 1)
    samples = (value - 1) // expected_interval + 1
    total = load_word(base + TOTAL)
    _widen(base, total, value - (samples - 1) * expected_interval, value)
    left = value
    while left > 0:
        bucket = bucket_of(left)
        above = left - lowest_value(bucket)
        alike = 1 if above < expected_interval else above // expected_interval + 1
        address = base + COUNTS + 8 * bucket
        store_relaxed(address, load_relaxed(address) + alike)
        left -= alike * expected_interval
    _complete(base, total + samples)


@primitive
def add(target: int, source: int) -> int:
    """Count all samples of the histogram at `source` in the one at `target` as well; returns how many there were.

    This process must be the writer of `target`; `source` may have a live writer elsewhere, and is only read. What is
    added is consistent in itself, whatever the source's words say: the total is the sum of the counters that were read,
    min and max lie in the lowest and the highest bucket among them. BUCKET_COUNT turns, about 15 µs.
    """
    samples, first, last = 0, 0, 0
    for bucket in range(BUCKET_COUNT):
        count = load_relaxed(source + COUNTS + 8 * bucket)
        if count != 0:
            if samples == 0:
                first = bucket
            last = bucket
            samples += count
            address = target + COUNTS + 8 * bucket
            store_relaxed(address, load_relaxed(address) + count)
    if samples == 0:
        return 0
    saturated = load_relaxed(source + SATURATED)
    store_relaxed(target + SATURATED, load_relaxed(target + SATURATED) + saturated)
    least = min(max(load_relaxed(source + MINIMUM), lowest_value(first)), lowest_value(first + 1) - 1)
    greatest = min(max(load_relaxed(source + MAXIMUM), lowest_value(last)), lowest_value(last + 1) - 1)
    total = load_word(target + TOTAL)
    _widen(target, total, least, greatest)
    _complete(target, total + samples)
    return samples


@kernel
def _record(base: int, value: int) -> None:
    record(base, value)


@kernel
def _record_corrected(base: int, value: int, expected_interval: int) -> None:
    record_corrected(base, value, expected_interval)


@kernel
def _add(target: int, source: int) -> int:
    return add(target, source)


class Histogram:
    """A histogram for ordinary Python, over the same bytes; the mapping of `base` must outlive it.

    Whoever calls `record`, `record_corrected` or `add` is the histogram's one writer.
    """

    def __init__(self, base: int) -> None:
        self._base = base

    @property
    def total_count(self) -> int:
        """Samples whose counting is over."""
        return peek(self._base + TOTAL)

    @property
    def saturated(self) -> int:
        """Samples above HIGHEST_NS."""
        return peek(self._base + SATURATED)

    def record(self, value: int) -> None:
        """Count `value`."""
        _record(self._base, _as_word(value))

    def record_corrected(self, value: int, expected_interval: int) -> None:
        """Count `value` and what it kept from being measured, as the primitive does."""
        _record_corrected(self._base, _as_word(value), _as_word(expected_interval))

    def add(self, other: "Histogram") -> int:
        """Count all samples of `other` here as well; returns how many there were."""
        return int(_add(self._base, other._base))

    def copy(self) -> np.ndarray[Any, Any]:
        """A copy that is consistent in itself, taken while the writer may be writing; a 1-element array."""
        made = np.zeros(1, HISTOGRAM)
        _add(made.ctypes.data, self._base)
        return made


def _as_word(value: int) -> int:
    """Integers beyond the limits count as those just beyond them."""
    return max(-1, min(value, HIGHEST_NS + 1))


def merged(histograms: Iterable[np.void | np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """One histogram of the samples of all `histograms` (HISTOGRAM records), a 1-element array."""
    made = np.zeros(1, HISTOGRAM)
    for each in histograms:
        source = np.array([each], HISTOGRAM).reshape(1)
        _add(made.ctypes.data, source.ctypes.data)
    return made


def since(earlier: np.void | np.ndarray[Any, Any], later: np.void | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What was recorded between two copies of one histogram, a 1-element array; min and max are their buckets' ends.

    Raises ValueError when `later` lacks samples that `earlier` has.
    """
    counts = np.asarray(later["counts"]).reshape(-1) - np.asarray(earlier["counts"]).reshape(-1)
    if (counts < 0).any():
        bucket = int(np.argmax(counts < 0))
        raise ValueError(f"bucket {bucket} lost {-counts[bucket]} samples: not copies of one histogram, or exchanged")
    made = np.zeros(1, HISTOGRAM)
    made["counts"], made["total_count"] = counts, counts.sum()
    made["saturated"] = int(_scalar(later, "saturated")) - int(_scalar(earlier, "saturated"))
    hdr = to_hdr(made[0])
    if hdr.total_count:
        made["min"] = max(hdr.get_min_value(), _scalar(later, "min"))
        made["max"] = min(hdr.get_max_value(), _scalar(later, "max"))
    return made


def _scalar(histogram: np.void | np.ndarray[Any, Any], name: str) -> int:
    return int(np.asarray(histogram[name]).reshape(-1)[0])


def to_hdr(histogram: np.void | np.ndarray[Any, Any]) -> HdrHistogram:
    """A copy of one HISTOGRAM record as an object of the hdrhistogram package, consistent in itself.

    That package encodes the counters up to its max_value: one that lay below the highest occupied bucket would make it
    leave samples out.
    """
    result = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
    counts = np.asarray(histogram["counts"]).reshape(-1)
    occupied = np.nonzero(counts)[0]
    for index in occupied:
        result.counts[int(index)] = int(counts[index])
    result.total_count = int(counts.sum())
    if len(occupied):
        result.min_value = _within(result, int(occupied[0]), _scalar(histogram, "min"))
        result.max_value = _within(result, int(occupied[-1]), _scalar(histogram, "max"))
    return result


def _within(hdr: HdrHistogram, bucket: int, value: int) -> int:
    """`value`, or the nearest that is counted in `bucket`."""
    lowest = hdr.get_value_from_index(bucket)
    return int(max(lowest, min(value, hdr.get_highest_equivalent_value(lowest))))
