"""The ends that nobody plans: a second Ctrl-C, and the supervisor killed."""

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from shm.segment import NAME_PREFIX, SHM_DIRECTORY
from tests.e2e.conftest import Runs, stage_pids

pytestmark = pytest.mark.timeout(400)

VENUE_LEAVES_S = 12.0
SIGNAL_BIT = 1 << signal.SIGINT - 1


def _started(process: "subprocess.Popen[str]", said: Path, until: Callable[..., None]) -> tuple[str, dict[str, int]]:
    """(run, {stage or "venue": pid}) of a run that has begun to trade."""
    until(lambda: re.search(r"^market data [1-9]", said.read_text(), re.MULTILINE), 150, "the status line")
    found = re.search(r"^run (\S+):", said.read_text(), re.MULTILINE)
    assert found is not None
    pids = stage_pids(process.pid)
    children = psutil.Process(process.pid).children()
    pids["venue"] = next(child.pid for child in children if "stages.venue" in child.cmdline())
    assert set(pids) == {"venue", "feed", "book", "strategy", "risk", "router"}
    return found[1], pids


def _is_pending(pid: int, bit: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return any(int(mask, 16) & bit for mask in re.findall(r"^(?:SigPnd|ShdPnd):\s*(\S+)", status, re.MULTILINE))


def _control(pipeline: Runs) -> Path:
    lock = pipeline.state / "tickpipe" / "runs" / "default.lock"
    return Path(json.loads(lock.read_text().splitlines()[-1])["control"])


def _segments(run: str) -> list[str]:
    return [path.name for path in SHM_DIRECTORY.glob(f"{NAME_PREFIX}{run}*")]


def test_a_second_ctrl_c_forces_and_leaves_nothing(pipeline: Runs, until: Callable[..., None], tmp_path: Path) -> None:
    said = tmp_path / "words"
    with said.open("w") as words:
        process = pipeline.start("up", "--duration", "100s", stderr=words)
    run, pids = _started(process, said, until)
    venue = psutil.Process(pids["venue"])
    venue.suspend()  # one that answered could have the orderly stop over before the second Ctrl-C
    try:
        process.send_signal(signal.SIGINT)
        # The same signal twice at once would be one.
        until(lambda: not _is_pending(process.pid, SIGNAL_BIT), 5, "the first signal was taken")
        process.send_signal(signal.SIGINT)
        assert pipeline.finish(process, 20).code == 130, said.read_text()
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            venue.kill()
    assert "interrupted twice" in said.read_text()
    assert "Traceback" not in said.read_text()
    assert _segments(run) == []
    assert [name for name, pid in pids.items() if psutil.pid_exists(pid)] == []


def test_without_its_supervisor_the_line_ends_and_the_next_start_sweeps(
    pipeline: Runs, until: Callable[..., None], tmp_path: Path
) -> None:
    said = tmp_path / "words"
    with said.open("w") as words:
        process = pipeline.start("up", "--duration", "100s", stderr=words)
    run, pids = _started(process, said, until)
    until(lambda: re.search(r"orders [1-9]", said.read_text()), 20, "orders were sent")
    assert _segments(run)
    process.kill()
    process.communicate(timeout=10)
    for stage in ("feed", "book", "strategy", "risk"):
        until(lambda stage=stage: not psutil.pid_exists(pids[stage]), 5, f"{stage} dies with the supervisor")
    refused = pipeline.run("status")
    assert (refused.code, "no run 'default' lives" in refused.words) == (2, True)
    control = _control(pipeline)
    assert control.exists()
    # The router and the venue still end in their own time; a new run takes the name and does not wait for them.
    done = pipeline.run("up", "--duration", "1s", "--json")
    assert done.code == 0, done.words
    assert done.report["run"] != run
    assert done.report["orders"]["acked"] > 0
    assert not control.exists()
    swept = re.findall(rf"^removed ({re.escape(NAME_PREFIX + run)}\S*), left by a run that died$", done.words, re.M)
    assert len(swept) >= 10, done.words
    assert _segments(run) == []
    until(lambda: not psutil.pid_exists(pids["router"]), 8, "the router cancels its orders and leaves")
    log = (done.state / "tickpipe" / "runs" / run / "logs" / "router.log").read_text()
    assert "the supervisor is gone: refusing orders, cancelling those at the venue" in log
    assert "leaving with 0 orders at the venue" in log
    until(lambda: not psutil.pid_exists(pids["venue"]), VENUE_LEAVES_S, "the paper venue leaves")


def test_what_a_run_has_in_shared_memory_is_shown_and_what_a_dead_one_left_is_removed(
    pipeline: Runs, until: Callable[..., None], tmp_path: Path
) -> None:
    said = tmp_path / "words"
    with said.open("w") as words:
        process = pipeline.start("up", "--duration", "100s", stderr=words)
    run, pids = _started(process, said, until)
    until(lambda: re.search(r"orders [1-9]", said.read_text()), 20, "orders were sent")
    shown = {entry["segment"]: entry for entry in _shown(pipeline, run)}
    assert {f"{NAME_PREFIX}{run}.{name}" for name in shown} == set(_segments(run))
    assert {entry["status"] for entry in shown.values()} == {"live"}
    assert {entry["owner_pid"] for entry in shown.values()} == {process.pid}
    rings = {name: entry for name, entry in shown.items() if entry["kind"] == "ring"}
    assert len(rings) >= 5
    for name, ring in rings.items():
        assert ring["cursors"]["tail"] > 0, name
        assert 0 <= ring["lag"] <= int(ring["layout"]["capacity"]), name
        assert 0 <= ring["age_ns"] < 100e9, name
    assert pipeline.run("inspect", run).code == 0
    counted = _counters(pipeline, run)
    assert counted["feed", "messages_in"]["value"] > 0
    assert counted["router", "sent"]["value"] > 0
    assert all(row["help"] and row["unit"] and row["kind"] in ("counter", "gauge") for row in counted.values())
    assert not [name for name in _clean(pipeline)["segments"] if run in name]
    assert len(_segments(run)) == len(shown)
    process.kill()
    process.communicate(timeout=10)
    until(lambda: not any(psutil.pid_exists(pids[stage]) for stage in ("feed", "book", "strategy", "risk")), 5, "ends")
    assert {entry["status"] for entry in _shown(pipeline, run)} == {"orphaned"}
    dead = _counters(pipeline, run)
    assert dead.keys() == counted.keys()
    assert all(dead[key]["value"] >= row["value"] for key, row in counted.items() if row["kind"] == "counter")
    until(lambda: "router: the supervisor is gone" in _errors(pipeline, run), 8, "the router's last words are kept")
    removed = _clean(pipeline)["segments"]
    assert {name for name in removed if run in name} == {f"{NAME_PREFIX}{run}.{name}" for name in shown}
    assert _segments(run) == []
    until(lambda: not psutil.pid_exists(pids["router"]), 8, "the router cancels its orders and leaves")
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pids["venue"]).kill()  # it would leave by itself, seconds later


def _shown(pipeline: Runs, run: str) -> Any:
    done = pipeline.run("inspect", run, "--json")
    assert done.code == 0, done.words
    return done.report["segments"]


def _counters(pipeline: Runs, run: str) -> dict[tuple[str, str], Any]:
    done = pipeline.run("inspect", run, "--counters", "--json")
    assert done.code == 0, done.words
    rows = {(row["writer"], row["name"]): row for row in done.report["counters"]}
    assert len(rows) == len(done.report["counters"]) == len({row["id"] for row in rows.values()}) > 50
    return rows


def _errors(pipeline: Runs, run: str) -> str:
    done = pipeline.run("inspect", run, "--errors", "--json")
    assert done.code == 0, done.words
    return "\n".join(f"{row['writer']}: {row['text'].partition(': ')[2]}" for row in done.report["errors"])


def _clean(pipeline: Runs) -> Any:
    done = pipeline.run("clean", "--json")
    assert done.code == 0, done.words
    return done.report


def test_words_that_nobody_reads_any_more_do_not_end_a_run(pipeline: Runs) -> None:
    process = pipeline.start("up", "--duration", "3s", "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("run "):
            break
    process.stderr.close()
    process.stderr = None
    done = pipeline.finish(process, 60)
    assert (done.code, done.report["exit"]) == (0, "clean")
    assert done.report["orders"]["acked"] > 0
