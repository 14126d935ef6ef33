"""Runs on disk: the run directory, and the lock that lets one run at a time hold a name."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RunHeldError, UsageError
from shm.file_lock import EXCLUSIVE, SHARED, try_lock
from shm.user_folders import user_folder


def runs_folder() -> Path:
    """$XDG_STATE_HOME/tickpipe/runs, by default ~/.local/state/tickpipe/runs."""
    return user_folder("XDG_STATE_HOME", ".local/state") / "tickpipe" / "runs"


@dataclass(frozen=True)
class RunDirectory:
    """Where a run keeps what outlives it."""

    run: str
    path: Path

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.path / "logs"

    @property
    def config(self) -> Path:
        """The configuration as concluded."""
        return self.path / "config.toml"

    @property
    def journal(self) -> Path:
        """The router's journal: what became of every order."""
        return self.path / "journal"

    @property
    def market(self) -> Path:
        """Where the market is, as JSON: what it takes to record the run from outside."""
        return self.path / "market.json"

    @property
    def recording(self) -> Path:
        """Recorded market data, unless it goes elsewhere."""
        return self.path / "recording"

    @property
    def report(self) -> Path:
        """The run report."""
        return self.path / "report.json"


def new_run_id(name: str) -> str:
    """Unique on this machine: the name, the start in UTC, the process."""
    return f"{name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"


def create_run_directory(run: str) -> RunDirectory:
    """Make it, readable by its user only. Raises UsageError where nothing can be written."""
    directory = RunDirectory(run, runs_folder() / run)
    try:
        directory.logs.mkdir(parents=True, mode=0o700)
        directory.path.chmod(0o700)
    except OSError as error:
        raise UsageError(f"{directory.path}: {error.strerror}", "point XDG_STATE_HOME at a writable folder") from None
    return directory


class RunLock:
    """Holds a run name while the process lives: a flock, so that a killed run leaves nothing behind.

    What the file says is for others, a line each: which run and process, and where its control socket is once there is
    one. Lines are only added, so that whoever reads meanwhile takes no live run for a dead one.
    """

    def __init__(self, name: str, run: str, prefix: str) -> None:
        """Take the name, for a run whose client order ids begin with `prefix`. Raises RunHeldError when it is held."""
        folder = runs_folder()
        path = folder / f"{name}.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", "point XDG_STATE_HOME at a writable folder") from None
        if not _take(self._descriptor):
            live = _read(name, self._descriptor)
            os.close(self._descriptor)
            raise RunHeldError(
                f"run name {name!r} is held by {live.words if live else 'another process'}",
                f"stop that run, or start this one under another name: -s run.name={name}2",
            )
        _forget_dead(self._descriptor)
        self._line({"pid": os.getpid(), "run": run, "prefix": prefix})

    def announce(self, control: Path) -> None:
        """Tell where the control socket is."""
        self._line({"control": str(control)})

    def _line(self, says: Mapping[str, Any]) -> None:
        os.pwrite(self._descriptor, json.dumps(says).encode() + b"\n", os.fstat(self._descriptor).st_size)

    def release(self) -> None:
        """Give the name back; the file stays, so that two runs never lock two files of one name."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


@dataclass(frozen=True)
class LiveRun:
    """A run that holds its name."""

    name: str
    run: str
    pid: int
    prefix: str
    """Its client order ids begin with it."""
    control: Path | None
    """Its control socket; None until its processes are started."""

    @property
    def words(self) -> str:
        """The run in a sentence."""
        return f"run {self.run}, process {self.pid}"


def live_runs() -> list[LiveRun]:
    """The runs that hold a name now, by name."""
    found = (_look(path) for path in sorted(runs_folder().glob("*.lock")))
    return [live for live in found if live is not None]


def living_prefixes() -> list[str]:
    """Prefixes of the client order ids of this user's runs that live, this one included."""
    return [live.prefix for live in live_runs()]


def sweep_control_sockets() -> list[Path]:
    """Remove what killed runs left of their control sockets; returns what was removed."""
    removed = []
    for path in runs_folder().glob("*.lock"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if try_lock(descriptor, EXCLUSIVE):
                    removed += _forget_dead(descriptor)
            finally:
                os.close(descriptor)
    return removed


LOCK_TRIES, LOCK_POLL_S = 20, 0.01
"""Whoever looks whether a run lives holds its lock for a moment."""


def _take(descriptor: int) -> bool:
    for _ in range(LOCK_TRIES):
        if try_lock(descriptor, EXCLUSIVE):
            return True
        time.sleep(LOCK_POLL_S)
    return False


def _look(path: Path) -> LiveRun | None:
    """The live run behind a lock file; None when nobody holds it, or does not say yet who it is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return None if try_lock(descriptor, SHARED) else _read(path.stem, descriptor)
    finally:
        os.close(descriptor)


def _read(name: str, descriptor: int) -> LiveRun | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        who, *more = [json.loads(line) for line in os.pread(descriptor, 4096, 0).split(b"\n")[:-1]]
        control = Path(more[0]["control"]) if more else None
        return LiveRun(name, str(who["run"]), int(who["pid"]), str(who["prefix"]), control)
    return None


def _forget_dead(descriptor: int) -> list[Path]:
    """What the last holder of a lock that is ours now left: it was killed if it left anything."""
    from launch.control.path import remove_socket

    dead = _read("", descriptor)
    os.ftruncate(descriptor, 0)
    return [dead.control] if dead is not None and dead.control and remove_socket(dead.control) else []
