"""Reading recorded captures: one line is `<local receive ns> <raw JSON>`, gzip or plain.

A WebSocket line is the combined-stream message as received, `{"stream":"<name>","data":{...}}`; a line with
`lastUpdateId` and without `stream` is a REST depth snapshot, which does not name its symbol. The raw JSON is kept
byte for byte: it is what a replay sends. Nothing here needs the network or the server; `describe` is what the
composition root asks before it starts anything.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from stages.venue.errors import VenueConfigurationError

_COMBINED = re.compile(rb'\{"stream":"([^"\\]+)","data":(\{.*\})\}\Z', re.DOTALL)
_IDS = re.compile(rb'"U":(\d+),"u":(\d+)')
_TICKER_ID = re.compile(rb'\{"u":(\d+),')


class CaptureError(VenueConfigurationError):
    """A capture cannot be replayed: where and why, and what to do."""


class Kind(Enum):
    DIFF = "depthUpdate"
    TRADE = "trade"
    AGGREGATE_TRADE = "aggTrade"
    TICKER = "bookTicker"
    SNAPSHOT = "snapshot"
    OTHER = "other"


class Record(NamedTuple):
    """One line. `raw` is the whole recorded JSON, `data` the payload without the wrapper (a snapshot: the same).
    `first_id` and `last_id` are U and u of a diff; `last_id` also u of a bookTicker and a snapshot's id; else 0."""

    line: int
    receive_ns: int
    kind: Kind
    stream: str
    raw: bytes
    data: bytes
    first_id: int
    last_id: int


@dataclass
class SymbolSummary:
    """What the files hold of one symbol. `gaps` are places inside a file where U is beyond the last u + 1."""

    symbol: str
    first_update_id: int = 0
    last_update_id: int = 0
    gaps: int = 0
    snapshot_ids: list[int] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)


@dataclass
class Description:
    """What a list of capture files holds, in playing order."""

    files: list[str]
    symbols: dict[str, SymbolSummary]
    streams: list[str]
    stream_messages: int
    first_receive_ns: int
    last_receive_ns: int
    snapshot_symbols: dict[tuple[str, int], str]  # (file, line) of a snapshot: its symbol


def records(file: str) -> Iterator[Record]:
    """The lines of one capture. Raises CaptureError naming file and line of what cannot be read."""
    line = 0
    kinds: dict[bytes, tuple[str, Kind]] = {}
    try:
        with _open(file) as lines:
            for line, text in enumerate(lines, 1):
                if not text.isspace():
                    yield _parse(file, line, text.rstrip(b"\r\n"), kinds)
    except FileNotFoundError:
        raise CaptureError(f"{file}: no such file", "check the path given to --replay") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CaptureError(
            f"{file}:{line + 1}: damaged gzip data ({error})", "copy or download the file again"
        ) from error
    except OSError as error:
        raise CaptureError(f"{file}: cannot be read ({error.strerror or error})", "check the file") from error


def symbol_of(stream: str) -> str:
    return stream.partition("@")[0].upper()


def describe(files: Sequence[str]) -> Description:
    """Read all files once; raises CaptureError when they cannot be replayed one after the other.

    Ids must join from file to file (U <= last u + 1 at a symbol's first diff), and every symbol needs a snapshot
    somewhere. A gap inside a file is counted, not refused: readers resynchronise, that is worth replaying too.
    """
    if not files:
        raise CaptureError("no capture file given", "name at least one file")
    found = Description(list(files), {}, [], 0, 0, 0, {})
    for number, file in enumerate(files):
        snapshots: list[Record] = []
        joined: set[str] = set()  # symbols whose first diff in this file was seen
        record_count = 0
        for record in records(file):
            record_count += 1
            found.first_receive_ns = found.first_receive_ns or record.receive_ns
            found.last_receive_ns = record.receive_ns
            if record.kind is Kind.SNAPSHOT:
                snapshots.append(record)
            else:
                _count(found, record, file, files[number - 1] if number else None, joined)
        if not record_count:
            raise CaptureError(f"{file}: holds no market data", "give a capture of Binance market streams")
        for snapshot in snapshots:
            _claim(found, file, snapshot)
        _require_snapshots(found, file)
    return found


def _count(found: Description, record: Record, file: str, before: str | None, joined: set[str]) -> None:
    symbol = symbol_of(record.stream)
    item = found.symbols.setdefault(symbol, SymbolSummary(symbol))
    if record.stream not in found.streams:
        found.streams.append(record.stream)
    found.stream_messages += 1
    item.messages[record.kind.value] += 1
    if record.kind is not Kind.DIFF:
        return
    item.first_update_id = item.first_update_id or record.first_id
    if before is not None and symbol not in joined:
        _require_joint(item, record, file, before)
    elif item.last_update_id and record.first_id > item.last_update_id + 1:
        item.gaps += 1
    joined.add(symbol)
    item.last_update_id = record.last_id


def _require_joint(item: SymbolSummary, record: Record, file: str, before: str) -> None:
    """The first diff of a file must continue the file before it."""
    if not item.last_update_id:
        return  # a symbol that starts in this file; its snapshot is required below
    if not record.first_id <= item.last_update_id + 1 <= record.last_id + 1:
        raise CaptureError(
            f"{file}:{record.line}: {item.symbol} does not join {before}: it starts with U={record.first_id}, "
            f"u={record.last_id}, the file before ends at u={item.last_update_id}",
            "give the files in the order they were recorded, without leaving one out",
        )


def _claim(found: Description, file: str, snapshot: Record) -> None:
    """A snapshot belongs to the symbol whose range of update ids is nearest (those of symbols lie far apart)."""
    candidates = [item for item in found.symbols.values() if item.last_update_id]
    if not candidates:
        raise CaptureError(
            f"{file}:{snapshot.line}: a snapshot, but no depth diffs that say of which symbol",
            "record <symbol>@depth@100ms beside the snapshot",
        )
    nearest = min(
        candidates,
        key=lambda item: max(item.first_update_id - snapshot.last_id, snapshot.last_id - item.last_update_id, 0),
    )
    nearest.snapshot_ids.append(snapshot.last_id)
    nearest.messages[Kind.SNAPSHOT.value] += 1
    found.snapshot_symbols[file, snapshot.line] = nearest.symbol


def _require_snapshots(found: Description, file: str) -> None:
    for item in found.symbols.values():
        if not item.snapshot_ids:
            raise CaptureError(
                f"{file}: {item.symbol} has no snapshot and no file before it"
                + (f" (its first diff is U={item.first_update_id})" if item.first_update_id else ""),
                "give the file that precedes it first; only a snapshot tells the whole book",
            )


def _open(file: str) -> BinaryIO:
    with Path(file).open("rb") as start:
        is_gzip = start.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(file)) if is_gzip else Path(file).open("rb")


def _parse(file: str, line: int, text: bytes, kinds: dict[bytes, tuple[str, Kind]]) -> Record:
    stamp, space, raw = text.partition(b" ")
    if not space or not stamp.isdigit():
        raise _malformed(file, line, "it does not start with a receive time in ns and a space", text)
    match = _COMBINED.match(raw)
    if match is None:
        return _parse_snapshot(file, line, int(stamp), raw)
    name, data = match.groups()
    known = kinds.get(name)
    if known is None:
        known = kinds[name] = (name.decode("utf-8", "replace"), _kind(name))
    stream, kind = known
    first_id = last_id = 0
    if kind is Kind.DIFF:
        ids = _IDS.search(data)
        if ids is None or not data.endswith(b"]}"):
            raise _malformed(file, line, "a depth diff without U and u, or cut short", text)
        first_id, last_id = int(ids[1]), int(ids[2])
    elif kind is Kind.TICKER:
        ids = _TICKER_ID.match(data)
        last_id = int(ids[1]) if ids is not None else 0
    return Record(line, int(stamp), kind, stream, raw, data, first_id, last_id)


def _parse_snapshot(file: str, line: int, receive_ns: int, raw: bytes) -> Record:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise _malformed(file, line, f"not valid JSON ({error})", raw) from None
    if not isinstance(value, dict) or not isinstance(value.get("lastUpdateId"), int):
        raise _malformed(file, line, "neither a stream message nor a depth snapshot", raw)
    if not isinstance(value.get("bids"), list) or not isinstance(value.get("asks"), list):
        raise _malformed(file, line, "a snapshot without bids and asks", raw)
    return Record(line, receive_ns, Kind.SNAPSHOT, "", raw, raw, 0, value["lastUpdateId"])


def _kind(stream: bytes) -> Kind:
    _, _, channel = stream.partition(b"@")
    if channel in (b"depth", b"depth@100ms", b"depth@1000ms"):
        return Kind.DIFF
    names = {b"trade": Kind.TRADE, b"aggTrade": Kind.AGGREGATE_TRADE, b"bookTicker": Kind.TICKER}
    return names.get(channel, Kind.OTHER)


def _malformed(file: str, line: int, what: str, text: bytes) -> CaptureError:
    sample = text[:80].decode("utf-8", "replace")
    return CaptureError(
        f"{file}:{line}: malformed line: {what}: {sample!r}",
        "a line is `<receive ns> <raw JSON>`; a recording that was cut off can be replayed without its last line",
    )


def trades(file: str, symbol: str) -> Iterator[tuple[str, str]]:
    """(price, quantity) of the recorded trades of one symbol, as text."""
    for record in records(file):
        if record.kind in (Kind.TRADE, Kind.AGGREGATE_TRADE) and symbol_of(record.stream) == symbol:
            value = json.loads(record.data)
            yield value["p"], value["q"]
