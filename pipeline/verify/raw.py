"""Files of raw 29-byte messages: counted; there is nothing to compare them with."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.verify.raw_kernel import SYMBOL_SLOTS, TALLY, take_piece
from pipeline.verify.report import FileReport
from pipeline.verify.streams import play
from stages.domain.codecs.raw import GARBAGE, MESSAGE_BYTES, PROBLEMS, TRUNCATED, UNKNOWN_TYPE, new_reader

HINT = f"a raw file has messages of {MESSAGE_BYTES} bytes one behind the other, the first byte 1 (trade) or 2 (quote)"


def verify(path: Path, books: dict[str, dict[str, Any]]) -> list[FileReport]:
    """The file's report; quotes do not say their side, so there is no book. Raises UsageError without a message."""
    report = FileReport(str(path), "raw")
    verifier = Verifier()
    play(path, report, verifier.take)
    verifier.conclude(report)
    if not report.events:
        raise UsageError(f"{path}: holds no raw message" + report.first_problem(), HINT)
    return [report]


class Verifier:
    """A reader and what it found. `take` is given a stream piece by piece."""

    def __init__(self) -> None:
        self._reader, self._tally = new_reader(), np.zeros(1, TALLY)
        self._ids = np.zeros(SYMBOL_SLOTS, np.int64)
        self._tally["ids"] = self._ids.ctypes.data
        self._seconds = 0.0
        self.take(b"", 0, True)  # compiles, before the clock runs
        self._seconds = 0.0

    def take(self, content: bytes, offset: int, is_last: bool) -> int:
        """See `streams.Take`."""
        reader, tally = self._reader, self._tally
        source = np.frombuffer(content, np.uint8)
        begin, end = source.ctypes.data, source.ctypes.data + len(content)
        reader["position"], reader["origin"], tally["origin"] = begin, begin - offset, begin - offset
        start = time.perf_counter()
        take_piece(reader.ctypes.data, tally.ctypes.data, end, is_last)
        self._seconds += time.perf_counter() - start
        return end - int(reader["position"][0])

    def conclude(self, report: FileReport) -> None:
        """Write down what was found."""
        found, read = self._tally[0], self._reader[0]
        report.messages.update({"trade": int(read["trades"]), "quote": int(read["quotes"])})
        report.events, report.seconds = int(found["messages"]), self._seconds
        report.symbols = int(found["symbols"])
        report.why_not_compared = (
            "raw messages carry no second truth, and quotes do not say their side: there is no book"
        )
        what = {
            TRUNCATED: f"the file ends within a message, {report.bytes_left} of {MESSAGE_BYTES} bytes are there",
            UNKNOWN_TYPE: f"message type {int(read['problem_type'][UNKNOWN_TYPE])} is neither 1 (trade) nor 2 (quote)",
            GARBAGE: f"no message; {int(read['garbage_bytes']):,} bytes passed over in all",
        }
        for problem, name in enumerate(PROBLEMS):
            count, offset = int(read["problem_count"][problem]), int(read["problem_offset"][problem])
            report.problem(name, what[problem], count=count, offset=offset)
        report.problem(
            "time_went_back", f"{int(found['time_after_ns'])} ns after {int(found['time_before_ns'])} ns",
            count=int(found["time_back"]), offset=int(found["time_back_offset"]),
        )  # fmt: skip
        report.problem(
            "symbols_not_counted", f"messages of symbols beyond the first {SYMBOL_SLOTS // 2:,}",
            count=int(found["uncounted"]),
        )  # fmt: skip
