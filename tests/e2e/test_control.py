"""A run in the background and the verbs that ask it, as an operator uses them."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shm.segment import NAME_PREFIX, SHM_DIRECTORY
from tests.e2e.conftest import STARTED_S, Done, Runs, stage_pids

pytestmark = pytest.mark.timeout(400)

IMPATIENT = (sys.executable, "-c", """
import runpy, sys
from launch.control import client
client.ask.__defaults__ = (0.5,)
sys.argv = sys.argv[3:]  # behind the words python, -m, pipeline.cli
runpy.run_module("pipeline.cli", run_name="__main__", alter_sys=True)
""")  # fmt: skip
"""Words before a command that make it wait half a second, not ten, for a supervisor that does not react."""


@pytest.fixture
def detached(pipeline: Runs) -> Iterator[Callable[..., Any]]:
    """Starts a run in the background and returns what its launcher printed; the run is ended by pid if need be."""
    pids: list[int] = []

    def start(*arguments: str) -> Any:
        shell = pipeline.start("up", "--detach", "--json", *arguments, process_group=0)
        done = pipeline.finish(shell)
        assert done.code == 0, done.words
        pids.append(done.report["pid"])
        with pytest.raises(ProcessLookupError):  # Ctrl-C where it was started reaches nobody any more
            os.killpg(shell.pid, signal.SIGINT)
        return done.report

    yield start
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.resume()
            process.terminate()
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(20)
                continue
            process.kill()


def _socket(pipeline: Runs) -> Path:
    lock = pipeline.state / "tickpipe" / "runs" / "default.lock"
    return Path(json.loads(lock.read_text().splitlines()[-1])["control"])


def _sockets(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(path.readlink()))
    return {target for target in found if target.startswith("socket:")}


def _are_alike(one: Any, other: Any) -> bool:
    """Whether two documents have the same names, level by level; a list that is empty in one is like any other."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return not one or not other or _are_alike(one[0], other[0])
    return not isinstance(one, dict | list) and not isinstance(other, dict | list)


def _read(pipeline: Runs, *arguments: str) -> Any:
    done = pipeline.run(*arguments, "--json")
    assert (done.code, done.words) == (0, "")
    return done.report


def test_a_run_in_the_background_is_asked_and_stopped(
    pipeline: Runs, detached: Callable[..., Any], until: Callable[..., None]
) -> None:
    begun = detached()
    assert set(begun) == {"run", "pid", "run_dir"}
    run, pid = begun["run"], begun["pid"]
    folder = Path(begun["run_dir"])
    assert folder == pipeline.state / "tickpipe" / "runs" / run

    # It is a session of its own, with nothing of its launcher's.
    assert os.getsid(pid) == pid != os.getsid(0)
    targets = {descriptor: str(Path(f"/proc/{pid}/fd/{descriptor}").readlink()) for descriptor in (0, 1, 2)}
    log = str(folder / "logs" / "supervisor.log")
    assert targets == {0: os.devnull, 1: log, 2: log}
    stages = stage_pids(pid)
    assert stages
    for child in stages.values():
        assert not _sockets(pid) & _sockets(child), "a stage has inherited a control socket"
    assert _sockets(pid)

    place = _socket(pipeline)
    assert stat.S_IMODE(place.lstat().st_mode) == 0o600
    assert len(os.fsencode(place)) < 108

    until(lambda: _read(pipeline, "status")["orders"]["acked"] > 0, 60, "orders are acknowledged")
    status = _read(pipeline, "status")
    assert (status["run"], status["exit"], status["placement"]) == (run, "running", "dedicated")
    assert all(psutil.pid_exists(stage["pid"]) for stage in status["stages"].values())
    later = _read(pipeline, "status", "--run", run)
    assert later["market_data"]["messages"] > status["market_data"]["messages"]
    hops = _read(pipeline, "latency")
    assert [hop["name"] for hop in hops["hops"]] == [hop["name"] for hop in status["hops"]]
    assert set(_read(pipeline, "positions")["positions"]) == {"BTCUSDT", "ETHUSDT"}
    book = _read(pipeline, "book", "BTCUSDT")
    assert (book["run"], book["symbol"], book["state"]) == (run, "BTCUSDT", "valid")
    assert [book["bid"], book["bid_qty"]] == book["bids"][0]
    bids, asks = ([float(price) for price, _ in book[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    for number in (1, 2):
        check = _read(pipeline, "book", "BTCUSDT", "--check")
        assert (check["run"], check["symbol"], check["sound"], check["fault"]) == (run, "BTCUSDT", True, None)
        assert (check["levels"] > 20, check["checks"] >= number, check["violations"]) == (True, True, 0)
    assert {"feed", "router", "venue"} <= set(_read(pipeline, "logs")["logs"])

    orders = _read(pipeline, "orders")
    assert orders["ended"]
    assert {order["state"] for order in orders["ended"]} <= {"filled", "cancelled", "expired", "rejected"}
    assert {order["state"] for order in orders["working"]} <= {"pending_new", "working", "pending_cancel"}
    assert {order["symbol"] for order in orders["ended"]} <= {"BTCUSDT", "ETHUSDT"}

    for again in (("up",), ("up", "--detach", "--json")):
        refused = pipeline.run(*again)
        assert (refused.code, refused.report) == (5, None)
        assert f"run {run}, process {pid}" in refused.words

    down = _read(pipeline, "down")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert (down["run"], down["exit"], down["exit_code"], down["notes"]) == (run, "clean", 0, [])
    assert down["reason"] == "`pipeline down`"
    report = json.loads(Path(down["report"]).read_text())
    assert (report["exit"], report["orders"]["unknown"]) == ("clean", 0)
    assert _are_alike(status, report)
    assert not place.exists()
    assert not list(SHM_DIRECTORY.glob(f"{NAME_PREFIX}*{run}*"))
    assert "stopped: `pipeline down`" in Path(log).read_text()
    gone = pipeline.run("down")
    assert gone.code == 2
    assert "no run 'default' lives" in gone.words


def test_one_stage_is_restarted_stopped_and_started_while_the_others_go_on(
    pipeline: Runs, detached: Callable[..., Any], until: Callable[..., None]
) -> None:
    detached()
    before = {name: stage["pid"] for name, stage in _read(pipeline, "status")["stages"].items()}
    done = _read(pipeline, "restart", "book")
    assert (done["stage"], done["pid"] != before["book"], done["restart_gap_ns"] > 0) == ("book", True, True)
    after = _read(pipeline, "status")["stages"]
    assert after["book"]["pid"] == done["pid"]
    assert after["book"]["restarts"] == 1
    assert {name: stage["pid"] for name, stage in after.items() if name != "book"} == {
        name: pid for name, pid in before.items() if name != "book"
    }  # fmt: skip
    words = pipeline.run("restart", "strategy").words
    assert "strategy restarted in" in words
    assert "`pipeline start strategy` brings it back" in pipeline.run("stop", "strategy").words
    again = pipeline.run("stop", "strategy")
    assert (again.code, "stopped already" in again.words) == (2, True)
    assert _read(pipeline, "start", "strategy")["pid"] > 0
    unknown = pipeline.run("restart", "cook")
    assert (unknown.code, "there is no stage 'cook'" in unknown.words) == (2, True)
    sent = _read(pipeline, "status")["orders"]["sent"]
    until(lambda: _read(pipeline, "status")["orders"]["sent"] > sent, 60, "it trades again")
    down = _read(pipeline, "down")
    assert (down["exit"], down["notes"]) == ("clean", [])


def test_in_packed_placement_no_stage_is_restarted_alone(pipeline: Runs, detached: Callable[..., Any]) -> None:
    detached("--placement", "packed")
    for stage in ("book", "router"):
        refused = pipeline.run("restart", stage, "--json")
        assert (refused.code, refused.report) == (2, None)
        assert "one process hosts feed, book, strategy, risk, router" in refused.words
    assert len({stage["pid"] for stage in _read(pipeline, "status")["stages"].values()}) == 1
    assert pipeline.run("down").code == 0


def test_a_run_in_the_foreground_is_asked_and_stopped_too(
    pipeline: Runs, until: Callable[..., None], tmp_path: Path
) -> None:
    with (tmp_path / "words").open("w") as words:
        process = pipeline.start("up", "--duration", "100s", "--json", stderr=words)
    until(lambda: pipeline.run("status", "--json").code == 0, STARTED_S, "the run answers")
    status = _read(pipeline, "status")
    assert status["exit"] in ("starting", "running")
    down = pipeline.run("down")
    assert (down.code, down.report) == (0, None)
    assert f"run {status['run']} stopped: `pipeline down`, clean; report kept in" in down.words
    done = pipeline.finish(process, 20)
    assert (done.code, done.report["exit"], done.report["reason"]) == (0, "clean", "`pipeline down`")


def _said(pipeline: Runs, *arguments: str) -> tuple[int, list[str]]:
    done = pipeline.run("up", *arguments)
    assert done.report is None
    return done.code, [line for line in done.words.splitlines() if line.startswith(("error", "hint"))]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("-s", "launch.nope=1"), 2),
        (("--strategy", "/nowhere/x.py"), 2),
        (("-s", 'market.venue="binance"', "-s", 'market.stream_url="ws://127.0.0.1:9"',
          "-s", 'market.rest_url="http://127.0.0.1:9"', "-s", 'market.order_url="ws://127.0.0.1:9/x"',
          "-s", 'market.symbols=["BTCUSDT"]', "-s", "market.connect_deadline_s=0.1"), 3),
    ],
    ids=["a setting", "a strategy", "no venue"],
)  # fmt: skip
def test_a_start_that_fails_in_the_background_fails_as_in_the_foreground(
    pipeline: Runs, arguments: tuple[str, ...], code: int
) -> None:
    foreground, background = _said(pipeline, *arguments), _said(pipeline, "--detach", *arguments)
    assert foreground == background
    assert foreground[0] == code
    assert foreground[1]


def test_a_plan_is_printed_and_not_started_in_the_background(pipeline: Runs) -> None:
    done = pipeline.run("up", "--detach", "--dry-run", "--json")
    assert (done.code, done.report["run"]) == (0, "dry-run")


def test_ctrl_c_while_a_background_run_starts_ends_the_start(pipeline: Runs, until: Callable[..., None]) -> None:
    launcher = pipeline.start("up", "--detach", process_group=0)
    children: list[psutil.Process] = []

    def started() -> bool:
        children[:] = psutil.Process(launcher.pid).children(recursive=True)
        return len(children) >= 2  # the run, and its venue

    until(started, 60, "the run has begun to start")
    os.killpg(launcher.pid, signal.SIGINT)
    done = pipeline.finish(launcher, 60)
    if "trades in the background" in done.words:  # it was quicker; the signal then came while it traded
        assert done.code == 0
    else:
        assert (done.code, "interrupted" in done.words) == (0, True), done.words
    until(lambda: not any(child.is_running() for child in children), 30, "nothing of it is left")
    assert "Traceback" not in done.words


def test_a_supervisor_that_hangs_is_told_of_and_the_request_still_stands_when_it_wakes(
    pipeline: Runs, detached: Callable[..., Any], until: Callable[..., None]
) -> None:
    begun = detached()
    supervisor = psutil.Process(begun["pid"])
    supervisor.suspend()
    done = pipeline.run("down", before=IMPATIENT)
    assert done.code == 3
    assert "does not react for 0.5 s" in done.words
    assert f"hint: if it was suspended, `kill -CONT {begun['pid']}` wakes it" in done.words
    supervisor.resume()
    until(lambda: not _lives(supervisor), 60, "it stops")
    report = json.loads((Path(begun["run_dir"]) / "report.json").read_text())
    assert (report["exit"], report["reason"]) == ("clean", "`pipeline down`")


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_run_that_nothing_waits_for_ends_by_its_duration(pipeline: Runs, until: Callable[..., None]) -> None:
    begun: Done = pipeline.run("up", "--detach", "--duration", "500ms", stderr=subprocess.DEVNULL)
    assert begun.code == 0
    runs = pipeline.state / "tickpipe" / "runs"
    until(lambda: list(runs.glob("*/report.json")), 60, "the report")
    (path,) = runs.glob("*/report.json")
    until(lambda: _complete(path), 10, "all of the report")
    assert json.loads(path.read_text())["reason"] == "duration over"
    until(lambda: "Hops" in (path.parent / "logs" / "supervisor.log").read_text(), 10, "the report in the log")


def _complete(path: Path) -> bool:
    with contextlib.suppress(ValueError):
        return bool(json.loads(path.read_text()))
    return False
