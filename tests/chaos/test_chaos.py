"""A trading line whose processes are killed and stopped at random, and one that loses its supervisor."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.line import STAGES, Line, Venue, exchange, wait_until
from tests.chaos.monkey import chaos

DEFAULT_STRIKES, LONG_STRIKES = 40, 2_000
FORKED = ("feed", "book", "strategy", "risk")


def judge(tally: dict[str, object], strikes: int) -> None:
    assert tally["differences"] == []
    assert (tally["code"], tally["exit"], tally["notes"], tally["still_open"]) == (0, "clean", [], [])
    assert set(tally["counters"].values()) == {0}  # type: ignore[attr-defined]
    assert tally["mismatched_books"] == 0
    assert set(tally["books"].values()) == {"valid"}  # type: ignore[attr-defined]
    assert int(tally["kills"]) >= strikes  # type: ignore[call-overload]
    assert int(tally["orders"]) > 0  # type: ignore[call-overload]


@pytest.mark.timeout(900)  # the first of the suite: it compiles, on cores that others may need too
def test_after_random_kills_and_stops_all_is_as_the_exchange_has_it(tmp_path: Path) -> None:
    judge(chaos(tmp_path, DEFAULT_STRIKES, seed=1), DEFAULT_STRIKES)


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_after_many_more_too(tmp_path: Path) -> None:
    judge(chaos(tmp_path, LONG_STRIKES, seed=2), LONG_STRIKES)


@pytest.fixture
def market() -> Iterator[Venue]:
    with exchange() as market:
        yield market


@pytest.fixture
def line(market: Venue, tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path, market)
    yield line
    line.close()


FAR = {"strategy.parameters.half_spread_ticks": 2_000, "strategy.parameters.requote_ticks": 2_000}
"""Quotes that stay where they are and are not filled."""


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def open_orders(market: Venue) -> list[str]:
    return [str(order["clientOrderId"]) for order in market.get("openOrders")]


def test_without_its_supervisor_the_line_dies_and_the_router_cancels_first(market: Venue, line: Line) -> None:
    pids = line.start().pids()
    wait_until(lambda: open_orders(market), "an order works at the exchange")
    spares = wait_until(lambda: line.spares() if len(line.spares()) == len(STAGES) else None, "all have spares")
    os.kill(line.process.pid, signal.SIGKILL)
    began = time.monotonic()
    wait_until(
        lambda: not any(alive(pid) for pid in (*(pids[stage] for stage in FORKED), *spares.values())),
        "the other stages are gone, and all that wait", 1.0,
    )  # fmt: skip
    wait_until(lambda: not alive(pids["router"]), "the router has left", 10.0)
    assert open_orders(market) == []
    assert time.monotonic() - began < 10


def test_after_supervisor_and_router_are_killed_the_next_run_cancels_what_is_left(market: Venue, line: Line) -> None:
    line.settings |= FAR
    pids = line.start().pids()
    left = wait_until(lambda: open_orders(market), "an order works at the exchange")
    for pid in (line.process.pid, pids["router"]):
        os.kill(pid, signal.SIGKILL)
    line.process.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids.values()), "all are gone")
    assert set(open_orders(market)) >= set(left)
    segments = f"tickpipe.{line.run_directory().name}.*"
    assert list(Path("/dev/shm").glob(segments))
    line.start()
    wait_until(lambda: not set(open_orders(market)) & set(left), "what was left is cancelled")
    assert not list(Path("/dev/shm").glob(segments))
    assert line.stop()["exit"] == "clean"
    log = (line.run_directory() / "logs" / "router.log").read_text()
    assert "which an earlier run left at the venue" in log


def test_each_stage_is_restarted_while_the_others_trade_on(market: Venue, line: Line) -> None:
    line.start()
    for stage in STAGES:
        before = line.pids()
        assert before.keys() == set(STAGES)
        spare = wait_until(lambda stage=stage: line.spares().get(stage), f"{stage} has a spare")
        os.kill(before[stage], signal.SIGKILL)
        wait_until(lambda stage=stage, old=before[stage]: line.pids().get(stage, old) != old, f"{stage} runs again")
        assert line.pids()[stage] == spare
        assert {name for name, pid in line.pids().items() if pid != before[name]} == {stage}
        orders = len(market.orders("BTCUSDT"))
        wait_until(lambda orders=orders: len(market.orders("BTCUSDT")) > orders, "the line trades again")
    report = line.stop()
    assert (report["exit"], report["notes"]) == ("clean", [])
    assert {name: one["restarts"] for name, one in report["stages"].items()} == dict.fromkeys(STAGES, 1)
    assert {end for ring in report["rings"].values() for end in ring.values()} == {2}
