"""Histogram log (.hlog): histograms over time as text, for HdrHistogram's plotters and log processors.

The format is HdrHistogram's log format 1.2, its histograms V2, deflated, base64. First a head, then a line an interval:

    #comments, #[Histogram log format version 1.2], #[StartTime: ...], #[BaseTime: ...], a line of column names
    Tag=TAG,START,LENGTH,MAX,HISTOGRAM       seconds since the base time, seconds, milliseconds, base64

A tool that reads it adds up the lines of one tag. So what is written is what each interval recorded, not what a
histogram holds by then: `shm.histogram.since` says what came between two copies of it.

The hdrhistogram package writes what it can write right: comments, version, base time, column names, histograms. It
cannot write the start time (it calls a method of datetime that there is not), nor tags, and cuts the maximum down to
whole milliseconds: 0 for every latency here. Those are written here, and its reader reads all of it.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

import numpy as np
from hdrh.log import HistogramLogWriter

from shm.histogram import to_hdr

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class HistogramLog:
    """Writes a histogram log to an open text file, which stays the caller's to close."""

    def __init__(self, file: TextIO, started_ns: int, comments: Iterable[str] = ()) -> None:
        """Write the head. `started_ns` is CLOCK_REALTIME, of the run or whatever it was that was measured.

        Raises ValueError for a comment of several lines.
        """
        self._file, self._started_ns = file, started_ns
        self._writer = HistogramLogWriter(file)
        for comment in comments:
            if len(comment.splitlines()) > 1:
                raise ValueError(f"comment {comment!r} has line breaks")
            self._writer.output_comment(comment)
        self._writer.output_log_format_version()
        started = datetime.fromtimestamp(started_ns / NS_PER_S, UTC).isoformat(" ", "milliseconds")
        self._writer.output_comment(f"[StartTime: {started_ns / NS_PER_S:.6f} (seconds since epoch), {started}]")
        self._writer.output_base_time(started_ns / NS_PER_MS)
        self._writer.output_legend()

    def write(
        self, histogram: np.void | np.ndarray[Any, Any], start_ns: int, end_ns: int, tag: str | None = None
    ) -> None:
        """Write what one interval recorded, a HISTOGRAM record; its times are CLOCK_REALTIME.

        Raises ValueError for an interval that ends before it starts or starts before the log does, and for a tag that
        the format has no room for.
        """
        if not self._started_ns <= start_ns <= end_ns:
            raise ValueError(f"interval of start_ns={start_ns} end_ns={end_ns} in a log of start {self._started_ns}")
        if tag is not None and re.search(r"[,\s]", tag or " "):
            raise ValueError(f"tag {tag!r}: must be a word without commas or spaces")
        hdr = to_hdr(histogram)
        prefix = f"Tag={tag}," if tag is not None else ""
        start_s, length_s = (start_ns - self._started_ns) / NS_PER_S, (end_ns - start_ns) / NS_PER_S
        greatest_ms = hdr.get_max_value() / NS_PER_MS
        self._file.write(f"{prefix}{start_s:.6f},{length_s:.6f},{greatest_ms:.6f},{hdr.encode().decode('ascii')}\n")
