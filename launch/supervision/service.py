"""Exec'ed processes: programs of their own beside the forked stages, such as a venue to test against.

Configuration goes in as one JSON document on standard input; the process answers by lines of JSON on a pipe, the first
of them {"event": "ready", ...}. This file imports no shared memory, so that a service can be started first and load
while the launcher does.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.errors import ProcessFailedError
from launch.supervision.logs import describe_exit, tail


class NotifyPipe:
    """The reading end of a pipe on which a process writes lines of JSON objects."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._rest = b""

    def messages(self) -> tuple[list[dict[str, Any]], bool]:
        """(objects that have come in, whether the pipe is still open)."""
        is_open = True
        with contextlib.suppress(BlockingIOError):
            while True:
                chunk = os.read(self.descriptor, 65_536)
                if not chunk:
                    is_open = False
                    break
                self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        objects = []
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    objects.append(message)
        return objects, is_open

    def close(self) -> None:
        """Close the descriptor, once."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Service:
    """A running exec'ed process. `latest` holds the last message of each event it has sent."""

    def __init__(
        self, name: str, argv: Sequence[str], configuration: Mapping[str, Any], log_path: Path, cpu: int | None
    ) -> None:
        """Start `argv` with `--notify-fd N` added, in a process group of its own, pinned to `cpu`."""
        self.name, self.log_path = name, log_path
        self.latest: dict[str, dict[str, Any]] = {}
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self.notify = NotifyPipe(reading)
        try:
            with log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    [*argv, "--notify-fd", str(writing)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writing,),
                    process_group=0,
                )
        finally:
            os.close(writing)
        self.pid = self._process.pid
        if cpu is not None:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(self.pid, {cpu})
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once: its end is noticed by whoever waits for it
            self._process.stdin.write(json.dumps(dict(configuration)).encode())
            self._process.stdin.close()

    def poll(self) -> int | None:
        """Exit code (negative: signal), None while it runs."""
        return self._process.poll()

    def take_messages(self) -> bool:
        """Read what has come in; False once the pipe is closed."""
        messages, is_open = self.notify.messages()
        for message in messages:
            self.latest[str(message.get("event"))] = message
        return is_open

    def wait_for(self, event: str, deadline_s: float, wait: Callable[[float], object] = time.sleep) -> dict[str, Any]:
        """The message of `event`. Raises ProcessFailedError when the process ends or the deadline passes first."""
        end = time.monotonic() + deadline_s
        while True:
            self.take_messages()
            if event in self.latest:
                return self.latest[event]
            code = self.poll()
            if code is not None:
                raise ProcessFailedError(self.name, describe_exit(code), tail(self.log_path), f"see {self.log_path}")
            if time.monotonic() > end:
                raise ProcessFailedError(
                    self.name, f"did not say {event!r} within {deadline_s:g} s", tail(self.log_path),
                    f"see {self.log_path}; launch.start_deadline_s allows more time",
                )  # fmt: skip
            wait(0.01)

    def end(self, deadline_s: float = 2.0) -> None:
        """SIGTERM, then SIGKILL after the deadline; returns when it is reaped."""
        if self.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.notify.close()
