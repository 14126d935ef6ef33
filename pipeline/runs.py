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
    def journal(self) -> Path:
        """The router's journal: what became of every order."""
        return self.path / "journal"

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
    """Holds a run name while the process lives: a flock, so that a killed run leaves nothing behind."""

    def __init__(self, name: str, run: str, prefix: str) -> None:
        """Take the name, for a run whose client order ids begin with `prefix`. Raises RunHeldError when it is held."""
        folder = runs_folder()
        path = folder / f"{name}.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", "point XDG_STATE_HOME at a writable folder") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            os.close(self._descriptor)
            raise RunHeldError(
                f"run name {name!r} is held by {holder}",
                f"stop that run, or start this one under another name: -s run.name={name}2",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps({"pid": os.getpid(), "run": run, "prefix": prefix}).encode(), 0)

    def release(self) -> None:
        """Give the name back; the file stays, so that two runs never lock two files of one name."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _holder(descriptor: int) -> str:
    with suppress(ValueError, KeyError, TypeError):
        known = json.loads(os.pread(descriptor, 4096, 0))
        return f"run {known['run']}, process {known['pid']}"
    return "another process"


def living_prefixes() -> list[str]:
    """Prefixes of the client order ids of this user's runs that live, this one included."""
    found = []
    for path in runs_folder().glob("*.lock"):
        with suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(str(json.loads(file.read(4096))["prefix"]))
    return found
