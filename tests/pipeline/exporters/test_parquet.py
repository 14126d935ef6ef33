"""Captures as Parquet: every level, trade and ticker, exact; damage told."""

import json
import struct
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import UsageError
from tests.oracle import itch as oracle
from tests.pipeline.verify.test_binance import START, write
from tests.stages.domain.codecs.itch_messages import directory
from tests.stages.feed.stepped import diff

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def test_every_level_trade_and_ticker_is_there(tmp_path: Path) -> None:
    file = write(tmp_path, *START, name="day.gz")
    done = CliRunner().invoke(cli, ["export", "parquet", file, "--output", str(tmp_path / "out"), "--json"])
    assert json.loads(done.stdout)["files"][0]["problems"] == []
    depth, trades, tickers = (
        parquet.read_table(tmp_path / "out" / f"day.{name}.parquet").to_pylist()
        for name in ("depth", "trades", "tickers")
    )
    assert [(row["side"], row["price"], row["quantity"]) for row in depth if row["is_snapshot"]] == [
        ("bid", Decimal(100), Decimal(1)), ("bid", Decimal(99), Decimal(2)),
        ("ask", Decimal(101), Decimal(3)), ("ask", Decimal(102), Decimal(4)),
    ]  # fmt: skip
    diffs = [row for row in depth if not row["is_snapshot"]]
    assert [(row["symbol"], row["first_id"], row["last_id"], row["price"]) for row in diffs] == [
        ("BTCUSDT", 9, 10, Decimal(98)), ("BTCUSDT", 11, 12, Decimal(100)),
        ("BTCUSDT", 13, 14, Decimal(101)), ("BTCUSDT", 15, 15, Decimal(97)),
    ]  # fmt: skip
    (trade,) = trades
    assert (trade["trade_id"], trade["aggressor"], trade["quantity"]) == (7, "sell", Decimal("0.5"))
    assert trade["exchange_time_ns"] % 1_000_000 == 0
    assert [(row["update_id"], row["ask"]) for row in tickers] == [(10, 101), (12, 101), (14, 102)]
    assert {row["receive_ns"] for row in depth} <= set(range(1_000, 1_000 + len(START)))


def test_what_cannot_be_read_is_told_and_the_rest_written(tmp_path: Path) -> None:
    bad = START[5].replace(b'"p":"101"', b'"p":"none"')
    assert bad != START[5]
    file = write(tmp_path, *START, bad, b"hello", diff(16, 2**63, [("1", "1")]))
    done = CliRunner().invoke(cli, ["export", "parquet", file, "--output", str(tmp_path), "--json"])
    entry = json.loads(done.stdout.splitlines()[-1])["files"][0]
    assert [problem.split(": ")[0].rsplit(":", 1)[1] for problem in entry["problems"]] == ["10", "11", "12"]
    assert sum(entry["rows"].values()) == 4 + 4 + 1 + 3


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing\n")
    done = CliRunner().invoke(
        cli, ["export", "parquet", str(tmp_path / "x"), "--output", str(tmp_path)], standalone_mode=False
    )
    assert isinstance(done.exception, UsageError)
    assert "no market data" in str(done.exception)


def exported(file: Path) -> tuple[dict[str, list[dict[str, object]]], list[str]]:
    """(rows by table, problems) of a file."""
    done = CliRunner().invoke(cli, ["export", "parquet", str(file), "--output", str(file.parent / "out"), "--json"])
    entry = json.loads(done.stdout.splitlines()[-1])["files"][0]
    rows = {path.split(".")[-2]: parquet.read_table(path).to_pylist() for path in entry["rows"]}
    assert {name: len(each) for name, each in rows.items()} == {
        path.split(".")[-2]: count for path, count in entry["rows"].items()
    }
    return rows, entry["problems"]


def test_each_type_of_itch_message_is_a_table_of_its_fields(tmp_path: Path) -> None:
    file = tmp_path / "day.itch"
    at = (1 << 40) + 5
    messages = [
        directory(1),
        oracle.pack("A", 1, 0, at, 2**64 - 1, b"B", 100, b"STOCK1  ", 1_234_567),
        oracle.pack("F", 1, 0, at, 8, b"S", 7, b"STOCK1  ", 2**32 - 1, b"MPID"),
        oracle.pack("D", 1, 3, at, 8),
        oracle.pack("D", 9, 3, at, 8),
        oracle.pack("V", 0, 0, at, 10**8, 2 * 10**8, 5),
    ]
    file.write_bytes(oracle.framed(*messages) + b"\0\1")
    rows, (problem,) = exported(file)
    assert "left over" in problem
    assert rows.keys() == {"stock_directory", "orders", "attributed_orders", "deletes", "breaker_levels"}
    (order,) = rows["orders"]
    assert order == {
        "time_ns": at, "stock_locate": 1, "tracking_number": 0, "symbol": "STOCK1", "order_reference": 2**64 - 1,
        "side": "B", "shares": 100, "price": Decimal("123.4567"),
    }  # fmt: skip
    assert rows["attributed_orders"][0]["price"] == Decimal(2**32 - 1) / 10_000
    assert rows["attributed_orders"][0]["attribution"] == "MPID"
    assert [(row["symbol"], row["tracking_number"]) for row in rows["deletes"]] == [("STOCK1", 3), (None, 3)]
    assert [rows["breaker_levels"][0][f"level_{number}"] for number in (1, 2, 3)] == [1, 2, Decimal("0.00000005")]


def test_stock_locates_are_those_of_their_day(tmp_path: Path) -> None:
    def day(number: int) -> list[bytes]:
        named = directory(number)
        return [oracle.pack("S", 0, 0, 0, b"O"), named[:1] + b"\0\1" + named[3:], oracle.pack("D", 1, 0, 9, 8)]

    (tmp_path / "days").write_bytes(oracle.framed(*day(3), *day(4)))
    rows, _ = exported(tmp_path / "days")
    assert [row["symbol"] for row in rows["deletes"]] == ["STOCK3", "STOCK4"]


def test_raw_trades_and_quotes_are_tables_and_what_is_neither_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "day.raw"
    trade, quote, other = (
        struct.pack("<BIqQQ", kind, 7, -(10**18), 2**64 - 1, 5_000_000_000 + kind) for kind in (1, 2, 9)
    )
    file.write_bytes(trade + quote + other + quote)
    rows, problems = exported(file)
    assert problems == [f"{file}: 1 messages of type 9, which is unknown"]
    assert {name: len(each) for name, each in rows.items()} == {"trades": 1, "quotes": 2}
    assert rows["trades"] == [
        {"timestamp_ns": 5_000_000_001, "symbol_id": 7, "price": Decimal(-(10**10)), "quantity": 2**64 - 1}
    ]
