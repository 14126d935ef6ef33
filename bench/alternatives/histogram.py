"""Ways to record a latency that lost against shm/histogram.py: counts are compared with an independent count.

binary search      of the bucket's edges (numpy.searchsorted): no arithmetic to get wrong, 15 steps a sample
shift loop         the exponent by shifting until the value fits, as code without a count of leading zeros does
full fence         the total stored sequentially consistent: a reader would know no more
array arguments    the same arithmetic over a record array in plain Numba

Measured as in ring.py, ns a sample and the winner's cost over it (medians of 120 rounds): shm.histogram 3.5; binary
search 71 (0.05); shift loop 8.5 (0.39); full fence 4.9 (0.71); array arguments 3.4 (1.06: nothing lost but the order of
its stores, which LLVM may exchange, so that a reader may see a total before its counters).
"""

from typing import Any

import numba
import numpy as np
from hdrh.histogram import HdrHistogram

from bench.histogram import SIGNIFICANT_DIGITS, VALUES, Recorder, latencies
from bench.laps import Lap, Race, pinned
from shm import histogram
from shm.atomics import fence_seq_cst, load_relaxed, load_word, store_relaxed
from shm.histogram import BUCKET_COUNT, COUNTS, HIGHEST_NS, MAXIMUM, MINIMUM, SUB_BUCKET_HALF_MAGNITUDE, TOTAL
from shm.kernel import primitive

WINNER = "shm.histogram"


def _edges() -> np.ndarray:
    """The least value of each bucket."""
    exponents = np.maximum(0, (np.arange(BUCKET_COUNT) >> SUB_BUCKET_HALF_MAGNITUDE) - 1)
    return (np.arange(BUCKET_COUNT) - (exponents << SUB_BUCKET_HALF_MAGNITUDE)) << exponents


EDGES = _edges()
_EDGES = int(EDGES.ctypes.data)


@primitive
def bucket_by_search(value: int, edges: int) -> int:
    low, high = 0, BUCKET_COUNT
    while high - low > 1:
        middle = (low + high) >> 1
        if load_word(edges + 8 * middle) <= value:
            low = middle
        else:
            high = middle
    return low


@primitive
def bucket_by_shifting(value: int, edges: int) -> int:
    exponent = 0
    left = value
    while left > histogram.SUB_BUCKET_MASK:
        left >>= 1
        exponent += 1
    return (exponent << SUB_BUCKET_HALF_MAGNITUDE) + left


@primitive
def bucket_by_zeros(value: int, edges: int) -> int:
    return histogram.bucket_of(value)


def _recorder(bucket: Any, *, fenced: bool) -> Any:
    """`fill(base, values, mask, count)` around a way to find the bucket; the rest is the winner's `record`."""

    @numba.njit(nogil=True, error_model="numpy", _nrt=False)
    def record_all(base, values, mask, count, edges):  # type: ignore[no-untyped-def]
        for index in range(count):
            value = min(max(load_word(values + 8 * (index & mask)), 0), HIGHEST_NS)
            total = load_word(base + TOTAL)
            if total == 0 or value < load_word(base + MINIMUM):
                store_relaxed(base + MINIMUM, value)
            if value > load_word(base + MAXIMUM):
                store_relaxed(base + MAXIMUM, value)
            address = base + COUNTS + 8 * bucket(value, edges)
            store_relaxed(address, load_relaxed(address) + 1)
            histogram._complete(base, total + 1)
            if fenced:
                fence_seq_cst()

    return lambda base, values, mask, count: record_all(base, values, mask, count, _EDGES)


@numba.njit(nogil=True)
def _record_array(record, values, count):  # type: ignore[no-untyped-def]
    for index in range(count):
        value = values[index & (VALUES - 1)]
        if record[0].total_count == 0 or value < record[0].min:
            record[0].min = value
        if value > record[0].max:
            record[0].max = value
        record[0].counts[histogram.bucket_of(value)] += 1
        record[0].total_count += 1


class _ArrayRecorder(Recorder):
    """The same, over numpy arrays."""

    def __init__(self, values: np.ndarray, expected: np.ndarray) -> None:
        super().__init__(self._fill_arrays, values, expected)

    def _fill_arrays(self, base: int, values: int, mask: int, count: int) -> None:
        _record_array(self._record, self._values, count)


def run(*, quick: bool = False) -> dict[str, Any]:
    """Results and ratios: the winner's cost over each alternative's."""
    values = latencies()
    package = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
    expected = np.array([package._counts_index_for(value) for value in values.tolist()])
    laps: dict[str, Lap] = {
        WINNER: Recorder(_recorder(bucket_by_zeros, fenced=False), values, expected),
        "binary search": Recorder(_recorder(bucket_by_search, fenced=False), values, expected),
        "shift loop": Recorder(_recorder(bucket_by_shifting, fenced=False), values, expected),
        "full fence": Recorder(_recorder(bucket_by_zeros, fenced=True), values, expected),
        "array arguments": _ArrayRecorder(values, expected),
    }
    race = Race({"record": laps}, quick=quick)
    with pinned(0):
        race.run()
    return {
        "results": [row | {"name": f"histogram: {row['name']}"} for row in race.results()],
        "ratios": race.ratios(WINNER),
    }
