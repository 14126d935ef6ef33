"""Orders of a run as its router's journal has them: those that may be at the venue, and the last that ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.domain.instruments import decimal_string
from stages.domain.messages import Side
from stages.domain.orders import OPEN_STATES, OrderState, base36
from stages.router.journal import ENTRY, ROW_WORDS
from stages.router.journal_files import files_of, read_entries
from stages.router.records import ORDER_ROW

ENDED_MOST = 20
FILES_READ = 2
"""A file begins with an entry for each order there is, but the last one may be only begun."""


def orders_document(journal: Path, grids: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{"working": [...], "ended": [...]}, newest first, of a journal's folder; `grids` by symbol index.

    Raises JournalError for what is no journal.
    """
    parts, prefix = [np.zeros(0, ENTRY)], ""
    for path in files_of(journal)[-FILES_READ:]:
        entries, says, _ = read_entries(path)
        parts.append(entries)
        prefix = str(says["prefix"])
    newest = _newest_of_each(np.concatenate(parts))
    working = [_order(row, prefix, grids) for row in newest if row["state"] in OPEN_STATES]
    ended = [row for row in newest if row["state"] not in OPEN_STATES][:ENDED_MOST]
    return {"working": working, "ended": [_order(row, prefix, grids) for row in ended]}


def _newest_of_each(entries: NDArray[np.void]) -> NDArray[np.void]:
    """ORDER_ROW of each order, those that changed last first."""
    rows = np.zeros(len(entries), ORDER_ROW)
    rows.view(np.int64).reshape(len(rows), ORDER_ROW.itemsize // 8)[:, :ROW_WORDS] = entries["row"]
    rows = rows[rows["order_id"] > 0][::-1]  # a file's beginning has positions of no order
    _, first = np.unique(rows["order_id"], return_index=True)
    return rows[np.sort(first)]


def _order(row: np.void, prefix: str, grids: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    grid = grids[int(row["symbol"])]

    def quantity(lots: int) -> str:
        return decimal_string(lots * grid["lot"], grid["quantity_exponent"])

    return {
        "client_order_id": prefix + base36(int(row["order_id"])),
        "venue_order_id": int(row["venue_order_id"]) or None,
        "symbol": grid["symbol"],
        "side": Side(int(row["side"])).name.lower(),
        "price": decimal_string(int(row["price_ticks"]) * grid["tick"], grid["price_exponent"]),
        "quantity": quantity(int(row["quantity_lots"])),
        "filled": quantity(int(row["cumulative_lots"])),
        "state": OrderState(int(row["state"])).name.lower(),
    }
