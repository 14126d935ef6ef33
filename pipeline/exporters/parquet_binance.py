"""Tables of a Binance capture: depth, a row a level; trades and tickers, a row a message.

`receive_ns` and `exchange_time_ns` count from 1970 (UTC). A snapshot does not name its symbol: it is null; its exchange
time and a ticker's are 0.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stages.domain.captures.binance import Damage, Kind, Record, records, symbol_of
from stages.domain.instruments import mantissa

ROWS = 1 << 16
"""Of a row group."""

INTEGER_MAX = 2**63 - 1

Row = tuple[Any, ...]
DECIMAL = "decimal 8"
WHEN = {"receive_ns": "int64", "exchange_time_ns": "int64", "symbol": "string"}
TABLES: dict[str, dict[str, str]] = {
    "depth": WHEN
    | {"first_id": "int64", "last_id": "int64", "is_snapshot": "bool", "side": "string", "price": DECIMAL,
       "quantity": DECIMAL},
    "trades": WHEN
    | {"trade_id": "int64", "is_aggregate": "bool", "aggressor": "string", "price": DECIMAL, "quantity": DECIMAL},
    "tickers": WHEN
    | {"update_id": "int64", "bid": DECIMAL, "bid_quantity": DECIMAL, "ask": DECIMAL, "ask_quantity": DECIMAL},
}  # fmt: skip


def tables(file: str, problems: list[str]) -> Iterator[tuple[str, dict[str, tuple[str, Any]]]]:
    """(table, rows by column: type and values) of a capture; its damage goes to `problems`. Raises CaptureError."""
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}

    def damaged(damage: Damage) -> None:
        problems.append(f"{file}:{damage.line}: {damage.what} (offset {damage.offset:,})")

    def columns(name: str) -> dict[str, tuple[str, Any]]:
        values = zip(*rows[name], strict=True)
        found = {column: (kind, one) for (column, kind), one in zip(TABLES[name].items(), values, strict=True)}
        rows[name].clear()
        return found

    for name, more in _readable(records(file, damaged), damaged):
        rows[name].extend(more)
        if len(rows[name]) >= ROWS:
            yield name, columns(name)
    for name in TABLES:
        if rows[name]:
            yield name, columns(name)


def _readable(found: Iterable[Record], damaged: Callable[[Damage], None]) -> Iterable[tuple[str, list[Row]]]:
    """(table, its rows) of each record that has some."""
    for record in found:
        try:
            value = json.loads(record.data)
            match record.kind:
                case Kind.DIFF | Kind.SNAPSHOT:
                    yield "depth", _fitting(_levels(record, value))
                case Kind.TRADE | Kind.AGGREGATE_TRADE:
                    yield "trades", _fitting([_trade(record, value)])
                case Kind.TICKER:
                    sides = [mantissa(value[key]) for key in "bBaA"]
                    row = record.receive_ns, 0, symbol_of(record.stream), record.last_id, *sides
                    yield "tickers", _fitting([row])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            damaged(Damage(record.line, record.offset, f"a {record.kind.value} that cannot be read: {error!r}"))


def _fitting(rows: Iterable[Row]) -> list[Row]:
    """The rows. Raises ValueError for a number that has no room in its column."""
    found = list(rows)
    for row in found:
        if large := next((one for one in row if isinstance(one, int) and one > INTEGER_MAX), None):
            raise ValueError(f"{large} is more than 64 bits hold")
    return found


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
