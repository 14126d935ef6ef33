"""After a run: what the line believes against what the exchange knows, order by order and position by position."""

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from stages.domain.messages import POSITION
from stages.domain.orders import OrderState, base36
from stages.router.journal_files import files_of, newest, read_entries
from stages.router.records import ORDER_ROW
from tests.chaos.line import SYMBOLS, Venue

VENUE_STATES = {
    "FILLED": OrderState.FILLED, "CANCELED": OrderState.CANCELLED, "EXPIRED": OrderState.EXPIRED,
    "REJECTED": OrderState.REJECTED, "EXPIRED_IN_MATCH": OrderState.EXPIRED,
}  # fmt: skip


@dataclass
class Verdict:
    """What was compared, and every difference in words."""

    orders: int = 0
    filled: int = 0
    never_arrived: int = 0
    """Written down, killed before it was sent; the exchange never knew it and the line knows that."""
    differences: list[str] = field(default_factory=list)


def last_of_each_order(folder: Path) -> tuple[dict[int, np.void], np.ndarray, str]:
    """(order id: its newest row, positions, the prefix of the client order ids) of the journal in `folder`."""
    parts = [read_entries(path) for path in files_of(folder)]
    entries = np.concatenate([part[0] for part in parts])
    rows: dict[int, np.void] = {}
    for words in entries["row"]:
        row = np.zeros(1, ORDER_ROW)
        row.view(np.int64)[: len(words)] = words
        rows[int(row[0]["order_id"])] = row[0]
    assert POSITION.names is not None
    _, positions = newest(entries, len(SYMBOLS))
    return rows, positions, str(parts[-1][1]["prefix"])


def compare(venue: Venue, journal: Path, report: Any, lots: tuple[Decimal, ...]) -> Verdict:
    """The truth of the exchange against journal and report. `lots` is the lot of each symbol, as a quantity."""
    verdict = Verdict()
    rows, positions, prefix = last_of_each_order(journal)
    by_client_id = {f"{prefix}{base36(order_id)}": row for order_id, row in rows.items()}
    at_venue: dict[str, Any] = {}
    say = verdict.differences.append
    for index, symbol in enumerate(SYMBOLS):
        for order in venue.orders(symbol):
            client_id = order["clientOrderId"]
            if not client_id.startswith(prefix):
                continue
            if client_id in at_venue:
                say(f"{client_id}: twice at the exchange")
            at_venue[client_id] = order
            if client_id not in by_client_id:
                say(f"{client_id}: at the exchange, but not in the journal")
                continue
            row = by_client_id[client_id]
            state = OrderState(int(row["state"]))
            if VENUE_STATES.get(order["status"]) is not state:
                say(f"{client_id}: {order['status']} at the exchange, {state.name} here")
            if Decimal(order["executedQty"]) != int(row["cumulative_lots"]) * lots[index]:
                say(f"{client_id}: {order['executedQty']} filled, {row['cumulative_lots']} lots here")
            verdict.filled += int(row["cumulative_lots"] > 0)
        _compare_position(venue, symbol, prefix, at_venue, positions[index], lots[index], report, say)
    verdict.orders = len(at_venue)
    for client_id, row in by_client_id.items():
        if client_id not in at_venue:
            verdict.never_arrived += 1
            if row["state"] != OrderState.REJECTED:
                say(f"{client_id}: {OrderState(int(row['state'])).name} here, unknown at the exchange")
    return verdict


def _compare_position(
    venue: Venue, symbol: str, prefix: str, ours: dict[str, Any], position: np.void, lot: Decimal, report: Any, say: Any
) -> None:
    ids = {order["orderId"] for order in ours.values() if order["symbol"] == symbol}
    quantity, money = Decimal(0), Decimal(0)
    for trade in venue.trades(symbol):
        if trade["orderId"] in ids:
            sign = 1 if trade["isBuyer"] else -1
            quantity += sign * Decimal(trade["qty"])
            money += sign * Decimal(trade["quoteQty"])
    if Decimal(report["positions"][symbol]["quantity"]) != quantity:
        say(f"{symbol}: position {report['positions'][symbol]['quantity']} reported, {quantity} by the trades")
    if int(position["quantity_lots"]) * lot != quantity:
        say(f"{symbol}: {position['quantity_lots']} lots in the journal, {quantity} by the trades")
    paid = Decimal(int(position["cost_quote"]) - int(position["realized_quote"])) / 10**8
    if paid != money:
        say(f"{symbol}: {paid} paid in all here, {money} by the trades")
