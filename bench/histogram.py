"""Recording into an HDR histogram: beside the same buckets in C++, and the hdrhistogram package.

The values are latencies as lines have them: half of them near 200 ns, most others in microseconds, a few in
milliseconds. After every slice the counts are compared with those of an independent count of the same values.
"""

import ctypes
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

from bench.harness import compiled_reference, machine
from bench.laps import CPP, OURS, Lap, Race, absent, budget, pinned
from shm import histogram
from shm.atomics import load_word
from shm.histogram import HIGHEST_NS, HISTOGRAM, HISTOGRAM_BYTES, SIGNIFICANT_DIGITS
from shm.kernel import kernel

VALUES = 1 << 16
PACKAGE = "hdrhistogram"
RECORD_NS_MAX = 10.0


@kernel
def _record_all(base: int, values: int, mask: int, count: int) -> None:
    for index in range(count):
        histogram.record(base, load_word(values + 8 * (index & mask)))


def latencies() -> np.ndarray:
    """VALUES latencies in ns, always the same."""
    random = np.random.default_rng(1)
    quick, usual, slow = (
        random.normal(200, 30, VALUES),
        random.lognormal(8.5, 1, VALUES),
        random.lognormal(14, 1, VALUES),
    )
    kind = random.random(VALUES)
    values = np.where(kind < 0.5, quick, np.where(kind < 0.99, usual, slow))
    return np.clip(values, 0, HIGHEST_NS).astype(np.int64)


class Recorder:
    """A histogram that slice after slice fills further, by `fill(address, values, mask, count)`."""

    def __init__(self, fill: Any, values: np.ndarray, expected: np.ndarray) -> None:
        self._fill, self._values, self._expected = fill, values, expected
        self._memory = mmap.mmap(-1, -(-HISTOGRAM_BYTES // 4096) * 4096)
        self._record = np.frombuffer(self._memory, HISTOGRAM, 1)
        self._address = int(self._record.ctypes.data)
        self._total = np.zeros_like(self._record["counts"][0])

    def __call__(self, count: int) -> Callable[[], int]:
        self._fill(self._address, self._values.ctypes.data, VALUES - 1, count)
        return lambda: self._wrong(count)

    def _wrong(self, count: int) -> int:
        self._total += self._counts(count)
        found = self._record[0]
        wrong = np.abs(found["counts"] - self._total).sum() + abs(int(found["total_count"]) - int(self._total.sum()))
        return int(wrong) + (count >= VALUES and int(found["max"]) != int(self._values.max()))

    def _counts(self, count: int) -> np.ndarray:
        laps, rest = divmod(count, VALUES)
        size = len(self._record[0]["counts"])
        return laps * np.bincount(self._expected, minlength=size) + np.bincount(self._expected[:rest], minlength=size)


def _package_lap(values: np.ndarray) -> Lap:
    as_ints = values.tolist()

    def lap(count: int) -> Callable[[], int]:
        recorded = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
        for index in range(count):
            recorded.record_value(as_ints[index & (VALUES - 1)])
        return lambda: abs(recorded.get_total_count() - count)

    return lap


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document."""
    values = latencies()
    package = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
    expected = np.array([package._counts_index_for(value) for value in values.tolist()])
    laps: dict[str, Lap] = {OURS: Recorder(_record_all, values, expected)}
    with compiled_reference(Path(__file__).parent / "histogram.cpp", "-shared", "-fPIC") as library:
        if library is not None:
            record_all = ctypes.CDLL(str(library)).record_all
            record_all.argtypes, record_all.restype = [ctypes.c_int64] * 4, None
            laps[CPP] = Recorder(record_all, values, expected)
        laps[PACKAGE] = _package_lap(values)
        race = Race({"record": laps}, quick=quick)
        with pinned(0):
            race.run()
    return {
        "bench": "histogram",
        "machine": machine(),
        "results": [*race.results(), *absent([CPP] if CPP not in laps else [], "no g++")],
        "ratios": race.ratios(),
        "budgets": [budget("record, ns", race.ours("record"), RECORD_NS_MAX)],
    }
