"""`up --detach`: the same command again as a session of its own, and how its launcher learns that it trades.

Until it trades it shows its words, progress and errors on the launcher's terminal and nothing differs from a run in the
foreground, exit codes included; then it moves them to the run directory and tells its launcher, which leaves. It is
started by exec, before anything is loaded, because what the supervisor has loaded must not be forked into a daemon.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

import click

from launch.supervision.logs import describe_exit
from pipeline.errors import PipelineError
from pipeline.run.directory import RunDirectory

NOTIFY_OPTION = "--notify-fd"
FORWARDED = (signal.SIGINT, signal.SIGTERM)


class Launcher:
    """The other end, as the run sees it."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    def tell(self, directory: RunDirectory) -> None:
        """The run trades."""
        known = {"run": directory.run, "pid": os.getpid(), "run_dir": str(directory.path)}
        with suppress(BrokenPipeError):  # it did not wait for us
            os.write(self._descriptor, json.dumps(known).encode() + b"\n")
        os.close(self._descriptor)


def start_detached(*, as_json: bool) -> int:
    """Start this command line in the background; returns when it trades, or the exit code with which it failed.

    Until then Ctrl-C is the run's, too: whoever interrupts a start wants none.
    """
    started: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(number)

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    for number in FORWARDED:
        signal.signal(number, forward)
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:], NOTIFY_OPTION, str(writing)],
        stdin=subprocess.DEVNULL, pass_fds=(writing,), start_new_session=True,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, blocked),
    )  # fmt: skip
    started.append(process)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(writing)
    with os.fdopen(reading, "rb") as notify:
        line = notify.readline()
    if not line:
        code = process.wait()
        if code < 0:
            raise PipelineError(f"the run {describe_exit(code)} before it traded")
        return code
    known = json.loads(line)
    if as_json:
        click.echo(json.dumps(known))
    else:
        click.echo(f"run {known['run']} trades in the background, process {known['pid']}; "
                   "`pipeline status` shows it, `pipeline down` stops it", err=True)  # fmt: skip
    return 0
