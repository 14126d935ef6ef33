"""Captures as Parquet, for research: a file each for depth, trades and tickers; a row is a level or a message.

Prices and quantities are exact decimals with 8 places. `receive_ns` and `exchange_time_ns` count from 1970 (UTC).
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import UsageError
from stages.domain.captures.binance import CaptureError, Damage, Kind, Record, records, symbol_of
from stages.domain.instruments import mantissa

if TYPE_CHECKING:
    import pyarrow

ROWS = 1 << 16
"""Of a row group."""
PLACES, DIGITS = 8, 19
"""Of what an int64 mantissa holds."""

Row = tuple[Any, ...]
WHEN = {"receive_ns": "int64", "exchange_time_ns": "int64", "symbol": "string"}
TABLES: dict[str, dict[str, str]] = {
    "depth": WHEN
    | {"first_id": "int64", "last_id": "int64", "is_snapshot": "bool", "side": "string", "price": "decimal",
       "quantity": "decimal"},
    "trades": WHEN
    | {"trade_id": "int64", "is_aggregate": "bool", "aggressor": "string", "price": "decimal", "quantity": "decimal"},
    "tickers": WHEN
    | {"update_id": "int64", "bid": "decimal", "bid_quantity": "decimal", "ask": "decimal", "ask_quantity": "decimal"},
}  # fmt: skip
"""Table: column: type. A snapshot does not name its symbol: it is null; its exchange time and a ticker's are 0."""


def export(file: Path, folder: Path) -> tuple[dict[Path, int], list[str]]:
    """({file written: rows}, what could not be read, in words). Raises UsageError."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow, which is not installed", 'pip install "tickpipe[parquet]"') from None
    folder.mkdir(parents=True, exist_ok=True)
    stem = file.name.removesuffix(".gz")
    problems: list[str] = []
    written: dict[Path, int] = {}
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    writers: dict[str, Any] = {}

    def flush(name: str) -> None:
        table = _table(pyarrow, TABLES[name], rows[name])
        path = folder / f"{stem}.{name}.parquet"
        if name not in writers:
            writers[name] = pyarrow.parquet.ParquetWriter(path, table.schema)
        writers[name].write_table(table)
        written[path] = written.get(path, 0) + len(rows[name])
        rows[name].clear()

    def damaged(damage: Damage) -> None:
        problems.append(f"{file}:{damage.line}: {damage.what} (offset {damage.offset:,})")

    try:
        for record in _readable(records(str(file), damaged), damaged):
            name, more = record
            rows[name].extend(more)
            if len(rows[name]) >= ROWS:
                flush(name)
        for name in TABLES:
            if rows[name]:
                flush(name)
    except CaptureError as error:
        raise UsageError(error.message, error.hint) from None
    finally:
        for writer in writers.values():
            writer.close()
    if not written:
        raise UsageError(f"{file}: holds no market data", "a capture's lines are `<receive ns> <raw JSON>`")
    return written, problems


def _readable(found: Iterable[Record], damaged: Callable[[Damage], None]) -> Iterable[tuple[str, list[Row]]]:
    """(table, its rows) of each record that has some."""
    for record in found:
        try:
            value = json.loads(record.data)
            match record.kind:
                case Kind.DIFF | Kind.SNAPSHOT:
                    yield "depth", list(_levels(record, value))
                case Kind.TRADE | Kind.AGGREGATE_TRADE:
                    yield "trades", [_trade(record, value)]
                case Kind.TICKER:
                    sides = [mantissa(value[key]) for key in "bBaA"]
                    yield "tickers", [(record.receive_ns, 0, symbol_of(record.stream), record.last_id, *sides)]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            damaged(Damage(record.line, record.offset, f"a {record.kind.value} that cannot be read: {error!r}"))


def _levels(record: Record, value: dict[str, Any]) -> Iterable[Row]:
    is_snapshot = record.kind is Kind.SNAPSHOT
    head = (
        record.receive_ns, _exchange_ns(value.get("E", 0)), None if is_snapshot else symbol_of(record.stream),
        record.first_id, record.last_id, is_snapshot,
    )  # fmt: skip
    for side, key in (("bid", "bids" if is_snapshot else "b"), ("ask", "asks" if is_snapshot else "a")):
        for level in value[key]:
            yield *head, side, mantissa(level[0]), mantissa(level[1])


def _trade(record: Record, value: dict[str, Any]) -> Row:
    is_aggregate = record.kind is Kind.AGGREGATE_TRADE
    return (
        record.receive_ns, _exchange_ns(value["T"]), symbol_of(record.stream), int(value["a" if is_aggregate else "t"]),
        is_aggregate, "sell" if value["m"] else "buy", mantissa(value["p"]), mantissa(value["q"]),
    )  # fmt: skip


def _exchange_ns(time: int) -> int:
    """Binance counts ms, or us where that was asked for."""
    return int(time) * (1_000 if time >= 10**14 else 1_000_000)


def _table(arrow: "Any", columns: dict[str, str], rows: list[Row]) -> "pyarrow.Table":
    arrays = {
        name: _decimals(arrow, values) if kind == "decimal" else arrow.array(values, kind)
        for (name, kind), values in zip(columns.items(), zip(*rows, strict=True), strict=True)
    }
    return arrow.table(arrays)


def _decimals(arrow: "Any", mantissas: Iterable[int]) -> "pyarrow.Array":
    """128-bit decimals, little-endian, of int64 mantissas."""
    low = np.array(mantissas, np.int64)
    words = np.stack([low, low >> 63], axis=1)
    return arrow.Array.from_buffers(
        arrow.decimal128(DIGITS, PLACES), len(low), [None, arrow.py_buffer(words.tobytes())]
    )
