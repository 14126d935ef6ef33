"""The shared histogram against the hdrhistogram package."""

import numpy as np
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from shm import histogram
from shm.kernel import kernel

VALUES = st.one_of(st.integers(0, 5000), st.integers(0, histogram.HIGHEST_NS))


@kernel
def _record(base: int, value: int) -> None:
    histogram.record(base, value)


@given(values=st.lists(VALUES, min_size=1, max_size=200))
def test_counts_and_percentiles_are_those_of_the_hdrhistogram_package(values: list[int]) -> None:
    ours = np.zeros(1, histogram.HISTOGRAM)
    theirs = HdrHistogram(1, histogram.HIGHEST_NS, histogram.SIGNIFICANT_DIGITS)
    for value in values:
        _record(ours.ctypes.data, value)
        theirs.record_value(value)
    assert theirs.counts_len == histogram.BUCKET_COUNT
    assert ours[0]["counts"].tolist() == [theirs.counts[index] for index in range(theirs.counts_len)]
    converted = histogram.to_hdr(ours[0])
    for percentile in (0, 50, 90, 99, 99.9, 100):
        assert converted.get_value_at_percentile(percentile) == theirs.get_value_at_percentile(percentile)
    assert (ours[0]["min"], ours[0]["max"], ours[0]["total_count"]) == (min(values), max(values), len(values))


def test_values_outside_the_range_are_counted_at_its_ends() -> None:
    ours = np.zeros(1, histogram.HISTOGRAM)
    _record(ours.ctypes.data, -5)
    _record(ours.ctypes.data, histogram.HIGHEST_NS * 3)
    assert (ours[0]["min"], ours[0]["max"]) == (0, histogram.HIGHEST_NS)
    assert (ours[0]["saturated"], ours[0]["counts"].sum()) == (1, 2)
