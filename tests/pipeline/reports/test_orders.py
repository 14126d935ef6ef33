"""`pipeline orders` from a journal written by hand, entry by entry."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.reports.books import grid_document
from pipeline.reports.orders import ENDED_MOST, orders_document
from stages.domain.instruments import INSTRUMENT
from stages.domain.messages import Side
from stages.domain.orders import OrderState
from stages.router.journal import ENTRY, ENTRY_BYTES, ROW_WORDS
from stages.router.journal_files import HEADER_BYTES, Journal, checksums, files_of
from stages.router.records import ORDER_ROW


def grids() -> list[Any]:
    table = np.zeros(2, INSTRUMENT)
    table["symbol"] = [b"BTCUSDT", b"ETHUSDT"]
    table["price_exponent"] = table["quantity_exponent"] = -8
    table["tick"], table["lot"] = [1_000_000, 10_000_000], [1_000, 10_000]
    return [grid_document(instrument) for instrument in table]


class Written:
    """A journal that grows by whole entries."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.begin()

    def begin(self) -> None:
        """The next file."""
        Journal.draft(self.folder, ["BTCUSDT", "ETHUSDT"], "t1-").publish()
        self.at = HEADER_BYTES

    def order(
        self, order_id: int, state: OrderState, *, symbol: int = 0, filled: int = 0, is_torn: bool = False
    ) -> None:
        row = np.zeros(1, ORDER_ROW)
        row["order_id"], row["state"], row["symbol"], row["side"] = order_id, state, symbol, Side.SELL
        row["price_ticks"], row["quantity_lots"], row["cumulative_lots"] = 6_000_012, 50, filled
        row["venue_order_id"] = 0 if state is OrderState.PENDING_NEW else 1000 + order_id
        self.number += 1
        entry = np.zeros(1, ENTRY)
        entry["number"], entry["slot"] = self.number, order_id
        entry["row"] = row.view(np.int64)[:ROW_WORDS]
        entry["checksum"] = checksums(entry) + is_torn
        with files_of(self.folder)[-1].open("r+b") as file:
            os.pwrite(file.fileno(), entry.tobytes(), self.at)
        self.at += ENTRY_BYTES


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "journal")


def test_without_a_journal_there_are_no_orders(tmp_path: Path) -> None:
    assert orders_document(tmp_path / "journal", grids()) == {"working": [], "ended": []}


def test_an_order_is_what_its_newest_whole_entry_says(written: Written) -> None:
    written.order(35, OrderState.PENDING_NEW)
    written.order(36, OrderState.PENDING_NEW, symbol=1)
    written.order(35, OrderState.WORKING, filled=7)
    written.order(35, OrderState.FILLED, filled=50, is_torn=True)
    assert orders_document(written.folder, grids()) == {
        "working": [
            {"client_order_id": "t1-z", "venue_order_id": 1035, "symbol": "BTCUSDT", "side": "sell",
             "price": "60000.12", "quantity": "0.0005", "filled": "0.00007", "state": "working"},
            {"client_order_id": "t1-10", "venue_order_id": None, "symbol": "ETHUSDT", "side": "sell",
             "price": "600001.2", "quantity": "0.005", "filled": "0", "state": "pending_new"},
        ],
        "ended": [],
    }  # fmt: skip


def test_the_last_that_ended_come_newest_first_and_are_not_endless(written: Written) -> None:
    for order_id in range(1, 2 * ENDED_MOST):
        written.order(order_id, OrderState.WORKING)
    for order_id in range(1, 2 * ENDED_MOST):
        written.order(order_id, OrderState.CANCELLED)
    found = orders_document(written.folder, grids())
    assert found["working"] == []
    assert [order["venue_order_id"] for order in found["ended"]] == [
        1000 + order_id for order_id in reversed(range(ENDED_MOST, 2 * ENDED_MOST))
    ]


def test_orders_of_the_file_before_the_last_are_there_when_the_last_is_only_begun(written: Written) -> None:
    written.order(1, OrderState.WORKING)
    written.order(2, OrderState.WORKING)
    written.begin()
    written.order(2, OrderState.FILLED, filled=50)
    found = orders_document(written.folder, grids())
    assert [(order["venue_order_id"], order["state"]) for order in found["working"]] == [(1001, "working")]
    assert [(order["venue_order_id"], order["filled"]) for order in found["ended"]] == [(1002, "0.0005")]
