"""A line whose idle stages sleep: it trades, survives the death of a stage, and leaves no door and no bell behind."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shm.segment import NAME_PREFIX, SHM_DIRECTORY
from tests.e2e.conftest import STARTED_S, Runs, stage_pids

pytestmark = pytest.mark.timeout(600)

STAGES = ("feed", "book", "strategy", "risk", "router")
SLEEPING = ("-s", "launch.idle=doorbell")


def _left(run: str) -> list[str]:
    return [path.name for path in SHM_DIRECTORY.glob(f"*{NAME_PREFIX}{run}*")]


def _assert_traded(report: Any, placement: str) -> None:
    assert (report["placement"], report["exit"]) == (placement, "clean")
    assert {stage["idle"] for stage in report["stages"].values()} == {"doorbell"}
    orders, data = report["orders"], report["market_data"]
    assert orders["acked"] > 0
    assert orders["unknown"] == 0
    assert orders["submitted"] == orders["denied_by_risk"] + orders["refused_by_router"] + orders["sent"]
    for lost in ("gaps", "resyncs", "dropped", "trades_missed", "bbo_mismatches"):
        assert data[lost] == 0, lost


def test_a_packed_line_that_sleeps_trades_and_leaves_nothing_behind(pipeline: Runs) -> None:
    done = pipeline.run_until(lambda report: report["orders"]["acked"] > 0, "--placement", "packed", *SLEEPING)
    assert done.code == 0, done.words
    _assert_traded(done.report, "packed")
    assert _left(done.report["run"]) == []


def test_a_recorded_session_at_full_speed_waits_for_room_and_wakes_for_it(pipeline: Runs, recorded_data: Path) -> None:
    capture = recorded_data / "binance" / "btcusdt_20240808.gz"
    done = pipeline.run("up", "--json", "--replay", str(capture), "--speed", "max", *SLEEPING)
    assert done.code == 0, done.words
    _assert_traded(done.report, "dedicated")
    assert done.report["market_data"]["bbo_checked"] == 3449
    assert _left(done.report["run"]) == []


def test_a_stage_killed_asleep_is_started_again_and_woken_as_before(
    pipeline: Runs, until: Callable[..., None], tmp_path: Path
) -> None:
    said = tmp_path / "words"
    with said.open("w") as words:
        process = pipeline.start("up", "--json", "--duration", "600s", *SLEEPING, stderr=words)

    def acked() -> int:
        return int(re.findall(r"([\d,]+) acked", said.read_text())[-1].replace(",", ""))

    until(lambda: re.search(r"orders [1-9].* acked", said.read_text()), STARTED_S, "orders were sent")
    found = re.search(r"^run (\S+):", said.read_text(), re.MULTILINE)
    assert found is not None
    assert len([name for name in _left(found[1]) if name.startswith("sem.")]) == len(STAGES)
    pids = stage_pids(process.pid)
    for stage in ("book", "risk"):
        os.kill(pids[stage], signal.SIGKILL)
    for stage in ("book", "risk"):
        until(lambda stage=stage: f"{stage} runs again" in said.read_text(), 120, f"a new {stage}")
    orders = acked()
    until(lambda: acked() > orders, 120, "the line trades on")
    process.send_signal(signal.SIGINT)
    done = pipeline.finish(process, 120)
    assert done.code == 0, said.read_text()
    assert done.report["orders"]["unknown"] == 0
    assert {stage: done.report["stages"][stage]["restarts"] for stage in STAGES} == {
        "feed": 0, "book": 1, "strategy": 0, "risk": 1, "router": 0,
    }, said.read_text()  # fmt: skip
    assert _left(done.report["run"]) == []
