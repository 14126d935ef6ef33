"""Tables of ITCH 5.0 and of raw messages: one for each type of message, its columns the fields that it has.

ITCH times are ns since midnight, New York (`time_ns`); `symbol` is the message's own, or what the stock directory has
called its stock locate before, null where that has not been said. Raw messages have a timestamp of their own, and ids
for symbols. When a packet of a capture was received is not told: lines bring messages twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.domain.captures import itch as itch_capture
from stages.domain.captures import raw as raw_capture
from stages.domain.codecs import raw as raw_codec
from stages.domain.codecs.itch import MESSAGES, PRICE_DECIMALS

ROWS = 1 << 16
"""Of a row group."""

ITCH_TABLES = {
    "S": "system_events", "R": "stock_directory", "H": "trading_actions", "Y": "short_sale_restrictions",
    "L": "participants", "V": "breaker_levels", "W": "breaker_status", "K": "quoting_periods", "J": "luld_collars",
    "h": "operational_halts", "A": "orders", "F": "attributed_orders", "E": "executions", "C": "executions_at_price",
    "X": "cancels", "D": "deletes", "U": "replaces", "P": "trades", "Q": "crosses", "B": "broken_trades",
    "I": "imbalances", "N": "retail_interest", "O": "direct_listings",
}  # fmt: skip
"""Table of each message type; letters would not do, where files of `H` and `h` are one."""
RAW_TABLES = {raw_codec.TRADE: "trades", raw_codec.QUOTE: "quotes"}
assert ITCH_TABLES.keys() == MESSAGES.keys()

_HEADER_FIELDS = ("message_type", "stock_locate", "tracking_number", "time_high", "time_low", "stock")
_LEVELS = ("level_1", "level_2", "level_3")
_LEVEL_DECIMALS = 8
_INTEGERS = {2: "uint16", 4: "uint32", 8: "uint64"}

Columns = dict[str, tuple[str, Any]]
"""Column: its type in Arrow's words, or "decimal N" with N places, and its values; for decimals, their mantissas."""


def itch(file: str, problems: list[str]) -> Iterator[tuple[str, Columns]]:
    """(table, rows by column: type and values) of a file; where it is damaged it ends. Raises CaptureError."""
    for messages in _by_day(itch_capture.played([file], problems, problems)):
        names: dict[int, str] = {}
        for kind, found in _by_type(_noted(messages, names)):
            letter = chr(kind)
            yield ITCH_TABLES[letter], _itch_columns(np.frombuffer(b"".join(found), MESSAGES[letter]), names)


def _by_day(messages: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
    """The messages of each day: stock locates are of one."""
    day = before_ns = 0

    def day_of(message: bytes) -> int:
        nonlocal day, before_ns
        day += itch_capture.begins_day(message, before_ns)
        before_ns = itch_capture.time_ns(message)
        return day

    for _, found in groupby(messages, day_of):
        yield found


def _noted(messages: Iterable[bytes], names: dict[int, str]) -> Iterator[bytes]:
    """The messages; what the stock directory calls each stock locate goes to `names`."""
    for message in messages:
        if message[0] == ord("R"):
            names[itch_capture.locate(message)] = itch_capture.stock(message) or ""
        yield message


def _by_type(messages: Iterable[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """(type, messages of it in their order), ROWS at a time; the rest at the end, a type after the other."""
    waiting: dict[int, list[bytes]] = {}
    for message in messages:
        same = waiting.setdefault(message[0], [])
        same.append(message)
        if len(same) == ROWS:
            yield message[0], waiting.pop(message[0])
    yield from waiting.items()


def _itch_columns(messages: NDArray[Any], names: dict[int, str]) -> Columns:
    fields = messages.dtype.names or ()
    locates = messages["stock_locate"].astype(np.uint16)
    symbols = _texts(messages["stock"]) if "stock" in fields else [names.get(locate) for locate in locates.tolist()]
    found: Columns = {
        "time_ns": ("int64", messages["time_high"].astype(np.int64) << 32 | messages["time_low"].astype(np.int64)),
        "stock_locate": ("uint16", locates),
        "tracking_number": ("uint16", messages["tracking_number"].astype(np.uint16)),
        "symbol": ("string", symbols),
    }
    for name in fields:
        if name not in _HEADER_FIELDS:
            found[name] = _itch_column(name, messages[name])
    return found


def _itch_column(name: str, values: NDArray[Any]) -> tuple[str, Any]:
    if values.dtype.kind == "S":
        return "string", _texts(values)
    if name in _LEVELS:
        return f"decimal {_LEVEL_DECIMALS}", values
    if name == "price" or name.endswith("_price"):
        return f"decimal {PRICE_DECIMALS}", values
    kind = _INTEGERS[values.dtype.itemsize]
    return kind, values.astype(kind)


def _texts(values: NDArray[Any]) -> list[str]:
    return [value.decode("ascii", "replace").strip() for value in values.tolist()]


def raw(file: str, problems: list[str]) -> Iterator[tuple[str, Columns]]:
    """(table, rows by column: type and values) of a file; where it is damaged it ends. Raises CaptureError."""
    unknown: Counter[int] = Counter()
    for kind, found in _by_type(raw_capture.played([file], problems, problems)):
        if kind in RAW_TABLES:
            yield RAW_TABLES[kind], _raw_columns(np.frombuffer(b"".join(found), raw_codec.MESSAGE))
        else:
            unknown[kind] += len(found)
    problems += [f"{file}: {count:,} messages of type {kind}, which is unknown" for kind, count in unknown.items()]


def _raw_columns(messages: NDArray[Any]) -> Columns:
    return {
        "timestamp_ns": ("uint64", messages["timestamp_ns"].astype(np.uint64)),
        "symbol_id": ("uint32", messages["symbol_id"].astype(np.uint32)),
        "price": (f"decimal {-raw_codec.PRICE_EXPONENT}", messages["price"]),
        "quantity": ("uint64", messages["quantity"].astype(np.uint64)),
    }
