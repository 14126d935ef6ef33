"""The fork, and what a forked child does before it is a stage.

The child shares the supervisor's memory image but must act as nothing of it: own process group with SIGINT ignored
(Ctrl-C reaches the whole terminal group), no handler or wakeup pipe of the supervisor's, no descriptor of its, only the
segments of its plan, and it leaves by `os._exit`, so that nothing the supervisor meant to do at exit happens twice.

Prepared so far it is a spare: it waits, blocked, for the word that its process is to run, which comes at once when that
has none, and else when an earlier one of it is gone. Copying the page tables of a supervisor that has loaded a compiler
takes 10 ms, and what follows as long again: a successor that is there already is spared both. Until the word it is
pinned to no stage's core, has no knob but where its memory comes from, and dies with the supervisor, whatever it
becomes.
"""

import contextlib
import ctypes
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from launch.findings import Finding
from launch.knobs.schedule import FALLBACK, KNOBS
from launch.plan import Plan, ProcessPlan
from launch.supervision.fork_memory import freeze_garbage
from launch.supervision.service import NotifyPipe
from launch.supervision.signals import STOP_SIGNALS
from shm.segment import Segment

Entry = Callable[[Mapping[str, Segment], int], int]
"""Runs the agents of a process over its attached segments, for the supervisor of that pid; returns the exit code."""

EXIT_ORPHANED = 71
EXIT_CRASHED = 70
EXIT_REFUSED = 4
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Forked:
    """A forked child as the supervisor sees it."""

    pid: int
    notify: NotifyPipe
    word: int
    """Descriptor by which it is told to run."""

    def run(self, cpu: int | None) -> None:
        """Tell it to run, on `cpu`. One that has died meanwhile is noticed as every other.

        It pins itself too, and says what is in the way; but here it would wait for its turn with us to get so far.
        """
        if cpu is not None:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(self.pid, {cpu})
        with contextlib.suppress(BrokenPipeError):
            os.write(self.word, b"\n")
        os.close(self.word)

    def forget(self) -> None:
        """Close what belongs to one that has ended without having been told to run."""
        os.close(self.word)
        self.notify.close()


def fork(process: ProcessPlan, plan: Plan, entry: Entry, log_path: Path) -> Forked:
    """Fork `process`, which then waits to be told to run.

    The caller must be single-threaded: a lock held by another thread stays locked in the child. Raises OSError.
    """
    tasks = sum(1 for _ in Path("/proc/self/task").iterdir())
    assert threading.active_count() == 1, f"threads={threading.active_count()}, 1 allowed at a fork"
    assert tasks == 1, f"tasks={tasks}, 1 allowed at a fork"
    reading, writing = os.pipe2(os.O_CLOEXEC)
    waiting, word = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # else the child's copy of the buffer is written again
    freeze_garbage()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for descriptor in (reading, writing, waiting, word):
            os.close(descriptor)
        raise
    if pid == 0:
        _child(process, plan, entry, log_path, _Ends(parent, writing, waiting), blocked)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(writing)
    os.close(waiting)
    return Forked(pid, NotifyPipe(reading), word)


@dataclass(frozen=True)
class _Ends:
    """What a child has of its supervisor's."""

    parent: int
    notify: int
    word: int


def _child(process: ProcessPlan, plan: Plan, entry: Entry, log_path: Path, ends: _Ends, mask: set[int]) -> NoReturn:
    code = EXIT_CRASHED
    try:
        _detach(process, log_path, ends, mask)
        code = _run(process, plan, entry, ends)
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def die_with_parent() -> None:
    """SIGKILL for this process when the one that forked it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _call_itself(name: str) -> None:
    _libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)  # what `top` and `ps` show; 15 characters


def _detach(process: ProcessPlan, log_path: Path, ends: _Ends, mask: set[int]) -> None:
    os.setpgid(0, 0)
    _call_itself(f"spare:{process.name}")
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor has it, and stops us in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    die_with_parent()
    if os.getppid() != ends.parent:  # it died before prctl took hold
        os._exit(EXIT_ORPHANED)
    _redirect(log_path)
    _close_all_but({0, 1, 2, ends.notify, ends.word})
    faulthandler.enable(sys.stderr)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, force=True, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _redirect(log_path: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor, for the life of the process
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _close_all_but(kept: set[int]) -> None:
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the descriptor that listed the folder


def _run(process: ProcessPlan, plan: Plan, entry: Entry, ends: _Ends) -> int:
    # Locked after the segments are mapped: a mapping that is locked on fault is not populated any more.
    applied: set[str] = set()
    if not _apply(process, ends.notify, applied, early=True):
        return EXIT_REFUSED
    segments = {
        use.name: Segment.attach(plan.shared_name(use.name), plan.segments[use.name], writable=use.writable)
        for use in process.segments
    }
    if not _may_run(process, ends.word):
        return EXIT_ORPHANED
    if not _apply(process, ends.notify, applied, early=False):
        return EXIT_REFUSED
    return entry(segments, ends.parent)


def _may_run(process: ProcessPlan, word: int) -> bool:
    """Wait for the word; False when the supervisor has gone without it."""
    if not os.read(word, 1):
        return False
    os.close(word)
    _call_itself(f"pipe:{process.name}")
    if process.outlives_supervisor:
        _libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    return True


def _apply(process: ProcessPlan, notify: int, applied: set[str], *, early: bool) -> bool:
    """Apply the process's knobs, telling what is refused; False when that was required."""
    for use in process.schedule.uses:
        knob = KNOBS[use.name]
        if knob.early != early or FALLBACK.get(use.name) in applied:
            continue
        finding = knob.attempt(use.value)
        if finding is None:
            applied.add(use.name)
            continue
        _tell(notify, "refused" if use.required else "finding", finding)
        if use.required:
            return False
    return True


def _tell(notify: int, event: str, finding: Finding) -> None:
    os.write(notify, json.dumps({"event": event, **finding.document()}).encode() + b"\n")
