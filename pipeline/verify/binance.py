"""Binance captures through the line's own feed and book; the books are compared with the venue's best bid and ask.

Files whose update ids join are one stream: a file's diffs go on with the book of the file before it. The comparison is
that of replay rule (c): a book at update u with the last bookTicker of an id up to u.

What the book counts as beyond its snapshot (see `stages.book.check`) is not compared, and counted apart.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.line.stepped import BEYOND, MISMATCH, NEEDS_SERVICE, NOTED, SteppedLine, frame
from pipeline.reports.books import book_document
from pipeline.verify.report import FileReport
from shm.atomics import peek
from stages.book.context import (
    TICKER_ASK,
    TICKER_ASK_QUANTITY,
    TICKER_BID,
    TICKER_BID_QUANTITY,
    TICKER_BYTES,
    TICKER_ID,
    TICKERS_KEPT,
)
from stages.domain.captures.binance import CaptureError, Damage, Kind, Record, records, symbol_of
from stages.domain.captures.binance_description import SymbolSummary, owner_of
from stages.domain.edges import DEPTH_TABLE
from stages.domain.instruments import INSTRUMENT, SYMBOL_BYTES, decimal_string
from stages.domain.messages import PRICE_EXPONENT, MarketFlag, MarketKind
from stages.feed.context import SYNCED
from stages.feed.settings import FeedSettings
from stages.feed.streams.snapshots import SNAPSHOT_BYTES_MAX

SYMBOLS_MAX = 1_024
"""About 3 MB each."""
CHUNK_FRAMES = 4_096
CHUNK_BYTES = 1 << 20
LINES_KEPT = 200_000
"""Diffs remembered to explain mismatches with, while some symbol waits for a snapshot that may never come."""
FRAME_BYTES_MAX = 1 << 20
WHAT_WENT_WRONG = {
    "gaps": "update ids do not join: the book is not kept up before the next snapshot",
    "malformed": "JSON, but no message that anybody can read",
    "overflowed": "a number does not fit 64 bits",
    "too_many_decimals": "more than 8 decimals",
    "unknown_symbol": "its symbol is not the stream's",
    "oversized": "more levels than can be staged",
    "other_messages": "a message of another kind",
    "dropped": "messages held back for a snapshot were given up",
}
"""The feed's counters that `stepped.watched` looks at, in words."""
HINT_LINES = "a capture's lines are `<receive ns> <raw JSON>`"
HINT_STREAMS = "record <symbol>@depth@100ms and <symbol>@bookTicker beside the snapshots"
HINT_SNAPSHOT = "give the file that precedes it first; only a snapshot tells the whole book"


@dataclass
class _File:
    """What the first look at a file found."""

    name: str
    report: FileReport
    symbols: dict[str, SymbolSummary] = field(default_factory=dict)
    firsts: dict[str, Record] = field(default_factory=dict)  # first diff of each symbol
    snapshots: list[tuple[int, int]] = field(default_factory=list)  # line, id


def verify(files: Sequence[str], books: dict[str, dict[str, Any]]) -> list[FileReport]:
    """A report for each file; the books at the end go to `books`. Raises UsageError for a file without use."""
    found = [_look_at(file) for file in files]
    for stream in _streams(found):
        _Stream(stream).play(books)
    return [file.report for file in found]


def _look_at(name: str) -> _File:
    """Read a file once: its symbols and ids, and everything that is wrong with its lines."""
    file = _File(name, FileReport(name, "binance"))

    def damaged(damage: Damage) -> None:
        kind = "damaged_file" if damage.ends_file else "malformed_line"
        file.report.problem(kind, damage.what, offset=damage.offset, line=damage.line)

    before_ns = 0
    for record in _records(name, damaged):
        if record.receive_ns < before_ns:
            file.report.problem(
                "time_went_back", f"received at {record.receive_ns} ns, after {before_ns} ns",
                offset=record.offset, line=record.line,
            )  # fmt: skip
        before_ns = record.receive_ns
        file.report.messages[record.kind.value] += 1
        if record.kind is Kind.SNAPSHOT:
            file.snapshots.append((record.line, record.last_id))
            continue
        symbol = symbol_of(record.stream)
        if not _fits(symbol):
            file.report.problem(
                "symbol_not_read", f"{symbol}: a name of more than {SYMBOL_BYTES} bytes; its messages are left out",
                offset=record.offset, line=record.line,
            )  # fmt: skip
        summary = file.symbols.setdefault(symbol, SymbolSummary(symbol))
        if record.kind is Kind.DIFF:
            if symbol not in file.firsts:
                file.firsts[symbol] = record
                summary.first_update_id = record.first_id
            summary.last_update_id = record.last_id
    file.report.symbols = len(file.symbols)
    if not file.report.messages:
        raise UsageError(f"{name}: holds no market data" + file.report.first_problem(), HINT_LINES)
    return file


def _records(name: str, damaged: Any) -> Iterable[Record]:
    try:
        yield from records(name, damaged)
    except CaptureError as error:
        raise UsageError(error.message, error.hint) from None


def _streams(files: Sequence[_File]) -> list[list[_File]]:
    """Files that go on with the one before, together. Raises UsageError for one that begins nowhere."""
    streams: list[list[_File]] = []
    ends: dict[str, int] = {}
    for file in files:
        shared = [symbol for symbol in file.firsts if symbol in ends]
        if streams and (not shared or any(_joins(file.firsts[symbol], ends[symbol]) for symbol in shared)):
            streams[-1].append(file)
        else:
            if streams:
                first = file.firsts[shared[0]]
                file.report.details["stream"] = (
                    f"{shared[0]} starts with U={first.first_id} and does not go on with the file before, which ends "
                    f"at u={ends[shared[0]]}: verified on its own"
                )
            streams.append([file])
            ends = {}
        ends |= {symbol: summary.last_update_id for symbol, summary in file.symbols.items() if symbol in file.firsts}
        if ends and not any(member.snapshots for member in streams[-1]):
            raise UsageError(
                f"{file.name}: no snapshot, and no file before it that it goes on with: "
                + ", ".join(f"{symbol} starts with U={record.first_id}" for symbol, record in file.firsts.items())
                + file.report.first_problem(),
                HINT_SNAPSHOT,
            )
    return streams


def _joins(first: Record, end: int) -> bool:
    return first.first_id <= end + 1 <= first.last_id + 1


class _Stream:
    """Files that are one stream, on their way through a feed and a book."""

    def __init__(self, files: Sequence[_File]) -> None:
        self._files = files
        self._summaries: dict[str, SymbolSummary] = {}
        for file in files:
            for symbol, summary in file.symbols.items():
                known = self._summaries.setdefault(symbol, SymbolSummary(symbol))
                known.first_update_id = known.first_update_id or summary.first_update_id
                known.last_update_id = summary.last_update_id or known.last_update_id
        if not self._summaries:
            problems = "".join(file.report.first_problem() for file in files)
            raise UsageError(
                f"{files[0].name}: snapshots, and no stream that says of which symbol{problems}", HINT_STREAMS
            )
        symbols = [symbol for symbol in self._summaries if _fits(symbol)]
        if not symbols:
            raise UsageError(f"{files[0].name}: nothing of it is read{files[0].report.first_problem()}", HINT_STREAMS)
        if len(symbols) > SYMBOLS_MAX:
            raise UsageError(
                f"{files[0].name}: {len(symbols)} symbols, at most {SYMBOLS_MAX} can be verified together",
                "give captures of fewer symbols at a time",
            )
        self._table = _instruments(symbols)
        self._index = {symbol: index for index, symbol in enumerate(symbols)}
        self._line = SteppedLine(self._table, notice_ring=1, feed=FeedSettings(frame_bytes_max=FRAME_BYTES_MAX))
        self._line.rest()
        self._line.play(np.zeros(0, np.int64), 0)  # compiles, before the clock runs
        self._waiting: list[Record] = []
        self._waiting_bytes = 0
        self._lines: OrderedDict[tuple[str, int], Record] = OrderedDict()  # diffs that a mismatch may be about
        self._diff_ids: dict[str, int] = {}
        self._spare: dict[str, Record] = {}  # the newest snapshot that a synchronised book had no use for
        self._seen = self._counts()
        self._generations = self._line.feed.context.sync["generation"].copy()

    def play(self, books: dict[str, dict[str, Any]]) -> None:
        """All files, one after the other."""
        for file in self._files:
            before = self._totals()
            for record in _records(file.name, lambda damage: None):
                self._take(file.report, record)
            self._flush(file.report)
            self._conclude(file, before)
        for symbol, index in self._index.items():
            if self._summaries[symbol].last_update_id:
                depth = self._line.row(DEPTH_TABLE, index)[1].reshape(1)
                books[symbol] = book_document(depth, self._table[index])

    def _totals(self) -> Counter[str]:
        feed, book = self._line.counters("feed"), self._line.counters("book")
        return Counter(
            gaps=int(feed["gaps"]), gaps_held=self._gaps_held(), resyncs=int(feed["resyncs"]), stale=int(feed["stale"]),
            compared=int(book["bbo_checked"]), mismatches=int(book["bbo_mismatches"]),
            beyond=int(book["bbo_beyond_snapshot"]), crossed=int(book["crossed"]),
        )  # fmt: skip

    def _gaps_held(self) -> int:
        """Gaps among what waits for a snapshot, which none has shown yet."""
        count = 0
        for index in range(len(self._index)):
            held = self._line.feed.held(index)
            diffs = held[(held["kind"] == MarketKind.DIFF) & (held["flags"] & MarketFlag.FIRST != 0)]
            reached = np.maximum.accumulate(diffs["last_id"])
            count += int((diffs["first_id"][1:] > reached[:-1] + 1).sum())
        return count

    def _conclude(self, file: _File, before: Counter[str]) -> None:
        report, now = file.report, self._totals()
        done = {name: now[name] - before[name] for name in now}
        report.gaps, report.resyncs = done["gaps"] + done["gaps_held"], done["resyncs"]
        report.problem("gap", WHAT_WENT_WRONG["gaps"], count=max(done["gaps_held"], 0))
        report.compared = done["compared"]
        report.matched = report.compared - done["mismatches"]
        report.events = sum(report.messages.values())
        report.details = {"beyond_snapshot": done["beyond"], **report.details}
        report.details |= {"stale_diffs": done["stale"], "crossed_books": done["crossed"]}
        if not report.compared:
            report.why_not_compared = _why_not_compared(report)
        for symbol, index in self._index.items():
            if symbol in file.firsts and self._line.feed.context.sync[index]["status"] != SYNCED:
                report.problem("not_synchronised", f"{symbol}: no snapshot fits its last diffs, which were not used")

    def _take(self, report: FileReport, record: Record) -> None:
        if record.kind is Kind.SNAPSHOT:
            self._flush(report)
            self._take_snapshot(report, record)
            return
        if symbol_of(record.stream) not in self._index:
            return
        if len(record.raw) > FRAME_BYTES_MAX:
            report.problem(
                "oversized", f"a message of {len(record.raw):,} bytes, at most {FRAME_BYTES_MAX:,} are read",
                offset=record.offset, line=record.line,
            )  # fmt: skip
            return
        if record.kind is Kind.DIFF:
            symbol = symbol_of(record.stream)
            last_id = self._diff_ids.get(symbol, 0)
            if record.last_id < last_id:
                report.problem(
                    "ids_went_back", f"{symbol}: a diff up to u={record.last_id} after one up to u={last_id}",
                    offset=record.offset, line=record.line,
                )  # fmt: skip
            self._diff_ids[symbol] = record.last_id
            self._lines[symbol, record.last_id] = record._replace(raw=b"", data=b"")
        self._waiting.append(record)
        self._waiting_bytes += len(record.raw)
        if len(self._waiting) == CHUNK_FRAMES or self._waiting_bytes > CHUNK_BYTES:
            self._flush(report)

    def _take_snapshot(self, report: FileReport, record: Record) -> None:
        owner = owner_of(record, self._summaries.values(), self._diff_ids)
        place: dict[str, Any] = {"offset": record.offset, "line": record.line}
        if owner is None:
            report.problem("snapshot_of_nothing", "a snapshot, but no depth diffs that say of which symbol", **place)
            return
        if owner.symbol not in self._index:
            return
        if len(record.raw) > SNAPSHOT_BYTES_MAX:
            what = f"{len(record.raw):,} bytes, at most {SNAPSHOT_BYTES_MAX:,} are read"
            report.problem("snapshot_not_used", what, **place)
            return
        index = self._index[owner.symbol]
        sync = self._line.feed.context.sync[index]
        if sync["status"] == SYNCED and self._diff_ids.get(owner.symbol, 0) <= record.last_id < int(sync["last_id"]):
            what = f"{owner.symbol}: ids begin anew with a snapshot of {record.last_id}, after {int(sync['last_id'])}"
            report.problem("sequence_reset", what, **place)
            self._line.feed.context.state[0]["reset_wanted"] = 1
            self._play(report, [])
        elif sync["status"] == SYNCED:
            self._spare[owner.symbol] = record  # in an unbroken stream nobody would fetch it
            report.details["snapshots_passed_over"] = report.details.get("snapshots_passed_over", 0) + 1
            return
        failures = int(self._line.counters("feed")["snapshot_failures"])
        self._line.feed.offer_snapshot(index, record.raw)
        self._play(report, [record])
        if self._line.counters("feed")["snapshot_failures"] > failures:
            what = (
                f"{owner.symbol}: a snapshot of {record.last_id} that is too old for the diffs after it, or unreadable"
            )
            report.problem("snapshot_not_used", what, **place)

    def _heal(self, record: Record) -> None:
        """After a gap: a snapshot that came before the diff that showed it, and is new enough, is used now."""
        symbol = symbol_of(record.stream)
        index, spare = self._index[symbol], self._spare.get(symbol)
        if spare is not None and spare.last_id >= record.first_id - 1:
            self._line.feed.offer_snapshot(index, spare.raw)

    def _first_held(self) -> Record | None:
        """The diff that a gap has just shown at. It may have been held since before the snapshot that is played now."""
        sync = self._line.feed.context.sync
        symbols = list(self._index)
        lost = {symbols[index]: index for index in np.flatnonzero(sync["generation"] != self._generations)}
        self._generations = sync["generation"].copy()
        for (symbol, _), held in reversed(self._lines.items()):
            if symbol in lost and held.first_id == sync["first_held_id"][lost[symbol]]:
                return held
        return None

    def _flush(self, report: FileReport) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if waiting:
            frames = [frame(record.raw) for record in waiting]
            self._line.feed.offer(b"".join(frames))
            state = self._line.feed.context.state[0]
            ends = int(state["source_at"]) + np.cumsum([len(each) for each in frames], dtype=np.int64)
            self._play(report, waiting, ends)
        if not self._line.feed.context.sync["hold_end"].any():
            self._lines.clear()
        while len(self._lines) > LINES_KEPT:
            self._lines.popitem(last=False)  # of a plain dict, the search for the first takes longer and longer

    def _play(self, report: FileReport, frames: Sequence[Record], ends: Any = None) -> None:
        """Play offered frames; without `ends`: let what the feed has been given otherwise go through."""
        if ends is None:
            ends = np.array([self._line.feed.context.state[0]["source_end"]], np.int64)
        at = 0
        while at < len(ends):
            begin_ns = time.perf_counter_ns()
            at, why = self._line.play(ends, at)
            report.seconds += (time.perf_counter_ns() - begin_ns) / 1e9
            if why == NEEDS_SERVICE:
                self._line.serve()
            elif why in (MISMATCH, BEYOND):
                self._judge(report, why)
            if why in (NEEDS_SERVICE, NOTED):
                self._note(report, frames[at] if at < len(frames) else None)
            at += why == NOTED
        self._note(report, frames[-1] if frames else None)

    def _counts(self) -> dict[str, int]:
        counters = self._line.counters("feed")
        return {name: int(counters[name]) for name in WHAT_WENT_WRONG}

    def _note(self, report: FileReport, record: Record | None) -> None:
        """A counter may have moved at a message."""
        now, gap = self._counts(), record
        if record is not None and now["gaps"] > self._seen["gaps"]:
            gap = self._first_held() or record
            self._heal(gap)
        for name, what in WHAT_WENT_WRONG.items():
            where = gap if name == "gaps" else record
            report.problem(
                name.removesuffix("s") if name in ("gaps", "other_messages") else name, what,
                count=now[name] - self._seen[name],
                offset=where.offset if where else None, line=where.line if where else None,
            )  # fmt: skip
        self._seen = now

    def _judge(self, report: FileReport, why: int) -> None:
        """The notice that has just been told differs from the ticker that it was, or was to be, compared with."""
        notice = self._line.notice[0]
        index, last_id = int(notice["symbol"]), int(notice["last_id"])
        symbol = list(self._index)[index]
        record = self._lines.get((symbol, last_id))
        book = self._line.book.context.books[index]
        ticker_id, expected = _ticker(int(book["tickers"]), int(book["ticker_count"]), last_id)
        found = [int(notice[name]) for name in ("bid_price", "bid_quantity", "ask_price", "ask_quantity")]
        difference = {
            "line": record.line if record else None,
            "offset": record.offset if record else None,
            "symbol": symbol,
            "update_id": last_id,
            "why": f"the best prices of the book at update {last_id} are not those of the bookTicker {ticker_id}",
            "expected": _best(expected),
            "found": _best(found),
        }
        if why == BEYOND:
            difference["why"] = (
                f"the best price of the bookTicker {ticker_id} lies beyond the deepest level of the snapshot, where "
                "levels are unknown until they change: not compared"
            )
            report.details.setdefault("first_beyond_snapshot", difference)
        elif report.first_mismatch is None:
            report.first_mismatch = difference


def _ticker(tickers: int, count: int, last_id: int) -> tuple[int, list[int]]:
    """(id, [bid, its quantity, ask, its quantity]) of the last remembered ticker of an id up to `last_id`."""
    for back in range(1, min(count, TICKERS_KEPT) + 1):
        at = tickers + (count - back) % TICKERS_KEPT * TICKER_BYTES
        if peek(at + TICKER_ID) <= last_id:
            words = (TICKER_BID, TICKER_BID_QUANTITY, TICKER_ASK, TICKER_ASK_QUANTITY)
            return peek(at + TICKER_ID), [peek(at + word) for word in words]
    return 0, [0, 0, 0, 0]


def _best(values: Sequence[int]) -> dict[str, str]:
    return {
        name: decimal_string(value) for name, value in zip(("bid", "bid_qty", "ask", "ask_qty"), values, strict=True)
    }


def _fits(symbol: str) -> bool:
    """Whether the table has room for its name."""
    return len(symbol.encode("utf-8", "replace")) <= SYMBOL_BYTES


def _instruments(symbols: Sequence[str]) -> Any:
    """The symbols with default exponents, on the finest grid: a capture does not tell its venue's."""
    table = np.zeros(len(symbols), INSTRUMENT)
    for row, symbol in zip(table, symbols, strict=True):
        row["symbol"] = symbol.encode("utf-8", "replace")
        row["price_exponent"] = row["quantity_exponent"] = PRICE_EXPONENT
        row["tick"] = row["lot"] = 1
    return table


def _why_not_compared(report: FileReport) -> str:
    if not report.messages[Kind.DIFF.value]:
        return "there are no depth diffs, so there is no book"
    if not report.messages[Kind.TICKER.value]:
        return "there is no bookTicker, which says what the best prices were"
    return "no diff was applied after a bookTicker of an id up to its own"
