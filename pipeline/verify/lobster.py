"""LOBSTER samples against their own order book files: row k - 1 and message k give row k, in all levels in view."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.verify import lobster_kernel as kernel
from pipeline.verify.report import FileReport
from stages.domain.captures.lobster import Sample, Source, samples
from stages.domain.captures.pieces import DamagedFileError
from stages.domain.codecs.lobster import (
    ADD,
    BOOK_HEADER_WORDS,
    EXECUTE,
    PARTIAL_CANCEL,
    PRICE_EXPONENT,
    books_of,
    messages_of,
)
from stages.domain.instruments import decimal_string
from stages.domain.orderbook import l2

HINT = "give the message file with its order book file beside it, their folder, or the zip archive of both"


def verify(path: Path, books: dict[str, dict[str, Any]]) -> list[FileReport]:
    """A report for each sample in `path`; its last book goes to `books`. Raises UsageError when there is none."""
    try:
        found = samples(path)
        reports = [_verify(path, sample, books, is_alone=len(found) == 1) for sample in found]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", HINT) from None
    except DamagedFileError as error:
        raise UsageError(f"{path}: {error.what}", HINT) from None
    if not found:
        raise UsageError(f"{path}: no LOBSTER message file", HINT)
    return reports


def _verify(path: Path, sample: Sample, books: dict[str, dict[str, Any]], *, is_alone: bool) -> FileReport:
    report = FileReport(str(path) if is_alone else str(sample.messages), "lobster", symbols=1)
    _compile()
    begin = time.perf_counter()
    messages = messages_of(_text(report, sample.messages))
    states = np.zeros((0, BOOK_HEADER_WORDS + 4), np.int64)
    if sample.book is not None:
        states = books_of(_text(report, sample.book))
    messages, states = _aligned(report, sample, messages, states)
    levels = (states.shape[1] - BOOK_HEADER_WORDS) // 4
    rows = min(len(messages), len(states))
    tally = _Tally(levels)
    kernel.compare_rows(tally.address, messages.ctypes.data, states.ctypes.data, levels, rows)
    report.seconds = time.perf_counter() - begin
    good = messages[messages["kind"] > 0]
    if not len(good):
        raise UsageError(f"{sample.messages}: no line of it is a LOBSTER message" + report.first_problem(), HINT)
    report.events = len(good)
    kinds, counts = np.unique(good["kind"], return_counts=True)
    report.messages.update({str(kind): int(count) for kind, count in zip(kinds, counts, strict=True)})
    report.compared, report.matched = int(tally.words["compared"]), int(tally.words["matched"])
    _judge_times(report, good)
    report.unknown_orders = _unknown_orders(good)
    if sample.book is None:
        report.why_not_compared = "there is no order book file beside the message file"
    elif not report.compared:
        report.why_not_compared = "fewer than two rows that belong together"
    if report.differs:
        report.first_mismatch = _explain(tally.words, messages, states)
    if report.compared:
        books[sample.ticker] = _book(tally.words, rows)
    return report


class _Tally:
    """Memory of the kernel: its words, the two sides, room for the best levels."""

    def __init__(self, levels: int) -> None:
        side_words = (l2.side_bytes(kernel.LEVELS_MAX + 1) + 63) // 64 * 8
        self._memory = np.zeros(2 * side_words + 2 * kernel.LEVELS_MAX, np.int64)
        words = np.zeros(1, kernel.TALLY)
        base = self._memory.ctypes.data
        words["bids"], words["asks"] = base, base + 8 * side_words
        words["prices"] = base + 16 * side_words
        words["quantities"] = words["prices"] + 8 * kernel.LEVELS_MAX
        for side in ("bids", "asks"):
            l2.format_side(int(words[side][0]), kernel.LEVELS_MAX + 1)
        self.words = words[0]
        self._array = words
        self.address = int(words.ctypes.data)
        if levels > kernel.LEVELS_MAX:
            raise UsageError(f"an order book of {levels} levels, at most {kernel.LEVELS_MAX} can be compared", HINT)


def _compile() -> None:
    """Before the clock runs: a sample of two rows through all of it."""
    messages = messages_of(b"1.5,1,1,1,1,1\n" * 2)
    states = books_of(b"2,1,1,1\n" * 2)
    tally = _Tally(1)
    kernel.compare_rows(tally.address, messages.ctypes.data, states.ctypes.data, 1, 2)


def _text(report: FileReport, source: Source) -> bytes:
    text, damage = source.text()
    if damage is not None:
        report.problem("damaged_file", f"{source.name}: {damage.what}", offset=damage.offset)
    if text and not text.endswith(b"\n") and damage is not None:
        text = text[: text.rfind(b"\n") + 1]  # it broke within a line: nothing can be said of that one
    return text


def _aligned(
    report: FileReport, sample: Sample, messages: NDArray[Any], states: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Rows that belong together, under the same index.

    A line that is no row was put in, and goes, if the others are as many in both files; else it spoils its row.
    """
    bad_messages, bad_states = messages["kind"] == 0, states[:, 0] == 0
    for source, offsets, lines in (
        (sample.messages, messages["offset"][bad_messages], messages["line"][bad_messages]),
        (sample.book, states[bad_states, 1], states[bad_states, 2]),
    ):
        if source is not None and len(lines):
            report.problem(
                "malformed_line", f"{source.name}: no row of integers",
                count=len(lines), offset=int(offsets[0]), line=int(lines[0]),
            )  # fmt: skip
    if len(messages) - bad_messages.sum() == len(states) - bad_states.sum():
        messages, states = messages[~bad_messages], np.ascontiguousarray(states[~bad_states])
    if sample.book is not None and len(messages) != len(states):
        report.problem("rows_missing", f"{len(messages):,} messages, but {len(states):,} rows in the order book file")
    return messages, states


def _judge_times(report: FileReport, messages: NDArray[Any]) -> None:
    times = messages["time_ns"]
    back = np.flatnonzero(times[1:] < times[:-1]) + 1
    if len(back):
        first = messages[back[0]]
        report.problem(
            "time_went_back", f"{times[back[0]]} ns after {times[back[0] - 1]} ns",
            count=len(back), offset=int(first["offset"]), line=int(first["line"]),
        )  # fmt: skip


def _unknown_orders(messages: NDArray[Any]) -> int:
    """Messages about an order that no message before them has added: it is older than the file."""
    added: set[int] = set()
    unknown = 0
    for kind, order_id in zip(messages["kind"].tolist(), messages["order_id"].tolist(), strict=True):
        if kind == ADD:
            added.add(order_id)
        elif PARTIAL_CANCEL <= kind <= EXECUTE:
            unknown += order_id not in added
    return unknown


def _price(value: Any) -> str | None:
    return decimal_string(int(value), PRICE_EXPONENT) if value else None


def _explain(tally: np.void, messages: NDArray[Any], states: NDArray[np.int64]) -> dict[str, Any]:
    row = int(tally["row"])
    message = messages[row]
    side = "bid" if tally["side"] == kernel.BIDS else "ask"
    why = {
        kernel.DIFFERENT: f"level {int(tally['level']) + 1} on the {side} side differs after the message",
        kernel.NO_LEVEL: f"the message takes from a {side} level that the row before does not show",
        kernel.TOO_MUCH: f"the message takes more from a {side} level than the row before shows",
    }[int(tally["why"])]
    return {
        "line": int(message["line"]),
        "offset": int(message["offset"]),
        "book_line": int(states[row, 2]),
        "why": why,
        "message": {
            "type": int(message["kind"]), "order_id": int(message["order_id"]), "size": int(message["size"]),
            "price": _price(message["price"]), "direction": int(message["direction"]),
        },
        "expected": {"price": _price(tally["expected_price"]), "size": int(tally["expected_quantity"])},
        "found": {"price": _price(tally["found_price"]), "size": int(tally["found_quantity"])},
    }  # fmt: skip


def _book(tally: np.void, rows: int) -> dict[str, Any]:
    """As in the run report; the levels are those in view, the id is the number of messages."""
    best = {
        side: (_price(tally[f"{side}_price"]), str(int(tally[f"{side}_quantity"])))
        if tally[f"{side}_levels"]
        else (None, None)
        for side in ("bid", "ask")
    }
    return {
        "bid": best["bid"][0], "bid_qty": best["bid"][1], "ask": best["ask"][0], "ask_qty": best["ask"][1],
        "bid_levels": int(tally["bid_levels"]), "ask_levels": int(tally["ask_levels"]),
        "last_update_id": rows, "state": "valid",
    }  # fmt: skip
