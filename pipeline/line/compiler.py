"""Compiling in worker processes: what is not in the cache yet is compiled on all cores, then loaded from the cache.

Numba compiles one function at a time in a process. A cold start compiles some two hundred, so forked workers take the
stages' polls from a queue, costliest first, and leave the code in the disk cache; the parent then finds it there. The
workers are gone before anything else is forked.
"""

import gc
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numba.core import event

from launch.supervision.child import die_with_parent


@dataclass(frozen=True)
class Task:
    """Kernels to be compiled, each for one signature: what one part of the line needs."""

    name: str
    kernels: Sequence[tuple[Any, tuple[Any, ...]]]
    """(dispatcher, Numba types of its arguments). What one takes in of another is compiled once, in this order."""

    def compile(self) -> None:
        """Compile, or load from the cache."""
        for dispatcher, types in self.kernels:
            dispatcher.compile(types)


class CompileCount:
    """Context manager that counts the functions compiled (not loaded) within."""

    def __init__(self) -> None:
        self._recorder = event.RecordingListener()
        self._listening = event.install_listener("numba:compile", self._recorder)

    def __enter__(self) -> "CompileCount":
        self._listening.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._listening.__exit__(*raised)

    @property
    def count(self) -> int:
        """Functions compiled so far."""
        return sum(1 for _, happening in self._recorder.buffer if happening.is_start)


def compile_ahead(tasks: Sequence[Task], done: Callable[[str], None]) -> int:
    """Compile `tasks`, the costliest first, in a process per usable core; returns how many functions were compiled.

    `done(name)` is called as each is finished. A task that fails in a worker is left to the caller, who compiles it
    again and sees the error.
    """
    # The queue is a pipe that holds one byte a task: a read of one byte is atomic.
    queue_out, queue_in = os.pipe()
    news_out, news_in = os.pipe()
    os.write(queue_in, bytes(range(len(tasks))))
    os.close(queue_in)
    workers = []
    try:
        for _ in range(min(len(os.sched_getaffinity(0)), len(tasks))):
            worker = os.fork()
            if worker == 0:
                _work(tasks, queue_out, news_in)
            workers.append(worker)
        os.close(news_in)
        compiled = 0
        with os.fdopen(news_out) as news:
            for line in news:
                name, count = line.split()
                compiled += int(count)
                done(name)
        return compiled
    finally:
        os.close(queue_out)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)  # one that has ended stays ours until it is reaped
            os.waitpid(worker, 0)


def _work(tasks: Sequence[Task], queue: int, news: int) -> None:
    try:
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it, and ends us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.disable()  # its passes over what the compiler holds took a sixth of the time; the process is gone soon
        while taken := os.read(queue, 1):
            task = tasks[taken[0]]
            with CompileCount() as compiled:
                task.compile()
            os.write(news, f"{task.name} {compiled.count}\n".encode())
    except BaseException:  # whatever it is, the parent meets it again and says so
        os._exit(1)
    finally:
        os._exit(0)
