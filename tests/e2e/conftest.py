"""Running the real command, as a user would: real processes, real sockets, real signals."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shm.kernel import SOURCES_HASH, cache_root
from tests.conftest import REPOSITORY

COMMAND = (sys.executable, "-m", "pipeline.cli")


@dataclass
class Done:
    """A finished run: exit code, its report (None when stdout held none), its words, its run directory."""

    code: int
    report: Any
    words: str
    state: Path


IDLE_BY_DEFAULT = ("test_up", "test_replay", "test_itch_replay", "test_isolation", "test_doorbell")
"""Modules whose lines idle as they do by default. Others sleep: the rest of the suite runs beside them (and needs the
core that yielding stages share)."""
SLEEPS = ("-s", "launch.idle=doorbell")
STARTED_S = 240
"""Enough for a start that compiles everything, with other work on the same two cores."""


class Runs:
    """Starts `pipeline` with state folders of its own; nothing it starts outlives the test."""

    def __init__(self, state: Path, *, sleeps: bool = True) -> None:
        self.state, self.more = state, SLEEPS if sleeps else ()
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, before: Sequence[str] = (), **extra: Any) -> "subprocess.Popen[str]":
        """Start `pipeline ARGUMENTS`, behind the command words `before` (taskset, setpriv, ...).

        `extra` goes to Popen: `env` is added to the environment, `stderr=file` keeps the words where a test reads on.
        """
        environment = os.environ | {"XDG_STATE_HOME": str(self.state), "PYTHONPATH": str(REPOSITORY)}
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        more = self.more if arguments[:1] == ("up",) else ()
        process = subprocess.Popen(
            [*before, *COMMAND, *arguments, *more],
            text=True,
            env=environment | extra.pop("env", {}),
            **(streams | extra),
        )
        self.started.append(process)
        return process

    def finish(self, process: "subprocess.Popen[str]", seconds: float = STARTED_S) -> Done:
        """Wait for a started run."""
        out, words = process.communicate(timeout=seconds)
        report = json.loads(out) if (out or "").lstrip().startswith("{") else None
        return Done(process.returncode, report, words, self.state)

    def run(self, *arguments: str, **extra: Any) -> Done:
        """Start and wait."""
        return self.finish(self.start(*arguments, **extra))

    def run_until(self, condition: Callable[[Any], bool], *arguments: str, **extra: Any) -> Done:
        """`pipeline up ARGUMENTS`, interrupted once `condition` holds of what `status --json` prints."""
        process = self.start("up", "--json", *arguments, **extra)
        deadline = time.monotonic() + STARTED_S
        while process.poll() is None and time.monotonic() < deadline:
            status = self.run("status", "--json")
            if status.code == 0 and condition(status.report):
                break
        process.send_signal(signal.SIGINT)
        return self.finish(process)


def stage_pids(supervisor: int) -> dict[str, int]:
    """Stage: its process, of those that a supervisor has forked by now."""
    found = {}
    for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name.startswith("pipe:"):
                found[name.removeprefix("pipe:")] = int(pid)
    return found


@pytest.fixture
def pipeline(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Runs]:
    """The command, with a state folder of this test; whatever still runs at its end is terminated by pid."""
    runs = Runs(tmp_path / "state", sleeps=request.module.__name__.rpartition(".")[2] not in IDLE_BY_DEFAULT)
    yield runs
    for process in runs.started:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a cache of its own that holds the stages' kernels already, where they are compiled, and no line.

    A test that compiles strategies of its own leaves nothing in the user's cache.
    """
    folder = tmp_path_factory.mktemp("cache")
    copy_kernels(folder)
    yield {"XDG_CACHE_HOME": str(folder)}
    shutil.rmtree(folder)


def copy_kernels(folder: Path) -> None:
    """Copy the compiled kernels of the present sources into another cache folder, without those of any strategy."""
    compiled = cache_root() / SOURCES_HASH
    if compiled.is_dir():
        shutil.copytree(compiled, folder / "tickpipe" / SOURCES_HASH, ignore=shutil.ignore_patterns("line-*", "*.lock"))


@pytest.fixture
def hop() -> Callable[[Any, str], Any]:
    """hop(report, name): that line of the report's hops."""

    def find(report: Any, name: str) -> Any:
        return next(line for line in report["hops"] if line["name"] == name)

    return find
