"""Contestants on the same two cores, in turns: this process on the first core, one worker process on the second.

A slice is tens of milliseconds of one contestant in one mode. While it runs the others are silent: the worker waits
for the next slice's name on a pipe. Virtual cores change their distance within seconds, so only slices that follow
each other are compared.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Protocol

import numpy as np

from bench.harness import die_with

SLICE_NS = 20e6
WARM_SLICES = 2
COUNT_MAX = 1 << 22


class Contestant(Protocol):
    """What a duel needs of a contestant. `left` runs here, `right` in the worker, both after `open`."""

    name: str

    def open(self, side: str) -> None:
        """Connect; `side` is left or right, left first."""

    def left(self, mode: str, count: int) -> np.ndarray:
        """`count` operations; returns samples in ns per operation. Raises RuntimeError on a wrong payload."""

    def right(self, mode: str, count: int) -> None:
        """The other end of `left`. Raises RuntimeError on a wrong payload."""

    def close(self) -> None:
        """Leave nothing behind; called on both sides, right first."""


class Duel:
    """Runs slices; knows per contestant and mode how many operations fill one."""

    def __init__(self, contestants: Sequence[Contestant], worker: Connection) -> None:
        self._index = {contestant.name: index for index, contestant in enumerate(contestants)}
        self._contestants = contestants
        self._worker = worker
        self._counts: dict[tuple[str, str], int] = {}

    def slice(self, name: str, mode: str) -> np.ndarray:
        """One slice's samples, ns per operation. Raises RuntimeError on a wrong payload on either side."""
        if (name, mode) not in self._counts:
            self._counts[name, mode] = 256
            for _ in range(WARM_SLICES):
                self._run(name, mode)
        return self._run(name, mode)

    def _run(self, name: str, mode: str) -> np.ndarray:
        count = self._counts[name, mode]
        self._worker.send((self._index[name], mode, count))
        samples = self._contestants[self._index[name]].left(mode, count)
        failure = self._worker.recv()
        if failure:
            raise RuntimeError(f"{name}, {mode}: {failure}")
        per_operation = max(1.0, float(np.mean(samples)))
        self._counts[name, mode] = min(COUNT_MAX, max(64, int(SLICE_NS / per_operation) // 64 * 64))
        return samples


@contextmanager
def duel(contestants: Sequence[Contestant], cores: tuple[int, int]) -> Iterator[Duel]:
    """Fork the worker, pin both, open all contestants on both sides; undo all of it at the end."""
    here, there = Pipe()
    before = os.sched_getaffinity(0)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_with(parent)
            os.sched_setaffinity(0, {cores[1]})
            here.close()
            _work(contestants, there)
            code = 0
        finally:
            os._exit(code)
    there.close()
    try:
        os.sched_setaffinity(0, {cores[0]})
        for contestant in contestants:
            contestant.open("left")
        here.send(None)
        here.recv()
        yield Duel(contestants, here)
        here.send(None)
        here.recv()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for contestant in contestants:
            contestant.close()
        os.sched_setaffinity(0, before)


def _work(contestants: Sequence[Contestant], orders: Connection) -> None:
    orders.recv()
    for contestant in contestants:
        contestant.open("right")
    orders.send("")
    while order := orders.recv():
        index, mode, count = order
        failure = ""
        try:
            contestants[index].right(mode, count)
        except RuntimeError as error:
            failure = str(error)
        orders.send(failure)
    for contestant in contestants:
        contestant.close()
    orders.send("")


def two_cores() -> tuple[int, int] | None:
    """The first two cores this process may use, None when there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else None
