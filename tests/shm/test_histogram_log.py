"""Histogram logs, read back by the hdrhistogram package's own reader."""

import io
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader, HistogramLogWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.atomics import JIT
from shm.histogram import HIGHEST_NS, SIGNIFICANT_DIGITS, since, to_hdr
from shm.histogram_log import HistogramLog
from tests.shm.test_histogram import ANY_VALUES, Own, counts_of, recorded

STARTED_NS = 1_767_225_600_123_456_000
SECOND_NS = 1_000_000_000


def read_back(path: Path) -> list[HdrHistogram]:
    """All interval lines of a log."""
    reader = HistogramLogReader(str(path), HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS))
    found = []
    while (interval := reader.get_next_interval_histogram()) is not None:
        found.append(interval)
    reader.close()
    return found


@settings(max_examples=30 if JIT else 5)
@given(
    intervals=st.lists(
        st.tuples(
            st.sampled_from([None, "feed>book", "tick_to_trade"]),
            st.lists(ANY_VALUES, max_size=20),
            st.integers(0, 10 * SECOND_NS),
            st.integers(0, 10 * SECOND_NS),
        ),
        max_size=5,
    )
)
def test_the_packages_reader_finds_every_interval_with_its_counts(
    tmp_path_factory: pytest.TempPathFactory, intervals: list[tuple[str | None, list[int], int, int]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "latency.hlog"
    with path.open("w", encoding="ascii") as file:
        log = HistogramLog(file, STARTED_NS, ["tickpipe", "run r1"])
        for tag, values, start, length in intervals:
            begin = STARTED_NS + start
            log.write(recorded(values)[0].words[0], begin, begin + length, tag)
    found = read_back(path)
    assert len(found) == len(intervals)
    for hdr, (tag, values, start, length) in zip(found, intervals, strict=True):
        assert counts_of(hdr) == recorded(values)[0].counts
        assert (hdr.total_count, hdr.get_tag()) == (len(values), tag)
        assert hdr.get_start_time_stamp() == pytest.approx((STARTED_NS + start) / 1e6, abs=0.002)
        assert hdr.get_end_time_stamp() == pytest.approx((STARTED_NS + start + length) / 1e6, abs=0.002)


def test_the_lines_are_those_of_the_package_but_for_what_it_writes_wrong() -> None:
    ours, _ = recorded([100, 2_345_678])
    file = io.StringIO()
    HistogramLog(file, STARTED_NS, ["tickpipe"]).write(ours.words[0], STARTED_NS, STARTED_NS + SECOND_NS // 4, "a>b")
    *head, line = file.getvalue().splitlines()
    assert head == [
        "#tickpipe",
        "#[Histogram log format version 1.2]",
        "#[StartTime: 1767225600.123456 (seconds since epoch), 2026-01-01 00:00:00.123+00:00]",
        "#[BaseTime: 1767225600.123456 (seconds since epoch)]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    tag, start, length, greatest, payload = line.split(",")
    assert (tag, start, length, greatest) == ("Tag=a>b", "0.000000", "0.250000", "2.347007")
    theirs = io.StringIO()
    HistogramLogWriter(theirs).output_interval_histogram(to_hdr(ours.words[0]), 0.0, 0.25)
    assert theirs.getvalue() == f"{start},{length},2.000000,{payload}\n", "it has no tags, and whole milliseconds"
    with pytest.raises(AttributeError):
        HistogramLogWriter(theirs).output_start_time(1)


def test_the_intervals_of_a_growing_histogram_add_up_to_it(tmp_path: Path) -> None:
    ours = Own()
    before = ours.face.copy()
    path = tmp_path / "latency.hlog"
    with path.open("w", encoding="ascii") as file:
        log = HistogramLog(file, STARTED_NS)
        for second in range(4):
            for value in range(0, 10_000 * second, 7):
                ours.face.record(value)
            now = ours.face.copy()
            log.write(since(before[0], now[0]), STARTED_NS + second * SECOND_NS, STARTED_NS + (second + 1) * SECOND_NS)
            before = now
    reader = HistogramLogReader(str(path), HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS))
    while reader.add_next_interval_histogram() is not None:
        pass
    reader.close()
    assert counts_of(reader.reference_histogram) == ours.counts


def test_what_the_format_cannot_hold_is_refused() -> None:
    file, nothing = io.StringIO(), np.zeros(1, Own().words.dtype)[0]
    log = HistogramLog(file, STARTED_NS)
    for tag in ("a,b", "a b", "a\n", ""):
        with pytest.raises(ValueError, match="must be a word"):
            log.write(nothing, STARTED_NS, STARTED_NS, tag)
    for start, end in ((STARTED_NS - 1, STARTED_NS), (STARTED_NS + 2, STARTED_NS + 1)):
        with pytest.raises(ValueError, match="in a log of start"):
            log.write(nothing, start, end)
    with pytest.raises(ValueError, match="line breaks"):
        HistogramLog(file, STARTED_NS, ["one\ntwo"])
