"""Captures as Parquet: every level, trade and ticker, exact; damage told."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import UsageError
from tests.pipeline.verify.test_binance import START, write

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
    file = write(tmp_path, *START, bad, b"hello")
    done = CliRunner().invoke(cli, ["export", "parquet", file, "--output", str(tmp_path), "--json"])
    entry = json.loads(done.stdout.splitlines()[-1])["files"][0]
    assert [problem.split(": ")[0].rsplit(":", 1)[1] for problem in entry["problems"]] == ["10", "11"]
    assert sum(entry["rows"].values()) == 4 + 4 + 1 + 3


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing\n")
    done = CliRunner().invoke(
        cli, ["export", "parquet", str(tmp_path / "x"), "--output", str(tmp_path)], standalone_mode=False
    )
    assert isinstance(done.exception, UsageError)
    assert "no market data" in str(done.exception)
