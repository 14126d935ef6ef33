"""The helper thread: what blocks (REST, handshakes, retries, name look-ups) runs here, one thread per process.

Started after the fork, on a housekeeping core. Jobs are callables; results wait in a queue that the agent's `service`
empties, and each result calls for attention, so the compiled duty cycle returns to Python at once.
"""

import contextlib
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stages.agent import Attention

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What became of a job: its value, or the exception it raised."""

    tag: str
    value: Any
    error: BaseException | None


class Helper:
    """One daemon thread that runs jobs in order. `close` does not wait for a job that blocks."""

    def __init__(self, name: str, attention: Attention, cpus: Iterable[int] = ()) -> None:
        self._attention = attention
        self._cpus = set(cpus)
        self._jobs: queue.SimpleQueue[tuple[str, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._results: deque[Result] = deque()
        self.stopping = threading.Event()
        """Set by `close`: jobs that wait or retry wait on this instead of sleeping."""
        self._thread = threading.Thread(target=self._work, name=f"{name}-helper", daemon=True)
        self._thread.start()

    def submit(self, tag: str, job: Callable[[], Any]) -> None:
        """Run `job` after those submitted before it."""
        self._jobs.put((tag, job))

    def results(self) -> list[Result]:
        """Results that have come in since the last call, oldest first."""
        taken = []
        while self._results:
            taken.append(self._results.popleft())
        return taken

    def close(self) -> None:
        """End the thread after the running job."""
        self.stopping.set()
        self._jobs.put(None)

    def _work(self) -> None:
        if self._cpus:
            with contextlib.suppress(OSError):  # a container may forbid it; then it shares the stage's core
                os.sched_setaffinity(0, self._cpus)
        with contextlib.suppress(OSError, PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # a FIFO stage's helper is not FIFO
        while (item := self._jobs.get()) is not None:
            tag, job = item
            try:
                result = Result(tag, job(), None)
            except Exception as error:  # handed to the agent, which decides
                result = Result(tag, None, error)
            self._results.append(result)
            self._attention.call()
