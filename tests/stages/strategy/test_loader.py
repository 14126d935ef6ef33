"""Loading: what is wrong with a strategy is said with file, cause and hint; what it imports is found."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shm.kernel import hash_files
from stages.domain.edges import BOOK_TO_STRATEGY, STRATEGY_TO_RISK
from stages.domain.messages import BookState
from stages.strategy.loader import StrategyError, load, shipped_strategies, strategy_files, strategy_path
from tests.stages.strategy.support import Stage, compose, written

GOOD = """
from stages.strategy.api import BUY, Parameter, place, state_record
PARAMETERS = {"size": Parameter(default=5, minimum=1, maximum=9, help="lots")}
STATE = state_record("seen")
def on_book(ctx, book):
    ctx.state[book.symbol]["seen"] += 1
    place(ctx, book.symbol, BUY, book.bid_ticks, ctx.parameters.size)
"""

# What the compiled tests share, because each strategy of its own is seconds of compilation.
WHOLE = """
from stages.strategy.api import BUY, Parameter, place, state_record
PARAMETERS = {
    "size": Parameter(default=5, minimum=1, maximum=9, help="lots"),
    "orders": Parameter(default=1, minimum=1, maximum=2, help="orders a book"),
    "fails": Parameter(default=0, minimum=0, maximum=1, help="reach beyond the positions"),
}
STATE = state_record("price", "lots", "side", "reason", "halted")
def on_book(ctx, book):
    ctx.state[book.symbol]["halted"] = book.is_halted
    place(ctx, book.symbol, BUY, book.bid_ticks, ctx.parameters.size)
    if ctx.parameters.orders == 2:
        place(ctx, book.symbol, BUY, book.bid_ticks, 1)
    if ctx.parameters.fails:
        ctx.positions[book.symbol + 7] = 1
def on_trade(ctx, trade):
    ctx.state[trade.symbol]["price"] = trade.price_ticks
    ctx.state[trade.symbol]["lots"] = trade.quantity_lots
def on_report(ctx, report):
    ctx.state[report.symbol]["side"] = report.side
    ctx.state[report.symbol]["reason"] = report.reason - 3
"""


@pytest.fixture(scope="module")
def whole() -> Any:
    return compose(str(written(WHOLE)))


def placed(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_strategies_load_by_name() -> None:
    assert shipped_strategies() == ["market_maker", "spread"]
    for name in shipped_strategies():
        assert load(strategy_path(name)).parameters


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def on_book(ctx, book)\n    pass\n", "line 1: expected ':'; hint: correct the syntax"),
        ("x = 1\n", "defines neither on_book nor on_trade; hint: add `def on_book(ctx, book):`"),
        ("on_book = 3\n", "on_book is a int"),
        ("def on_book(ctx):\n    pass\n", "takes 1 arguments"),
        (
            "import not_there\ndef on_book(ctx, book): pass\n",
            "line 1: ModuleNotFoundError: No module named 'not_there'; hint: ",
        ),
        ("def on_book(ctx, book): pass\nPARAMETERS = {'a': 3}\n", "not a Parameter"),
        ("def on_book(ctx, book): pass\nSTATE = 3\n", "not a record"),
        (GOOD.replace("default=5", "default=50"), "outside its range"),
        (GOOD.replace("default=5", "default=0.5"), "must be integers"),
        ("from . import x\ndef on_book(ctx, book): pass\n", "relative import"),
    ],
)
def test_a_bad_strategy_is_refused_with_its_file_and_a_hint(tmp_path: Path, text: str, says: str) -> None:
    path = placed(tmp_path, text)
    with pytest.raises(StrategyError) as caught:
        load(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_names_that_nearly_fit_are_suggested(tmp_path: Path, whole: Any) -> None:
    with pytest.raises(StrategyError, match="did you mean market_maker"):
        strategy_path("market_makr")
    with pytest.raises(StrategyError, match="no such file"):
        strategy_path(str(tmp_path / "absent.py"))
    with pytest.raises(StrategyError, match="did you mean size"):
        Stage(whole, sise=3)
    with pytest.raises(StrategyError, match="outside 1 to 9"):
        Stage(whole, size=10)


def test_imported_modules_are_found_transitively_and_libraries_are_not(tmp_path: Path) -> None:
    package = tmp_path / "parts"
    package.mkdir()
    placed(package, "", "__init__.py")
    inner = placed(package, "import math\n", "inner.py")
    helper = placed(tmp_path, "import numpy\nfrom parts import inner\n", "helper.py")
    path = placed(tmp_path, "import os\nimport helper\nfrom stages.strategy.api import BUY\n" + GOOD)
    assert set(strategy_files(path)) == {path, helper, package / "__init__.py", inner}


def test_an_edit_of_the_file_or_of_its_helper_takes_effect_at_the_next_load(tmp_path: Path) -> None:
    helper = placed(tmp_path, "def size():\n    return 3\n", "sizes.py")
    text = GOOD.replace("ctx.parameters.size", "sizes.size()").replace("\nPARAM", "\nimport sizes\nPARAM")
    path = placed(tmp_path, text)
    stamp = helper.stat()

    def quantity() -> int:
        size = load(path).module.sizes.size
        return int(getattr(size, "py_func", size)())  # what would be compiled

    assert quantity() == 3
    files = hash_files(strategy_files(path))
    helper.write_text("def size():\n    return 4\n", encoding="utf-8")
    os.utime(helper, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size, same time: a .pyc would be trusted
    assert quantity() == 4
    assert hash_files(strategy_files(path)) != files, "the folder of its compiled code"


def test_a_handler_that_raises_has_sent_nothing_and_its_input_is_unread(whole: Any) -> None:
    stage = Stage(whole, fails=1)
    stage.book(0, 100, 101)
    with pytest.raises(IndexError):
        stage.poll()
    assert stage.orders() == []
    assert stage.segments.unread(BOOK_TO_STRATEGY) == 1


def test_outputs_carry_their_cause_and_leave_together(whole: Any) -> None:
    stage = Stage(whole, orders=2)
    stage.book(1, 100, 101, version=9, read_ns=55)
    stage.poll()
    first, second = stage.orders()
    assert [int(first[f]) for f in ("seq", "cause_seq", "version", "read_ns", "origin", "order_id")] == [
        1, 1, 9, 55, 1, 1,
    ]  # fmt: skip
    assert (second["seq"], second["order_id"]) == (2, 2)
    assert first["publish_ns"] == second["publish_ns"] > 0


def test_a_full_ring_is_told_as_busy_and_nothing_is_half_done(whole: Any) -> None:
    stage = Stage(whole, capacities={STRATEGY_TO_RISK: 2})
    for _ in range(5):
        stage.book(0, 100, 101)
    stage.poll()
    assert [int(order["order_id"]) for order in stage.orders()] == [1, 2]
    assert stage.count("busy") == 3
    assert stage.count("submitted") == 2
    assert stage.agent.context.working_buys[0] == 10


def test_a_replay_waits_for_room_instead_of_being_busy(whole: Any) -> None:
    stage = Stage(whole, delivery="every")
    total = 0
    for _ in range(30):
        for _ in range(60):
            stage.book(0, 100, 101)
        stage.poll()
        for index in range(total, total + len(orders := stage.orders())):
            stage.report(index + 1, kind=5, final=1)
        total += len(orders)
    assert (stage.count("busy"), total) == (0, 1_800)


def test_a_quiesced_strategy_decides_nothing_and_still_consumes(whole: Any) -> None:
    stage = Stage(whole)
    stage.book(0, 100, 101)
    stage.poll()
    stage.agent.quiesce()
    stage.book(0, 100, 101)
    stage.report(1, kind=2, cumulative_lots=5, final=1)
    assert stage.poll() == 2
    assert len(stage.orders()) == 1
    assert stage.agent.context.positions[0] == 5
    assert stage.agent.idle_input()


def test_order_ids_skip_rows_that_are_still_taken(whole: Any) -> None:
    stage = Stage(whole)
    ids: list[int] = []
    for _ in range(1_030):
        stage.book(0, 100, 101)
        stage.poll()
        for order in stage.orders():
            ids.append(int(order["order_id"]))
            if ids[-1] not in (3, 4):
                stage.report(ids[-1], kind=5, final=1)
    assert ids == [*range(1, 1_027), *range(1_029, 1_033)]


def test_the_user_sees_trades_and_reports_as_integers(whole: Any) -> None:
    stage = Stage(whole)
    stage.book(1, 1, 2, kind=2, trade_price=7 * 10**6, trade_quantity=9 * 10**4)
    stage.report(5, symbol=1, side=1, reason=2)
    stage.poll()
    record: Any = stage.agent.context.state[1]
    assert [int(record[name]) for name in ("price", "lots", "side", "reason")] == [7, 9, 1, -1]
    assert isinstance(stage.agent.context.state, np.ndarray)


def test_the_user_sees_a_halt_as_long_as_it_lasts(whole: Any) -> None:
    stage = Stage(whole)
    found = []
    for state in (BookState.VALID, BookState.HALTED, BookState.VALID, BookState.STALE):
        stage.book(1, 1, 2, state=state)
        stage.poll()
        found.append(int(stage.agent.context.state[1]["halted"]))  # type: ignore[call-overload]
    assert found == [0, 1, 0, 0]
