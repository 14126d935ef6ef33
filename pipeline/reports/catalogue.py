"""Counters and distinct errors, for people and as JSON-ready rows: of a report, or of any run's shared memory."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shm.errorlog import Observed

if TYPE_CHECKING:
    from rich.table import Table

    from shm.catalogue import Reading


def counter_rows(readings: "Iterable[Reading]") -> list[dict[str, Any]]:
    """One row for each counter and gauge. `value` is null when the writer's page is gone."""
    return [
        {
            "id": reading.entry.id, "writer": reading.entry.writer, "name": reading.entry.name,
            "value": reading.value, "unit": reading.entry.unit, "kind": reading.entry.kind, "help": reading.entry.help,
        }
        for reading in readings if reading.entry.kind != "errors"
    ]  # fmt: skip


def error_rows(readings: "Iterable[Reading]") -> list[dict[str, Any]]:
    """One row for each distinct error in the error logs among `readings`."""
    return [
        row
        for reading in readings if reading.entry.kind == "errors"
        for row in log_rows(reading.entry.writer, reading.observed, reading.dropped)
    ]  # fmt: skip


def log_rows(writer: str, errors: Iterable[Observed], dropped: int) -> list[dict[str, Any]]:
    """One row for each distinct error of a log, times in ns since 1970; and one for those that found no entry free."""
    rows: list[dict[str, Any]] = [
        {
            "writer": writer, "severity": logging.getLevelName(error.severity).lower(), "count": error.count,
            "first_ns": error.first_ns, "last_ns": error.last_ns, "text": error.text,
        }
        for error in errors
    ]  # fmt: skip
    if dropped:
        unknown = dict.fromkeys(("severity", "first_ns", "last_ns"))
        rows.append({"writer": writer, **unknown, "count": dropped, "text": "others, which found the log full"})
    return rows


def counter_table(title: str, rows: Sequence[Mapping[str, Any]]) -> "Table":
    """Counters, a line each."""
    from pipeline.reports.text import new_table

    table = new_table(title, "writer", "value")
    for column in ("counter", "unit", "kind", "help"):
        table.add_column(column, no_wrap=column != "help")
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:,}"
        table.add_row(row["writer"], value, *(str(row[name]) for name in ("name", "unit", "kind", "help")))
    return table


def error_table(title: str, rows: Sequence[Mapping[str, Any]]) -> "Table":
    """Distinct errors, a line each."""
    from rich.text import Text

    from pipeline.reports.text import new_table

    table = new_table(title, "writer", "count", "first", "last")
    table.add_column("severity", no_wrap=True)
    table.add_column("what", overflow="fold")
    for row in rows:
        times = (_clock_time(row["first_ns"]), _clock_time(row["last_ns"]))
        table.add_row(row["writer"], f"{row['count']:,}", *times, row["severity"] or "-", Text(row["text"]))
    return table


def _clock_time(ns: int | None) -> str:
    if ns is None:
        return "-"
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"
