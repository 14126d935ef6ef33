"""The verbs that talk to a live run, as processes, against a control socket whose supervisor is a fake."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launch.control.server import Pending
from launch.errors import LaunchError
from launch.supervision.requests import Action, Request
from launch.supervision.signals import Signals
from launch.supervision.supervisor import Outcome
from pipeline.asking.find_run import find_directory, find_live
from pipeline.errors import UsageError
from pipeline.run.control import Abilities, Control
from pipeline.run.directory import (
    LOCK_TRIES,
    RunLock,
    create_run_directory,
    live_runs,
    runs_folder,
    sweep_control_sockets,
)
from tests.conftest import REPOSITORY

RUN = "default-20260102T030405-77"
BOOK = {
    "bid": "1.5", "bid_qty": "2", "ask": "1.6", "ask_qty": "3", "bid_levels": 2, "ask_levels": 1, "last_update_id": 9,
    "state": "valid", "bids": [["1.5", "2"], ["1.4", "7"]], "asks": [["1.6", "3"]],
}  # fmt: skip
GRID = {"symbol": "BTCUSDT", "tick": 1_000_000, "price_exponent": -8, "lot": 1_000, "quantity_exponent": -8}
REPORT = {
    "run": RUN, "placement": "dedicated", "exit": "running", "reason": "", "duration_s": 2.0, "stages": {},
    "errors": [],
    "hops": [{"name": "risk.check", "unit": "ns", "count": 0, "budget": 100, "within_budget": None}
             | dict.fromkeys(("min", "mean", "p50", "p90", "p99", "p999", "p9999", "max"))],
    "market_data": {"messages": 3}, "orders": {"sent": 1}, "books": {"BTCUSDT": BOOK},
    "positions": {"BTCUSDT": {"quantity": "0.5", "average_price": "1", "realized_pnl": "0", "unrealized_pnl": "0",
                              "fees": "0"}},
}  # fmt: skip


class FakeStages:
    """Stages that can be restarted, one that fails at it, and a packed placement."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def request(self, action: Action, stage: str) -> Request:
        self.asked.append((action, stage))
        request = Request(action, stage)
        if stage == "book":
            later = threading.Timer(0.1, lambda: request.succeed(pid=4711, restart_gap_ns=12_300_000))
        elif stage == "risk":
            later = threading.Timer(0.1, lambda: request.fail("risk exited with code 9 before it was ready"))
        else:
            raise LaunchError(f"stage {stage!r} shares a process with others", "packed placement: restart the run")
        later.start()
        return request


class FakeCheck:
    """A book's check that takes three looks, and finds it sound at first and then broken."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> dict[str, Any] | None:
        self.looks += 1
        if self.looks % 3:
            return None
        fault = None if self.looks == 3 else "the top does not show the best levels"
        sums = {"levels": 1234, "orders": 0, "checks": 5, "violations": int(fault is not None)}
        return {"sound": fault is None, "fault": fault, "is_whole": False, **sums}


@dataclass
class FakeRun:
    """A run that holds its name and serves its socket."""

    control: Control
    lock: RunLock
    stages: FakeStages
    path: Path
    stops: list[int]


def run_verb(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | {"NO_COLOR": "1"}, timeout=60, check=False,
    )  # fmt: skip


def document(*arguments: str) -> Any:
    done = run_verb(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def refused(*arguments: str) -> tuple[int, str]:
    """(exit code, words) of a verb that must print no data and no traceback."""
    done = run_verb(*arguments)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def live(state: Path) -> Iterator[FakeRun]:
    """A live run whose loop turns in a thread."""
    stages, signals, lock = FakeStages(), Signals(), RunLock("default", RUN, "t1-")
    create_run_directory(RUN)
    stops: list[int] = []
    abilities = Abilities(
        report=lambda: REPORT, book={"BTCUSDT": BOOK}.get, check={"BTCUSDT": FakeCheck()}.get, grids=(GRID,),
        journal=state / "journal",
        stop=lambda: stops.append(1), stages=stages,
    )  # fmt: skip
    control = Control(RUN, abilities)
    path = control.open("default", signals)
    lock.announce(path)
    over = threading.Event()

    def loop() -> None:
        while not over.is_set():
            signals.wait(0.01)

    thread = threading.Thread(target=loop)
    thread.start()
    run = FakeRun(control, lock, stages, path, stops)
    yield run
    over.set()
    thread.join()
    control.close()
    run.lock.release()
    assert not path.exists()


# -- reading verbs -----------------------------------------------------------------------------------------------


def test_what_a_run_says_is_printed_as_it_is(live: FakeRun) -> None:
    assert document("status") == REPORT
    assert document("latency") == {"run": RUN, "hops": REPORT["hops"]}
    assert document("positions") == {"run": RUN, "positions": REPORT["positions"]}
    assert document("orders") == {"run": RUN, "working": [], "ended": []}
    assert document("book", "btcusdt") == {"run": RUN, "symbol": "BTCUSDT", **BOOK}


def test_a_check_waits_for_its_result_and_its_exit_code_says_whether_the_book_is_broken(live: FakeRun) -> None:
    assert document("book", "btcusdt", "--check") == {
        "run": RUN, "symbol": "BTCUSDT", "sound": True, "fault": None, "is_whole": False,
        "levels": 1234, "orders": 0, "checks": 5, "violations": 0,
    }  # fmt: skip
    done = run_verb("book", "BTCUSDT", "--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert "broken: the top does not show the best levels" in done.stdout
    code, words = refused("book", "XRPUSDT", "--check")
    assert (code, "XRPUSDT" in words) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("status",), ["running", "risk.check"]),
        (("latency",), ["risk.check", "100 ns"]),
        (("positions",), ["BTCUSDT", "0.5"]),
        (("orders",), ["Working orders", "Ended orders"]),
        (("book", "BTCUSDT"), ["valid", "1.4", "1.6"]),
    ],
)
def test_it_is_drawn_for_people_too(live: FakeRun, arguments: tuple[str, ...], shown: list[str]) -> None:
    done = run_verb(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for text in shown:
        assert text in done.stdout


def test_a_run_is_named_by_its_name_or_its_id(live: FakeRun) -> None:
    other = RunLock("other", "other-20260102T030405-78", "t1-")
    assert document("status", "--run", RUN) == document("status", "--run", "default")
    code, words = refused("status", "--run", "third")
    assert code == 2
    assert "error: no run 'third' lives" in words
    assert f"hint: alive now: {RUN}, other-20260102T030405-78" in words
    other.release()


@pytest.mark.parametrize("arguments", [("status",), ("down",), ("restart", "book"), ("logs",), ("book", "BTCUSDT")])
def test_without_a_run_each_verb_says_so(state: Path, arguments: tuple[str, ...]) -> None:
    code, words = refused(*arguments)
    assert code == 2
    assert "no run 'default'" in words
    assert "hint: no run lives at all; `pipeline up` starts one" in words


def test_a_symbol_that_is_not_traded_is_refused_with_those_that_are(live: FakeRun) -> None:
    code, words = refused("book", "XRPUSDT")
    assert code == 2
    assert "'XRPUSDT' is not traded" in words
    assert "hint: traded: BTCUSDT" in words


def test_a_journal_that_is_none_is_an_error_not_a_traceback(live: FakeRun, state: Path) -> None:
    (state / "journal").mkdir()
    (state / "journal" / "00000001.journal").write_bytes(b"x" * 5000)
    code, words = refused("orders")
    assert code == 3
    assert "not a journal of this version" in words


def test_a_run_that_is_still_starting_says_so(state: Path) -> None:
    lock = RunLock("default", RUN, "t1-")
    code, words = refused("status")
    assert code == 3
    assert "is still starting" in words
    lock.release()


def test_a_socket_that_is_gone_is_an_error_with_a_way_out(live: FakeRun) -> None:
    live.path.unlink()
    code, words = refused("status")
    assert code == 3
    assert "No such file" in words
    assert f"kill -INT {os.getpid()}" in words


# -- restart, stop, start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["restart", "stop", "start"])
def test_a_stage_is_acted_upon_and_the_result_awaited(live: FakeRun, action: str) -> None:
    assert document(action, "book") == {
        "run": RUN, "action": action, "stage": "book", "pid": 4711, "restart_gap_ns": 12_300_000,
    }  # fmt: skip
    done = run_verb(action, "book")
    assert (done.returncode, done.stdout) == (0, "")
    assert "in 12.3 ms, process 4711" in done.stderr
    assert live.stages.asked == [(action, "book")] * 2


def test_what_the_supervisor_refuses_is_exit_code_2_and_what_it_fails_at_3(live: FakeRun) -> None:
    code, words = refused("restart", "line")
    assert code == 2
    assert "shares a process" in words
    assert "hint: packed placement" in words
    code, words = refused("restart", "risk")
    assert code == 3
    assert "risk exited with code 9" in words
    assert "pipeline logs" in words


# -- down --------------------------------------------------------------------------------------------------------


def test_down_asks_once_however_many_ask_and_tells_all_of_them(live: FakeRun, tmp_path: Path) -> None:
    answers = [live.control.handlers()["down"]({}) for _ in range(3)]
    assert live.control.asked_down
    assert live.stops == [1, 1, 1], "saying it again changes nothing, says Signals.request_stop"
    live.control.ended(Outcome("unclean", "`pipeline down`", None, ["a note"]), 3, tmp_path / "report.json")
    for answer in answers:
        assert isinstance(answer, Pending)
        assert answer.look() == {
            "run": RUN, "exit": "unclean", "exit_code": 3, "reason": "`pipeline down`", "notes": ["a note"],
            "report": str(tmp_path / "report.json"),
        }  # fmt: skip


def test_a_request_to_stop_counts_as_the_first_signal_and_never_as_the_second() -> None:
    signals = Signals()
    for _ in range(3):
        signals.request_stop()
    assert signals.requests == 1


def test_down_interrupts_a_run_that_is_still_starting_and_waits_for_its_end(state: Path) -> None:
    code = (
        "import signal, sys; from pipeline.run.directory import RunLock; lock = RunLock('default', sys.argv[1], 't1-');"
        "print('held', flush=True); signal.sigwait({signal.SIGINT}); print('interrupted', flush=True); lock.release()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, RUN], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        result = document("down")
        assert process.poll() == 0
        assert process.stdout.read() == "interrupted\n"
    assert (result["run"], result["reason"]) == (RUN, "interrupted before trading started")


# -- who lives ---------------------------------------------------------------------------------------------------


def test_a_run_lives_while_it_holds_its_name(state: Path) -> None:
    assert live_runs() == []
    lock = RunLock("default", RUN, "t1-")
    (found,) = live_runs()
    assert (found.name, found.run, found.pid, found.prefix, found.control) == ("default", RUN, os.getpid(), "t1-", None)
    lock.announce(state / "x.sock")
    assert find_live("default").control == state / "x.sock"
    lock.release()
    with pytest.raises(UsageError):
        find_live(RUN)


def test_a_look_at_a_name_does_not_keep_a_run_from_taking_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    RunLock("default", "first", "t1-").release()
    looking = os.open(runs_folder() / "default.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    tries: list[float] = []

    def sleep(seconds: float) -> None:
        tries.append(seconds)
        if len(tries) == LOCK_TRIES // 2:
            os.close(looking)

    monkeypatch.setattr("pipeline.run.directory.time.sleep", sleep)
    RunLock("default", "second", "t1-").release()
    assert len(tries) == LOCK_TRIES // 2


def _killed_run(until: Callable[..., None]) -> Path:
    """What a killed run leaves: its words in the lock file, and its socket."""
    code = (
        "import os, signal, sys; from pathlib import Path; from launch.control.path import create_socket;"
        "from pipeline.run.directory import RunLock; lock = RunLock('default', sys.argv[1], 't1-');"
        "listener, path = create_socket('default'); lock.announce(path); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, RUN], cwd=REPOSITORY, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    (path,) = Path(os.environ["XDG_RUNTIME_DIR"]).glob("*.sock")
    return path


def test_the_socket_of_a_killed_run_goes_when_its_name_is_taken(state: Path, until: Callable[..., None]) -> None:
    path = _killed_run(until)
    assert live_runs() == []
    RunLock("default", "next", "t1-").release()
    assert not path.exists()


def test_the_socket_of_a_killed_run_goes_with_clean_and_that_of_a_live_one_stays(
    state: Path, until: Callable[..., None]
) -> None:
    path = _killed_run(until)
    lock = RunLock("other", "other-1", "t1-")
    lock.announce(state / "run" / "tickpipe-other.sock")
    (state / "run" / "tickpipe-other.sock").touch()
    assert sweep_control_sockets() == [path]
    assert not path.exists()
    assert [live.run for live in live_runs()] == ["other-1"]
    assert sweep_control_sockets() == []
    lock.release()


def test_what_stands_in_the_place_of_a_killed_runs_socket_and_is_none_stays(
    state: Path, until: Callable[..., None]
) -> None:
    path = _killed_run(until)
    path.unlink()
    path.symlink_to(state / "precious")
    (state / "precious").write_text("kept")
    RunLock("default", "next", "t1-").release()
    assert path.is_symlink()
    assert (state / "precious").read_text() == "kept"


# -- logs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(state: Path) -> Path:
    """The logs folder of an ended run, and of an older one."""
    create_run_directory("default-20250101T000000-9").logs.joinpath("feed.log").write_text("old\n")
    logs = create_run_directory(RUN).logs
    (logs / "feed.log").write_text("one\ntwo\nthree")
    (logs / "book.log").write_text("four\n")
    return logs


def test_the_logs_of_the_newest_run_are_shown_by_process(logged: Path) -> None:
    assert document("logs") == {"run": RUN, "logs": {"book": ["four"], "feed": ["one", "two", "three"]}}
    assert document("logs", "feed", "-n", "2")["logs"] == {"feed": ["two", "three"]}
    assert document("logs", "--run", "default-20250101T000000-9")["logs"] == {"feed": ["old"]}
    assert run_verb("logs").stdout == (
        "book       | four\nfeed       | one\nfeed       | two\nfeed       | three\n"
    )  # fmt: skip
    assert run_verb("logs", "book").stdout == "four\n"


def test_a_process_without_a_log_is_refused_with_those_that_have_one(logged: Path) -> None:
    code, words = refused("logs", "risk")
    assert code == 2
    assert "no log of 'risk'" in words
    assert "there: book, feed" in words


def test_followed_logs_go_on_until_the_run_ends(live: FakeRun) -> None:
    logs = runs_folder() / RUN / "logs"
    (logs / "feed.log").write_text("one\nt")
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "logs", "-f", "--json"],
        stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"process": "feed", "line": "one"}
        with (logs / "feed.log").open("a") as feed:
            feed.write("wo\nthree\nhalf")
        (logs / "book.log").write_text("new\n")
        shown = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert {(line["process"], line["line"]) for line in shown} == {
            ("feed", "two"), ("feed", "three"), ("book", "new"),
        }  # fmt: skip
        live.lock.release()
        try:
            assert json.loads(process.stdout.read()) == {"process": "feed", "line": "half"}
            assert process.wait(20) == 0
        finally:
            live.lock = RunLock("default", RUN, "t1-")


def test_ctrl_c_ends_followed_logs(live: FakeRun) -> None:
    (runs_folder() / RUN / "logs" / "feed.log").write_text("one\n")
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "logs", "-f", "feed"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=20)
    assert (process.returncode, words) == (0, "")


def test_the_directory_of_a_run_is_found_by_name_or_id(logged: Path) -> None:
    assert find_directory("default").run == RUN
    assert find_directory("default-20250101T000000-9").run == "default-20250101T000000-9"
    with pytest.raises(UsageError, match="no run 'def' lives or has left anything"):
        find_directory("def")
