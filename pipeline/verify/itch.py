"""ITCH files into books of single orders: what takes from an order is compared with what the order has left."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.verify.itch_kernel import SIDELESS, SYMBOLS, TALLY, best_of, take_piece
from pipeline.verify.report import FileReport
from pipeline.verify.streams import play
from shm.layout import align_up
from stages.domain.codecs.itch import MESSAGES, PRICE_EXPONENT
from stages.domain.codecs.itch_frames import (
    GARBAGE,
    LENGTH_BYTES,
    PROBLEMS,
    TRUNCATED,
    UNKNOWN_TYPE,
    WRONG_LENGTH,
    new_framer,
)
from stages.domain.instruments import decimal_string
from stages.domain.messages import BookState
from stages.domain.orderbook import l3
from stages.domain.orderbook.engine import Capacity, engine_bytes, format_engine

ORDERS_MIN, ORDERS_MAX = 1 << 14, 1 << 22
"""Live orders that there is room for: as many as the file may add, within these; a busy day has about 2 million."""
PACKED_RATIO = 6
"""An ITCH file that is packed becomes at most about so many times larger."""
HINT = "an ITCH file has ITCH 5.0 messages, each behind its 2-byte length, plain or gzip"


def verify(path: Path, books: dict[str, dict[str, Any]]) -> list[FileReport]:
    """The file's report; its books go to `books`. Raises UsageError for a file without a message."""
    report = FileReport(str(path), "itch")
    verifier = Verifier(path.stat().st_size * PACKED_RATIO)
    verifier.warm_up()
    play(path, report, verifier.take)
    verifier.conclude(report, books)
    if not report.messages:
        raise UsageError(f"{path}: holds no ITCH message" + report.first_problem(), HINT)
    return [report]


class Verifier:
    """Books, a framer and what they found. `take` is given a stream piece by piece."""

    def __init__(self, stream_bytes_max: int) -> None:
        adds_max = stream_bytes_max // (LENGTH_BYTES + MESSAGES["A"].itemsize)
        self._capacity = Capacity.of(SYMBOLS + 1, min(max(adds_max, ORDERS_MIN), ORDERS_MAX))
        self._memory = np.zeros(engine_bytes(self._capacity) // 8 + 16, np.int64)
        self._engine = align_up(self._memory.ctypes.data, 128)
        format_engine(self._engine, self._capacity)
        self._framer = new_framer()
        self._tally = np.zeros(1, TALLY)
        self._names = np.zeros(SYMBOLS, "S8")
        self._seen = np.zeros(SYMBOLS, np.int64)
        self._unknown_by_locate = np.zeros(SYMBOLS, np.int64)
        self._stock_offsets = _stock_offsets()
        for name in ("names", "seen", "unknown_by_locate", "stock_offsets"):
            self._tally[name] = getattr(self, f"_{name}").ctypes.data
        self._seconds = 0.0

    def take(self, content: bytes, offset: int, is_last: bool) -> int:
        """See `streams.Take`."""
        source = np.frombuffer(content, np.uint8)
        begin, end = source.ctypes.data, source.ctypes.data + len(content)
        self._framer["position"], self._framer["origin"], self._tally["origin"] = begin, begin - offset, begin - offset
        start = time.perf_counter()
        take_piece(self._framer.ctypes.data, self._engine, self._tally.ctypes.data, end, is_last)
        self._seconds += time.perf_counter() - start
        return end - int(self._framer["position"][0])

    def warm_up(self) -> None:
        """Compile, before the clock runs."""
        self.take(b"", 0, True)
        self._seconds = 0.0

    def conclude(self, report: FileReport, books: dict[str, dict[str, Any]]) -> None:
        """Write down what was found."""
        tally, framer = self._tally[0], self._framer[0]
        counts = framer["count"]
        report.messages.update({letter: int(counts[ord(letter)]) for letter in MESSAGES if counts[ord(letter)]})
        report.events, report.seconds = int(tally["messages"]), self._seconds
        report.compared, report.matched = int(tally["compared"]), int(tally["matched"])
        report.unknown_orders = int(tally["unknown"])
        report.symbols = int(np.count_nonzero(self._seen))
        report.details |= {
            "executions": {
                "compared": int(tally["executions"]),
                "at_best_price": int(tally["at_best"]),
                "first_in_queue": int(tally["first_in_queue"]),
            },
            "orders_of_unknown_side": int(tally["sideless"]),
        }
        if tally["days"]:
            report.details["days"] = int(tally["days"]) + 1  # the books are those of the last one
        if report.differs:
            report.first_mismatch = self._explain()
        if not report.compared:
            report.why_not_compared = "no message executes or cancels an order that the file has added"
        self._note_problems(report)
        for locate in np.flatnonzero(self._names != b""):
            books[self._name(int(locate))] = self._book(int(locate))

    def _name(self, locate: int) -> str:
        return bytes(self._names[locate]).decode("ascii", "replace").strip() or f"#{locate}"

    def _note_problems(self, report: FileReport) -> None:
        framer, tally = self._framer[0], self._tally[0]
        for problem, name in enumerate(PROBLEMS):
            length, kind = int(framer["problem_length"][problem]), int(framer["problem_type"][problem])
            letter = repr(chr(kind)) if 32 < kind < 127 else f"byte {kind}"
            known = MESSAGES.get(chr(kind)) if kind > 0 else None
            what = {
                TRUNCATED: f"the file ends within a frame, {report.bytes_left} bytes are left over",
                WRONG_LENGTH: f"a message of type {letter} has {known.itemsize if known else 0} bytes, not {length}"
                if length
                else "a frame of length 0, which holds no message",
                UNKNOWN_TYPE: f"no message has type {letter}; {length} bytes left out",
                GARBAGE: f"no frame of a message; {int(framer['garbage_bytes']):,} bytes passed over in all, "
                f"{report.bytes_left:,} left over at the end",
            }[problem]
            report.problem(
                name, what, count=int(framer["problem_count"][problem]), offset=int(framer["problem_offset"][problem])
            )
        report.problem(
            "time_went_back", f"{int(tally['time_after_ns'])} ns after {int(tally['time_before_ns'])} ns",
            count=int(tally["time_back"]), offset=int(tally["time_back_offset"]),
        )  # fmt: skip
        report.problem(
            "not_taken", f"the books refused it: {l3.CODES.get(int(tally['refused_code']), '')}",
            count=int(tally["refused"]), offset=int(tally["refused_offset"]),
        )  # fmt: skip

    def _explain(self) -> dict[str, Any]:
        tally = self._tally[0]
        kind, left, shares = chr(int(tally["kind"])), int(tally["left"]), int(tally["shares"])
        verb = "cancels" if kind == "X" else "executes"
        reference = int(tally["reference"]) % 2**64
        return {
            "offset": int(tally["offset"]), "type": kind, "symbol": self._name(int(tally["locate"])),
            "order_reference": reference,
            "why": f"the message {verb} {shares} shares of order {reference}, which has {left} left",
            "expected": {"shares": left}, "found": {"shares": shares},
        }  # fmt: skip

    def _book(self, locate: int) -> dict[str, Any]:
        """As in the run report; the id is the number of updates. A book that lacks orders from before is dirty."""
        best = np.zeros(8, np.int64)
        best_of(self._engine, locate, best.ctypes.data)
        bid, bid_quantity, ask, ask_quantity, bid_levels, ask_levels, sequence, state = (int(word) for word in best)
        if state != BookState.STALE:
            is_partial = self._unknown_by_locate[locate] > 0
            state = BookState.DIRTY if is_partial else BookState.VALID if sequence else BookState.EMPTY
        return {
            "bid": decimal_string(bid, PRICE_EXPONENT) if bid_levels else None,
            "bid_qty": str(bid_quantity) if bid_levels else None,
            "ask": decimal_string(ask, PRICE_EXPONENT) if ask_levels else None,
            "ask_qty": str(ask_quantity) if ask_levels else None,
            "bid_levels": bid_levels, "ask_levels": ask_levels, "last_update_id": sequence,
            "state": BookState(state).name.lower(),
        }  # fmt: skip


def _stock_offsets() -> NDArray[np.int64]:
    """Where a message of each type has its stock's name; 0: it has none."""
    offsets = np.zeros(256, np.int64)
    for letter, dtype in MESSAGES.items():
        if dtype.fields is not None and "stock" in dtype.fields:
            offsets[ord(letter)] = dtype.fields["stock"][1]
    return offsets


assert SIDELESS == SYMBOLS, "one book more than there are stock locates"
