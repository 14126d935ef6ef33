"""Real processes under the supervisor: they become ready, die, hang, ignore; nothing of theirs stays behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import REPOSITORY

UNPRIVILEGED = () if os.geteuid() else ("setpriv", "--bounding-set=-sys_nice")
"""Words before a command that take the right to SCHED_FIFO from root; an ordinary user has none to lose."""


def start(
    folder: Path, duration_s: float, *behaviours: str, before: Sequence[str] = (), **settings: Any
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tests.launch.toys", str(folder), str(duration_s), json.dumps(settings),
         *behaviours],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]") -> Any:
    out, words = process.communicate(timeout=240)
    assert process.returncode == 0, words
    return json.loads(out.splitlines()[-1])


def run(folder: Path, duration_s: float, *behaviours: str, **options: Any) -> Any:
    return finish(start(folder, duration_s, *behaviours, **options))


def test_a_run_starts_all_watches_and_stops_in_order(tmp_path: Path) -> None:
    outcome = run(tmp_path, 0.2, "good", "good", "good")
    assert (outcome["exit"], outcome["reason"], outcome["notes"]) == ("clean", "duration over", [])
    assert set(outcome["states"].values()) == {"ended"}
    assert outcome["left"] == []
    pids = {fact["pid"] for fact in outcome["facts"].values()}
    assert len(pids) == 3
    assert all(fact["rss_bytes"] > 0 for fact in outcome["facts"].values())
    assert (tmp_path / "toy0.log").read_text().strip() == "toy0 is good"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="no core for a process of its own")
def test_a_process_alone_on_its_core_has_fifo_or_a_finding_says_why_not(tmp_path: Path) -> None:
    outcome = run(tmp_path, 0.1, "good", fifo="auto")
    fact = outcome["facts"]["toy0"]
    if outcome["findings"]:
        assert (outcome["findings"][0], fact["policy"]) == ("fifo", "other")
        assert "hint" in outcome["said"][0]
    else:
        assert (fact["policy"], fact["priority"]) == ("fifo", 50)
    assert outcome["exit"] == "clean"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="no core for a process of its own")
def test_what_the_machine_refuses_is_said_with_what_would_grant_it(tmp_path: Path) -> None:
    outcome = run(tmp_path, 0.1, "good", fifo="auto", before=UNPRIVILEGED)
    assert (outcome["exit"], outcome["facts"]["toy0"]["policy"]) == ("clean", "other")
    assert outcome["findings"] == ["fifo", "nice"]
    assert all("CAP_SYS_NICE" in words for words in outcome["said"])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="no core for a process of its own")
def test_a_required_privilege_that_is_refused_ends_the_run(tmp_path: Path) -> None:
    outcome = run(tmp_path, 0.1, "good", fifo="required", before=UNPRIVILEGED)
    assert (outcome["exit"], outcome["left"]) == ("refused", [])


@pytest.mark.parametrize(
    ("behaviour", "how"),
    [
        ("dies", "was ended by signal 9 (SIGKILL)"),
        ("exits", "exited with code 9"),
        ("fails", "code 3"),
        ("raises", "exited with code 70"),
    ],
)
def test_a_stage_that_ends_stops_the_others_in_order_and_is_named(tmp_path: Path, behaviour: str, how: str) -> None:
    outcome = run(tmp_path, 60, "good", behaviour, "good")
    assert outcome["exit"] == "stage_failed"
    assert outcome["failure"]["process"] == "toy1"
    assert how in outcome["failure"]["how"]
    assert outcome["states"]["toy0"] == "ended"
    assert outcome["states"]["toy1"] == "failed"
    assert outcome["left"] == []


def test_the_end_of_the_log_of_a_stage_that_fails_is_shown(tmp_path: Path) -> None:
    outcome = run(tmp_path, 60, "raises")
    assert "RuntimeError: a toy that raises" in outcome["failure"]["tail"]


def test_a_stage_that_never_says_ready_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    outcome = run(tmp_path, 60, "good", "never-ready", start_deadline_s=1, stop_deadline_s=0.5)
    assert outcome["exit"] == "stage_failed"
    assert "not ready after 1 s" in outcome["failure"]["how"]
    assert outcome["left"] == []


def test_a_stage_without_heartbeat_is_reported_then_counts_as_failed(tmp_path: Path) -> None:
    outcome = run(tmp_path, 60, "good", "hangs", heartbeat_warning_s=0.3, heartbeat_failure_s=1)
    assert any("no heartbeat" in line for line in outcome["said"])
    assert outcome["exit"] == "stage_failed"
    assert "hangs" in outcome["failure"]["how"]


def test_a_stage_that_ignores_everything_is_killed_and_the_run_is_not_clean(tmp_path: Path) -> None:
    outcome = run(tmp_path, 0.1, "good", "ignores", stop_deadline_s=0.5)
    assert outcome["exit"] == "unclean"
    assert any("SIGKILL" in note for note in outcome["notes"])
    assert outcome["left"] == []


def test_a_bad_exit_code_while_stopping_is_not_clean(tmp_path: Path) -> None:
    outcome = run(tmp_path, 0.1, "ends-with-5")
    assert outcome["exit"] == "unclean"
    assert "exited with code 5" in outcome["notes"][0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_one_signal_stops_in_order(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, 240, "good", "good")
    assert process.stdout is not None
    process.stdout.readline()  # the pids: all are ready
    process.send_signal(number)
    outcome = finish(process)
    assert (outcome["exit"], outcome["reason"]) == ("clean", "interrupted")
    assert outcome["left"] == []


def test_a_second_signal_forces(tmp_path: Path) -> None:
    process = start(tmp_path, 240, "good", "ignores")
    assert process.stdout is not None
    pids = json.loads(process.stdout.readline())["pids"]
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    outcome = finish(process)
    assert outcome["exit"] == "forced"
    assert outcome["left"] == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_the_children_of_a_supervisor_that_dies_die_but_for_those_that_outlive_it(tmp_path: Path, until: Any) -> None:
    process = start(tmp_path, 240, "good", "good", restart="limited")
    assert process.stdout is not None
    first, last = json.loads(process.stdout.readline())["pids"]
    until(lambda: len(_spares(process)) == 2, 60, "both have a successor that waits")
    spares = _spares(process)
    process.kill()
    process.communicate()
    until(
        lambda: not any(_runs(pid) for pid in (first, *spares.values())), 60, "the first child is gone, and who waits"
    )
    assert _runs(last)
    os.kill(last, signal.SIGKILL)
    for path in Path("/dev/shm").glob(f"tickpipe.toys-{process.pid}.*"):
        path.unlink(missing_ok=True)  # a start somewhere else sweeps too


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _spares(process: "subprocess.Popen[str]") -> dict[str, int]:
    """Name of a process: who waits to be its next one."""
    children = {child.name(): child.pid for child in psutil.Process(process.pid).children()}
    return {name.removeprefix("spare:"): pid for name, pid in children.items() if name.startswith("spare:")}


def test_successors_wait_asleep_on_the_supervisors_cores_and_leave_with_the_run(tmp_path: Path, until: Any) -> None:
    process = start(tmp_path, 240, "good", "good", restart="limited", fifo="auto")
    assert process.stdout is not None
    pids = json.loads(process.stdout.readline())["pids"]

    def all_wait() -> bool:
        return len(_spares(process)) == 2 and all(
            psutil.Process(pid).status() == psutil.STATUS_SLEEPING for pid in _spares(process).values()
        )

    until(all_wait, 60, "both have a successor that sleeps")
    spares = _spares(process)
    for pid in spares.values():
        assert os.sched_getaffinity(pid) == os.sched_getaffinity(process.pid)
        assert os.sched_getscheduler(pid) == os.SCHED_OTHER
        assert os.getpgid(pid) == pid
    os.kill(pids[0], signal.SIGKILL)
    outcome = finish(process)  # it is over once the one that was killed is there again
    assert (outcome["exit"], outcome["left"]) == ("clean", [])
    assert outcome["facts"]["toy0"]["pid"] == spares["toy0"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in (*pids, *spares.values()))


def test_a_stage_that_is_killed_is_started_again_and_the_run_ends_clean(tmp_path: Path) -> None:
    outcome = run(tmp_path, 60, "good", "dies-once", restart="limited")
    assert (outcome["exit"], outcome["notes"]) == ("clean", [])
    (restart,) = outcome["restarts"]
    assert (restart["process"], restart["cause"]) == ("toy1", "crash")
    assert 0 < restart["restart_gap_ns"] <= restart["resync_ns"]
    assert outcome["left"] == []


def test_a_stage_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    outcome = run(tmp_path, 60, "good", "hangs", restart="limited", heartbeat_failure_s=0.5)
    assert outcome["exit"] == "clean"
    assert {restart["cause"] for restart in outcome["restarts"]} == {"hang"}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="no core for a process of its own")
@pytest.mark.parametrize("before", [(), UNPRIVILEGED])
def test_a_process_that_is_started_again_asks_for_the_same_and_a_refusal_is_said_once(
    tmp_path: Path, before: Sequence[str]
) -> None:
    options: dict[str, Any] = {"fifo": "auto", "before": before}
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
    first = run(tmp_path / "first", 0.1, "good", **options)
    again = run(tmp_path / "again", 60, "dies-once", restart="limited", **options)
    assert (again["exit"], len(again["restarts"])) == ("clean", 1)
    asked = ("cpus", "policy", "priority", "nice", "timer_slack_ns", "locked_bytes")
    told = [[outcome["facts"]["toy0"][name] for name in asked] for outcome in (first, again)]
    assert told[0] == told[1]
    assert len(told[0][0]) == 1
    assert again["findings"] == first["findings"]
    assert [words for words in again["said"] if "refused" in words] == first["said"]
