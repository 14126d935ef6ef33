"""Runs on disk: the run directory, and the lock that lets one run at a time hold a name."""

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RunHeldError, UsageError


def runs_folder() -> Path:
    """$XDG_STATE_HOME/tickpipe/runs, by default ~/.local/state/tickpipe/runs."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "tickpipe" / "runs"


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

    What the file says is for others: which run, which process, and where its control socket is once there is one.
    """

    def __init__(self, name: str, run: str) -> None:
        """Take the name. Raises RunHeldError when another run holds it."""
        self._run = run
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
        self._write(None)

    def announce(self, control: Path) -> None:
        """Tell where the control socket is."""
        self._write(control)

    def _write(self, control: Path | None) -> None:
        known = {"pid": os.getpid(), "run": self._run, "control": control and str(control)}
        text = json.dumps(known).encode()
        os.pwrite(self._descriptor, text.ljust(os.fstat(self._descriptor).st_size), 0)  # at once, for readers

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


def sweep_control_sockets() -> list[Path]:
    """Remove what killed runs left of their control sockets; returns what was removed."""
    removed = []
    for path in runs_folder().glob("*.lock"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _try_lock(descriptor, fcntl.LOCK_EX):
                    removed += _forget_dead(descriptor)
            finally:
                os.close(descriptor)
    return removed


LOCK_TRIES, LOCK_POLL_S = 20, 0.01
"""Whoever looks whether a run lives holds its lock for a moment."""


def _take(descriptor: int) -> bool:
    for _ in range(LOCK_TRIES):
        if _try_lock(descriptor, fcntl.LOCK_EX):
            return True
        time.sleep(LOCK_POLL_S)
    return False


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _look(path: Path) -> LiveRun | None:
    """The live run behind a lock file; None when nobody holds it, or does not say yet who it is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return None if _try_lock(descriptor, fcntl.LOCK_SH) else _read(path.stem, descriptor)
    finally:
        os.close(descriptor)


def _read(name: str, descriptor: int) -> LiveRun | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(os.pread(descriptor, 4096, 0))
        control = known.get("control")
        return LiveRun(name, str(known["run"]), int(known["pid"]), Path(control) if control else None)
    return None


def _forget_dead(descriptor: int) -> list[Path]:
    """What the last holder of a lock that is ours now left: it was killed if it left anything."""
    from launch.control_path import remove_socket

    dead = _read("", descriptor)
    os.ftruncate(descriptor, 0)
    return [dead.control] if dead is not None and dead.control and remove_socket(dead.control) else []
