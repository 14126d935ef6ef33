"""`pipeline up` with nothing given: the whole line trades on the paper exchange, reports, and leaves nothing behind."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest

from shm.segment import NAME_PREFIX, SHM_DIRECTORY
from tests.e2e.conftest import STARTED_S, Done, Runs, stage_pids

pytestmark = pytest.mark.timeout(400)

STAGES = ["feed", "book", "strategy", "risk", "router"]
HOPS = [
    "feed.queue", "feed.parse", "feed>book", "book.update", "book.publish", "book>strategy", "strategy.decide",
    "strategy>risk", "risk.check", "risk>router", "router.encode", "router.send", "tick_to_trade", "order_to_ack",
]  # fmt: skip


def _has_traded(report: Any) -> bool:
    """Enough for every figure of a report."""
    return (
        report["orders"]["filled"] > 0
        and report["market_data"]["bbo_checked"] > 0
        and all(line["count"] > 0 for line in report["hops"])
    )


def _assert_traded(done: Done, placement: str) -> None:
    assert done.code == 0, done.words
    report = done.report
    assert (report["placement"], report["exit"]) == (placement, "clean")
    for stage in STAGES:
        assert report["stages"][stage]["messages_in"] > 0, stage
        assert report["stages"][stage]["messages_out"] > 0, stage
    orders, data = report["orders"], report["market_data"]
    assert orders["sent"] > 0
    assert orders["acked"] > 0
    assert orders["filled"] > 0
    assert orders["submitted"] == orders["denied_by_risk"] + orders["refused_by_router"] + orders["sent"]
    assert orders["unknown"] == 0
    for lost in ("gaps", "resyncs", "dropped", "trades_missed", "bbo_mismatches"):
        assert data[lost] == 0, lost
    assert data["bbo_checked"] > 0
    assert set(report["books"]) == set(report["positions"]) == {"BTCUSDT", "ETHUSDT"}
    for book in report["books"].values():
        assert float(book["bid"]) < float(book["ask"])
    assert [line["name"] for line in report["hops"]] == HOPS
    assert all(line["count"] > 0 for line in report["hops"]), report["hops"]
    assert not list(SHM_DIRECTORY.glob(f"{NAME_PREFIX}*{report['run']}*"))


@pytest.mark.parametrize("placement", ["dedicated", "packed"])
def test_the_default_run_trades_and_leaves_nothing_behind(pipeline: Runs, placement: str) -> None:
    done = pipeline.run_until(_has_traded, "--placement", placement)
    _assert_traded(done, placement)
    pids = {done.report["stages"][stage]["pid"] for stage in STAGES}
    assert len(pids) == (5 if placement == "dedicated" else 1)
    assert (done.state / "tickpipe" / "runs" / done.report["run"] / "report.json").is_file()


def test_one_core_is_enough(pipeline: Runs) -> None:
    core = str(min(os.sched_getaffinity(0)))
    _assert_traded(pipeline.run_until(_has_traded, before=["taskset", "-c", core]), "dedicated")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_64_mb_of_shared_memory_is_enough(pipeline: Runs) -> None:
    remount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    before = ["unshare", "-m", "sh", "-c", remount, "sh"]
    _assert_traded(pipeline.run_until(_has_traded, before=before), "dedicated")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_order_cancels_and_exits_clean(
    pipeline: Runs, until: Callable[..., None], number: signal.Signals
) -> None:
    process = pipeline.start("up", "--duration", "100s")
    until(lambda: stage_pids(process.pid).keys() == set(STAGES), STARTED_S, "five stages are there")
    process.send_signal(number)
    done = pipeline.finish(process)
    assert (done.code, done.report) == (0, None), "a report for people"
    (path,) = (done.state / "tickpipe" / "runs").glob("*/report.json")
    report = json.loads(path.read_text())
    assert report["exit"] == "clean"
    assert report["orders"]["unknown"] == 0


def test_a_stage_that_dies_and_may_not_be_restarted_stops_trading_and_is_named(
    pipeline: Runs, until: Callable[..., None]
) -> None:
    process = pipeline.start("up", "--duration", "100s", "--json", "-s", "launch.restart_of.book=never")
    until(
        lambda: "feed" in stage_pids(process.pid), STARTED_S, "the last stage, which is started when the book is ready"
    )
    os.kill(stage_pids(process.pid)["book"], signal.SIGKILL)
    done = pipeline.finish(process)
    assert done.code == 3, done.words
    assert "book" in done.words
    assert not list(SHM_DIRECTORY.glob(f"{NAME_PREFIX}{done.report['run']}*"))


def test_an_order_endpoint_that_is_not_loopback_is_refused(pipeline: Runs) -> None:
    done = pipeline.run(
        "up", "--duration", "1s", "-s", 'market.venue="binance"',
        "-s", 'market.order_url="wss://ws-api.binance.com:443/ws-api/v3"',
        "-s", 'market.rest_url="https://api.binance.com"', "-s", 'market.stream_url="wss://stream.binance.com:9443"',
    )  # fmt: skip
    assert done.code == 2, done.words
    assert "loopback" in done.words
