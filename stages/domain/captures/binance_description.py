"""What a list of capture files holds, before anything is started: which symbols, which streams, whether ids join."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stages.domain.captures.binance import CaptureError, Damage, Kind, Record, kind_of, records, symbol_of
from stages.domain.instruments import SYMBOL_BYTES

_LISTED = re.compile(rf"[A-Z0-9_.-]{{1,{SYMBOL_BYTES}}}")


@dataclass
class SymbolSummary:
    """What the files hold of one symbol. `gaps` are places inside a file where U is beyond the last u + 1."""

    symbol: str
    first_update_id: int = 0
    last_update_id: int = 0
    gaps: int = 0
    first_gap: str = ""
    """Where a diff's first id did not join the last one before, in words."""
    went_back: int = 0
    first_went_back: str = ""
    """Where a diff's last id was below that of the one before, in words."""
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
    snapshot_symbols: dict[tuple[str, int], str]  # (file, line) of a snapshot: its symbol
    damage: dict[str, list[Damage]] = field(default_factory=dict)
    """File: the places in it that cannot be read, and are left out."""
    not_listed: list[str] = field(default_factory=list)
    """Symbols whose names no venue here can list: they are left out."""

    @property
    def warnings(self) -> list[str]:
        """The damage, and what will not come out as it went in, in words."""
        found = [
            f"{file}:{damage[0].line}: {damage[0].what} (offset {damage[0].offset:,}); left out"
            + (f", as are {len(damage) - 1:,} more places" if len(damage) > 1 else "")
            for file, damage in self.damage.items()
        ]
        if self.not_listed:
            found.append(f"left out, as names are up to {SYMBOL_BYTES} of A-Z, 0-9, _, . and -: "
                         + ", ".join(self.not_listed))  # fmt: skip
        for item in self.symbols.values():
            if item.gaps:
                found.append(
                    f"{item.first_gap}, {item.gaps:,} gaps in all; behind a gap a book is made anew from the next "
                    "snapshot, or where there is none from what was recorded, which lacks what is missing"
                )
            if item.went_back:
                found.append(
                    f"{item.first_went_back}, {item.went_back:,} times in all; diffs of ids that were there are not "
                    "applied"
                )
            if item.snapshot_ids and max(item.snapshot_ids) < item.first_update_id - 1:
                found.append(
                    f"{item.symbol}: its snapshots end at {max(item.snapshot_ids)}, before its diffs begin with "
                    f"U={item.first_update_id}: its book cannot be right"
                )
        return found

    @property
    def needed_streams(self) -> dict[str, str]:
        """Recorded stream: the name of the one that a reader takes it by, `depth` as `depth@100ms` and the like.

        What is no market data here is not among them, nor is a second stream of the same data.
        """
        names = {stream: _reader_stream(stream) for stream in self.streams}
        found: dict[str, str] = {}
        for stream in sorted(self.streams, key=lambda stream: names[stream] != stream):
            if names[stream] and names[stream] not in found.values():
                found[stream] = names[stream]
        return found


def _reader_stream(stream: str) -> str:
    channels = {Kind.DIFF: "depth@100ms", Kind.TRADE: "trade", Kind.AGGREGATE_TRADE: "trade", Kind.TICKER: "bookTicker"}
    channel = channels.get(kind_of(stream.encode()))
    return f"{symbol_of(stream).lower()}@{channel}" if channel else ""


def describe(files: Sequence[str], chosen: Sequence[str] = ()) -> Description:
    """Read all files once; raises CaptureError when they cannot be replayed one after the other.

    chosen   the symbols that are wanted, by default all; what is of others is read, and left out

    Ids must join from file to file (U <= last u + 1 at a symbol's first diff), and every symbol needs a snapshot
    somewhere. A gap inside a file is counted, not refused: readers resynchronise, that is worth replaying too.
    """
    if not files:
        raise CaptureError("no capture file given", "name at least one file")
    found = Description(list(files), {}, [], 0, 0, {})
    for number, file in enumerate(files):
        snapshots: list[tuple[Record, dict[str, int]]] = []  # and the last ids before it
        joined: set[str] = set()  # symbols whose first diff in this file was seen
        record_count = 0
        for record in records(file, lambda damage, file=file: found.damage.setdefault(file, []).append(damage)):  # type: ignore[misc]
            record_count += 1
            found.first_receive_ns = found.first_receive_ns or record.receive_ns
            if record.kind is Kind.SNAPSHOT:
                ids = {symbol: item.last_update_id for symbol, item in found.symbols.items() if item.last_update_id}
                snapshots.append((record._replace(raw=b"", data=b""), ids))
            else:
                _count(found, record, file, files[number - 1] if number else None, joined)
        if not record_count:
            first = found.damage.get(file)
            raise CaptureError(
                f"{file}: holds no market data" + (f"; line {first[0].line}: {first[0].what}" if first else ""),
                "played are Binance streams, in lines `<receive ns> <raw JSON>`, and, in files or pcaps, ITCH 5.0 "
                "and raw 29-byte messages",
            )
        for snapshot, ids in snapshots:
            _claim(found, file, snapshot, ids)
        _require_snapshots(found, file, chosen)
    _leave_out(found, chosen)
    return found


def _is_wanted(symbol: str, chosen: Sequence[str]) -> bool:
    return _LISTED.fullmatch(symbol) is not None and (not chosen or symbol in chosen)


def _leave_out(found: Description, chosen: Sequence[str]) -> None:
    """What is of symbols that are not wanted, once it is known which snapshots are theirs."""
    given = list(found.symbols)
    found.not_listed = [symbol for symbol in given if not _LISTED.fullmatch(symbol)]
    for symbol in given:
        if not _is_wanted(symbol, chosen):
            messages = found.symbols.pop(symbol).messages
            found.stream_messages -= messages.total() - messages[Kind.SNAPSHOT.value]
    if not found.symbols:
        held = f"they hold {', '.join(given[:5])}" if given else f"streams: {', '.join(found.streams[:5])}"
        raise CaptureError(
            f"{', '.join(found.files)}: nothing of it is played, " + held,
            "played are depth diffs, bookTicker, trade and aggTrade of symbols with names of up to "
            f"{SYMBOL_BYTES} of A-Z, 0-9, _, . and -" + (", those in market.symbols" if chosen else ""),
        )
    found.streams = [stream for stream in found.streams if symbol_of(stream) in found.symbols]


def _count(found: Description, record: Record, file: str, before: str | None, joined: set[str]) -> None:
    if record.stream not in found.streams:
        found.streams.append(record.stream)
    found.stream_messages += 1
    if record.kind is Kind.OTHER:
        return
    symbol = symbol_of(record.stream)
    item = found.symbols.setdefault(symbol, SymbolSummary(symbol))
    item.messages[record.kind.value] += 1
    if record.kind is not Kind.DIFF:
        return
    item.first_update_id = item.first_update_id or record.first_id
    if before is not None and symbol not in joined:
        _require_joint(item, record, file, before)
    elif item.last_update_id and record.first_id > item.last_update_id + 1:
        item.gaps += 1
        item.first_gap = item.first_gap or (
            f"{file}:{record.line}: {symbol} lacks the update ids {item.last_update_id + 1} to {record.first_id - 1} "
            f"(offset {record.offset:,})"
        )
    if record.last_id < item.last_update_id:
        item.went_back += 1
        item.first_went_back = item.first_went_back or (
            f"{file}:{record.line}: {symbol} goes back to u={record.last_id} after u={item.last_update_id} "
            f"(offset {record.offset:,})"
        )
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


def owner_of(snapshot: Record, symbols: Iterable[SymbolSummary], ids: Mapping[str, int]) -> SymbolSummary | None:
    """The symbol that a snapshot names, or whose range of update ids is nearest.

    Where ranges overlap, as those of many symbols over a day do, the one whose ids were nearest there: `ids` has the
    last one of each symbol that had a diff before the snapshot.
    """
    candidates = [item for item in symbols if item.last_update_id]
    if snapshot.stream:
        candidates = [item for item in candidates if item.symbol == symbol_of(snapshot.stream)]
    return min(
        candidates,
        key=lambda item: (
            max(item.first_update_id - snapshot.last_id, snapshot.last_id - item.last_update_id, 0),
            abs(ids.get(item.symbol, item.first_update_id) - snapshot.last_id),
        ),
        default=None,
    )


def _claim(found: Description, file: str, snapshot: Record, ids: Mapping[str, int]) -> None:
    nearest = owner_of(snapshot, found.symbols.values(), ids)
    if nearest is None:
        raise CaptureError(
            f"{file}:{snapshot.line}: a snapshot, but no depth diffs that say of which symbol",
            "record <symbol>@depth@100ms beside the snapshot",
        )
    nearest.snapshot_ids.append(snapshot.last_id)
    nearest.messages[Kind.SNAPSHOT.value] += 1
    found.snapshot_symbols[file, snapshot.line] = nearest.symbol


def _require_snapshots(found: Description, file: str, chosen: Sequence[str]) -> None:
    for item in found.symbols.values():
        if not item.snapshot_ids and _is_wanted(item.symbol, chosen):
            raise CaptureError(
                f"{file}: {item.symbol} has no snapshot and no file before it"
                + (f" (its first diff is U={item.first_update_id})" if item.first_update_id else ""),
                "give the file that precedes it first, or choose others of its symbols by market.symbols; only a "
                "snapshot tells the whole book",
            )
