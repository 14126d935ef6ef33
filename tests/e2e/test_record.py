"""Recording a living run, from its first frame and from outside; what was recorded is verified and played again."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.domain.captures import binance as capture
from stages.domain.captures.binance import Kind
from tests.e2e.conftest import Runs
from tests.pipeline.verify.test_binance import START, write
from tests.stages.feed.stepped import diff, ticker

pytestmark = pytest.mark.timeout(400)


def lines(*files: str) -> list[tuple[Kind, bytes]]:
    return [(record.kind, record.raw) for file in files for record in capture.records(file, pytest.fail)]


def test_a_run_that_records_itself_writes_what_it_was_sent(pipeline: Runs, tmp_path: Path) -> None:
    more = [body for number in range(16, 2_000) for body in (
        ticker(number, ("100", str(number)), ("102", "4")), diff(number, number, [("100", str(number))]),
    )]  # fmt: skip
    file = write(tmp_path, *START, *more)
    done = pipeline.run(
        "up", "--replay", file, "--speed", "max", "--placement", "packed", "-s", "record.enabled=true",
        "-s", f"record.folder={tmp_path / 'recorded'}", "--json",
    )  # fmt: skip
    assert done.code == 0, done.words
    recording = done.report["recording"]
    assert recording["lost_frames"] == 0
    sent, recorded = lines(file), lines(*recording["files"])
    assert [line for line in recorded if line[0] is not Kind.SNAPSHOT] == [
        line for line in sent if line[0] is not Kind.SNAPSHOT
    ]
    assert [line for line in recorded if line[0] is Kind.SNAPSHOT] == [
        line for line in sent if line[0] is Kind.SNAPSHOT
    ]
    again = pipeline.run("up", "--replay", *recording["files"], "--speed", "max", "--placement", "packed", "--json")
    assert again.report["books"] == done.report["books"]
    assert again.report["market_data"]["gaps"] == 0


def test_a_run_is_recorded_from_outside(pipeline: Runs, tmp_path: Path, until: Callable[..., None]) -> None:
    own = ("-s", "record.enabled=true", "-s", f"record.folder={tmp_path / 'own'}")
    run = pipeline.start("up", "--placement", "packed", *own)
    folder = tmp_path / "recorded"

    def trades() -> bool:
        status = pipeline.run("status", "--json")
        return status.code == 0 and status.report["market_data"]["messages"] > 0

    def recording() -> str:
        return str(pipeline.run("status", "--json").report["recording"])

    until(trades, 200, "a run to record")
    for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
        if b"pipeline.recording" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    until(lambda: "SIGKILL" in recording(), 30, "word that the run's own recording has ended, while the run goes on")
    done = pipeline.run("record", "--duration", "200ms", "--output", str(tmp_path / "early"), "--json")
    assert done.code == 0, done.words
    assert done.report["frames"] > 0
    recorder = pipeline.start("record", "--output", str(folder), "--json")
    until(lambda: list(folder.glob("*.gz")), 30, "a file")
    recorder.send_signal(signal.SIGINT)
    done = pipeline.finish(recorder)
    assert (done.code, done.report["lost_frames"]) == (0, 0), done.words
    kinds = [kind for kind, _ in lines(*done.report["files"])]
    assert kinds.count(Kind.SNAPSHOT) == 2
    assert Kind.DIFF in kinds
    checked = pipeline.run("verify", *done.report["files"], "--json")
    assert checked.code == 0, checked.words
    (found,) = checked.report["files"]
    assert (found["gaps"], found["problems"], found["symbols"]) == (0, [], 2)
    assert found["compared"] == found["matched"] > 0


def test_no_run_no_recording(pipeline: Runs) -> None:
    done = pipeline.run("record", "--run", "nobody")
    assert (done.code, "hint" in done.words) == (2, True)
    assert json.dumps(done.report) == "null"
