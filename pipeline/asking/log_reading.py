"""The logs of a run, from its run directory: a file for each process. Read-only; no supervisor is asked."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import click

from pipeline.asking.find_run import find_directory
from pipeline.errors import UsageError
from pipeline.run.directory import RunDirectory, live_runs

FOLLOW_POLL_S = 0.1
LINE_BYTES_MOST = 65_536


class _Log:
    """A process's log, read line by line as it grows. A last line without its end waits for the rest."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("rb")
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """What is new."""
        while chunk := self._file.readline(LINE_BYTES_MOST):
            self._rest += chunk
            if chunk.endswith(b"\n") or len(self._rest) >= LINE_BYTES_MOST:
                yield self._take()

    def all(self) -> Iterator[str]:
        """What is new, an unfinished last line included."""
        yield from self.lines()
        if self._rest:
            yield self._take()

    def _take(self) -> str:
        text, self._rest = self._rest.decode(errors="replace").rstrip("\n"), b""
        return text


def show(stage: str | None, run: str, *, follow: bool, lines: int | None, as_json: bool) -> int:
    """Print them, and go on while the run lives if `follow` says so. Raises UsageError."""
    directory = find_directory(run)
    logs = {path.stem: _Log(path) for path in _paths(directory, stage)}
    if as_json and not follow:
        kept = {name: list(_last(log.all(), lines)) for name, log in logs.items()}
        click.echo(json.dumps({"run": directory.run, "logs": kept}))
        return 0
    write = _writer(as_json=as_json, named=stage is None)
    with suppress(KeyboardInterrupt):
        for name, log in logs.items():
            for line in _last(log.lines() if follow else log.all(), lines):
                write(name, line)
        if follow:
            _follow(directory, stage, logs, write)
    return 0


def _follow(
    directory: RunDirectory, stage: str | None, logs: dict[str, _Log], write: Callable[[str, str], None]
) -> None:
    while True:
        alive = any(live.run == directory.run for live in live_runs())  # before the reading: its last lines count
        for path in _paths(directory, stage):
            if path.stem not in logs:
                logs[path.stem] = _Log(path)
            for line in logs[path.stem].lines():
                write(path.stem, line)
        if not alive:
            break
        time.sleep(FOLLOW_POLL_S)
    for name, log in logs.items():
        for line in log.all():
            write(name, line)


def _paths(directory: RunDirectory, stage: str | None) -> list[Path]:
    paths = sorted(directory.logs.glob("*.log"))
    if stage is None:
        return paths
    chosen = [path for path in paths if path.stem == stage]
    if not chosen:
        raise UsageError(
            f"no log of {stage!r} in {directory.logs}",
            f"there: {', '.join(path.stem for path in paths) or 'none yet'}; in packed placement the stages share one",
        )
    return chosen


def _last(lines: Iterable[str], count: int | None) -> Iterable[str]:
    return lines if count is None else deque(lines, count)


def _writer(*, as_json: bool, named: bool) -> Callable[[str, str], None]:
    def write(process: str, line: str) -> None:
        if as_json:
            line = json.dumps({"process": process, "line": line})
        elif named:
            line = f"{process:<10} | {line}"
        click.echo(line)

    return write
