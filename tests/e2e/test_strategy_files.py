"""A strategy of one's own: edits take effect at the next start, mistakes are said in a line."""

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from shm.segment import NAME_PREFIX, SHM_DIRECTORY
from tests.e2e.conftest import Done, Runs

pytestmark = pytest.mark.timeout(400)

# Buys once per symbol, at the ask: the position is the size.
BUY_ONCE = """
import e2e_sizes
from stages.strategy.api import BUY, IOC, LIMIT, place, state_record

STATE = state_record("count")


def on_book(ctx, book):
    mine = ctx.state[book.symbol]
    if book.is_valid and mine["count"] < 1:
        mine["count"] += 1
        place(ctx, book.symbol, BUY, book.ask_ticks + 100, e2e_sizes.LOTS * 1, LIMIT, IOC)
"""


def _rewrite(path: Path, text: str) -> None:
    """Write a file anew, with its old size and times: what caches look at to see a change."""
    before = path.stat()
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_an_edit_of_the_strategy_or_its_helper_takes_effect_at_the_next_start(
    pipeline: Runs, kernels: Mapping[str, str], tmp_path: Path
) -> None:
    strategy, helper = tmp_path / "buy_once.py", tmp_path / "e2e_sizes.py"
    strategy.write_text(BUY_ONCE, encoding="utf-8")
    helper.write_text("LOTS = 1000\n", encoding="utf-8")

    def bought() -> tuple[Decimal, Done]:
        done = pipeline.run("up", "--duration", "500ms", "--json", "--strategy", str(strategy), env=kernels)
        assert done.code == 0, done.words
        return Decimal(done.report["positions"]["BTCUSDT"]["quantity"]), done

    assert bought()[0] == Decimal("0.01000")
    _rewrite(helper, "LOTS = 1700\n")
    assert bought()[0] == Decimal("0.01700")
    _rewrite(strategy, BUY_ONCE.replace("LOTS * 1", "LOTS * 2"))
    quantity, done = bought()
    assert quantity == Decimal("0.03400")
    assert done.report["compiled_kernels"] < 30, "the other stages' kernels are compiled already"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no such file; hint: give a path"),
        ("def on_book(ctx):\n    pass\n", "line 1: on_book takes 1 arguments; hint: "),
    ],
    ids=["missing", "arguments"],
)
def test_a_file_that_is_no_strategy_is_refused_in_a_line(
    pipeline: Runs, tmp_path: Path, text: str | None, expected: str
) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    done = pipeline.run("up", "--duration", "1s", "--strategy", str(path))
    assert done.code == 2, done.words
    (line,) = done.words.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert expected in line


def test_a_parameter_that_the_strategy_does_not_have_is_refused_in_a_line(pipeline: Runs) -> None:
    done = pipeline.run("up", "--duration", "1s", "-s", "strategy.parameters.skew_tick=1")
    assert done.code == 2, done.words
    (line,) = done.words.splitlines()
    assert "market_maker.py: parameter skew_tick: the strategy declares no such parameter" in line
    assert "hint: did you mean skew_ticks?" in line


# Rests far below the market, then reaches beyond its memory.
RAISES = """
from stages.strategy.api import BUY, place, state_record

STATE = state_record("count")


def on_book(ctx, book):
    mine = ctx.state[book.symbol]
    mine["count"] += 1
    if book.is_valid and mine["count"] < 4:
        place(ctx, book.symbol, BUY, book.bid_ticks - 400, 1000)
    if mine["count"] > 14:
        ctx.state[mine["count"]]["count"] = 1
"""


@pytest.mark.parametrize(
    ("placement", "process"), [("dedicated", "strategy"), pytest.param("packed", "line", marks=pytest.mark.long)]
)
def test_a_strategy_that_raises_stops_trading_its_orders_are_cancelled_and_it_is_named(
    pipeline: Runs, kernels: Mapping[str, str], tmp_path: Path, placement: str, process: str
) -> None:
    path = tmp_path / "reckless.py"
    path.write_text(RAISES, encoding="utf-8")
    done = pipeline.run(
        "up", "--duration", "60s", "--json", "--placement", placement, "--strategy", str(path), env=kernels
    )
    assert done.code == 3, done.words
    report, orders = done.report, done.report["orders"]
    assert (report["exit"], report["failure"]["process"]) == ("stage_failed", process)
    assert f"error: trading stopped: {process}" in done.words
    assert str(path) in done.words
    assert "IndexError" in done.words
    assert orders["acked"] == orders["sent"] > 0
    assert orders["cancelled"] + orders["filled"] == orders["acked"], "every resting order is cancelled"
    assert orders["unknown"] == 0
    assert not list(SHM_DIRECTORY.glob(f"{NAME_PREFIX}{report['run']}*"))
