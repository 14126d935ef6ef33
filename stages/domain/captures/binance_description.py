"""What a list of capture files holds, before anything is started: which symbols, which streams, whether ids join."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stages.domain.captures.binance import CaptureError, Damage, Kind, Record, symbol_of, undamaged


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
    torn: dict[str, Damage] = field(default_factory=dict)
    """File: where it ends too early; what is before that is played."""

    @property
    def warnings(self) -> list[str]:
        """The torn tails, in words."""
        return [
            f"{file}:{damage.line}: {damage.what} (offset {damage.offset:,}); played up to there"
            for file, damage in self.torn.items()
        ]


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
        for record in undamaged(file, lambda torn, file=file: found.torn.update({file: torn})):  # type: ignore[misc]
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


def owner_of(snapshot_id: int, symbols: Iterable[SymbolSummary]) -> SymbolSummary | None:
    """The symbol whose range of update ids is nearest to a snapshot's (those of symbols lie far apart)."""
    candidates = [item for item in symbols if item.last_update_id]
    return min(
        candidates,
        key=lambda item: max(item.first_update_id - snapshot_id, snapshot_id - item.last_update_id, 0),
        default=None,
    )


def _claim(found: Description, file: str, snapshot: Record) -> None:
    nearest = owner_of(snapshot.last_id, found.symbols.values())
    if nearest is None:
        raise CaptureError(
            f"{file}:{snapshot.line}: a snapshot, but no depth diffs that say of which symbol",
            "record <symbol>@depth@100ms beside the snapshot",
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
