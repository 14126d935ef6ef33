"""What a forked child does at once, before it is a stage; and the fork itself.

The child shares the supervisor's memory image but must act as nothing of it: own process group with SIGINT ignored
(Ctrl-C reaches the whole terminal group), no handler or wakeup pipe of the supervisor's, no descriptor of its, only the
segments of its plan, and it leaves by `os._exit`, so that nothing the supervisor meant to do at exit happens twice.
"""

import ctypes
import faulthandler
import gc
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
from launch.supervision.service import NotifyPipe
from launch.supervision.signals import STOP_SIGNALS
from shm.segment import Segment

Entry = Callable[[Mapping[str, Segment]], int]
"""Runs the agents of a process over its attached segments; returns the exit code."""

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


def fork(process: ProcessPlan, plan: Plan, entry: Entry, log_path: Path) -> Forked:
    """Fork `process`. The caller must be single-threaded: a lock held by another thread stays locked in the child."""
    tasks = sum(1 for _ in Path("/proc/self/task").iterdir())
    assert threading.active_count() == 1, f"threads={threading.active_count()}, 1 allowed at a fork"
    assert tasks == 1, f"tasks={tasks}, 1 allowed at a fork"
    reading, writing = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # else the child's copy of the buffer is written again
    # Garbage with descriptors must not be collected in the child, where their numbers mean other files. What survives
    # is frozen: a collection of all that a compiler leaves takes a quarter of a second, and would copy its pages.
    gc.collect()
    gc.freeze()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
    pid = os.fork()
    if pid == 0:
        _child(process, plan, entry, log_path, parent, writing, blocked)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(writing)
    return Forked(pid, NotifyPipe(reading))


def _child(
    process: ProcessPlan, plan: Plan, entry: Entry, log_path: Path, parent: int, notify: int, mask: set[int]
) -> NoReturn:
    code = EXIT_CRASHED
    try:
        _detach(process, parent, log_path, notify, mask)
        code = _run(process, plan, entry, notify)
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


def _detach(process: ProcessPlan, parent: int, log_path: Path, notify: int, mask: set[int]) -> None:
    os.setpgid(0, 0)
    _libc.prctl(PR_SET_NAME, f"pipe:{process.name}".encode(), 0, 0, 0)  # what `top` and `ps` show; 15 characters
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor has it, and stops us in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if not process.outlives_supervisor:
        die_with_parent()
    if os.getppid() != parent:  # it died before prctl took hold
        os._exit(EXIT_ORPHANED)
    _redirect(log_path)
    _close_all_but({0, 1, 2, notify})
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


def _run(process: ProcessPlan, plan: Plan, entry: Entry, notify: int) -> int:
    # Pinned first: memory is then touched, and so placed, from the core that will use it. Locked after the segments are
    # mapped: a mapping that is locked on fault is not populated any more.
    applied: set[str] = set()
    if not _apply(process, notify, applied, early=True):
        return EXIT_REFUSED
    segments = {
        use.name: Segment.attach(plan.shared_name(use.name), plan.segments[use.name], writable=use.writable)
        for use in process.segments
    }
    if not _apply(process, notify, applied, early=False):
        return EXIT_REFUSED
    return entry(segments)


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
