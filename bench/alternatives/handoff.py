"""How a message wakes the next of five stages on one core: what lost against giving the core away in turns.

A token goes round five processes on one core; each checks its number and hands it on. `sched_yield`: all of them poll,
and whoever finds nothing yields (`yield`, what stages that share a core do). `semaphore`: each sleeps until it is
posted (`shm/doorbell.py`). `socket pair`: each blocks in recv.

Yielding wins while few share the core, and burns it; with many idle stages, or where the core is wanted for others,
the doorbell is right. A hop costs two switches of the scheduler in the one case, and a wake-up on top in the others.

Measured as in ring.py, us a hop and the winner's cost over it (medians of 24 rounds): sched_yield 6.3; semaphore 7.2
(0.77); socket pair 8.7 (0.66).
"""

import ctypes
import mmap
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from bench.harness import die_with, over_runs, ratio
from bench.laps import pinned
from shm import libc
from shm.atomics import load_acquire, load_word, poke, store_release, store_word
from shm.kernel import kernel

_libc = ctypes.CDLL(None)

WINNER = "sched_yield"
PROCESSES = 5
RUNS, ROUNDS, LAPS = 3, 8, 2_000
FAR_FUTURE_S = 1 << 40
WORD, SEMAPHORE, STRIDE = 0, 64, 128
ONE_TOKEN_BYTES = 8


@kernel
def _by_yield(own: int, following: int, first: int, laps: int) -> int:
    """Pass the token `laps` times; returns how many times its number was wrong. `first`: 1 for who begins."""
    wrong = 0
    for number in range(1, laps + 1):
        if first:
            store_release(following + WORD, number)
        while load_acquire(own + WORD) < number:
            libc.sched_yield()
        wrong += load_word(own + WORD) != number
        if not first:
            store_release(following + WORD, number)
    return wrong


@kernel
def _by_semaphore(own: int, following: int, first: int, laps: int, forever: int) -> int:
    wrong = 0
    for number in range(1, laps + 1):
        if first:
            store_word(following + WORD, number)
            libc.sem_post(following + SEMAPHORE)
        while libc.sem_clockwait(own + SEMAPHORE, libc.CLOCK_MONOTONIC, forever) != 0:
            pass
        wrong += load_word(own + WORD) != number
        if not first:
            store_word(following + WORD, number)
            libc.sem_post(following + SEMAPHORE)
    return wrong


@kernel
def _by_socket(receiving: int, sending: int, first: int, laps: int, buffer: int) -> int:
    wrong = 0
    for number in range(1, laps + 1):
        if first:
            store_word(buffer, number)
            libc.send(sending, buffer, ONE_TOKEN_BYTES, 0)
        libc.recv(receiving, buffer, ONE_TOKEN_BYTES, 0)
        wrong += load_word(buffer) != number
        if not first:
            libc.send(sending, buffer, ONE_TOKEN_BYTES, 0)
    return wrong


Relay = Callable[[int, int], int]
"""(place in the round, laps) -> wrong numbers."""


@contextmanager
def _words() -> Iterator[int]:
    memory = mmap.mmap(-1, 4096)
    base = int(np.frombuffer(memory, np.uint8).ctypes.data)
    for index in range(PROCESSES):
        if _libc.sem_init(ctypes.c_void_p(base + index * STRIDE + SEMAPHORE), 1, 0):
            raise OSError("sem_init")
    yield base


@contextmanager
def _yielding() -> Iterator[Relay]:
    with _words() as base:
        own = [base + index * STRIDE for index in range(PROCESSES)]
        yield lambda at, laps: int(_by_yield(own[at], own[(at + 1) % PROCESSES], int(at == 0), laps))


@contextmanager
def _posting() -> Iterator[Relay]:
    with _words() as base:
        own = [base + index * STRIDE for index in range(PROCESSES)]
        forever = base + PROCESSES * STRIDE
        poke(forever, FAR_FUTURE_S)
        yield lambda at, laps: int(_by_semaphore(own[at], own[(at + 1) % PROCESSES], int(at == 0), laps, forever))


@contextmanager
def _sending() -> Iterator[Relay]:
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(PROCESSES)]
        for end in (end for pair in pairs for end in pair):
            stack.callback(end.close)
        buffer = np.zeros(1, np.int64)

        def relay(at: int, laps: int) -> int:
            sending, receiving = pairs[(at + 1) % PROCESSES][0].fileno(), pairs[at][1].fileno()
            return int(_by_socket(receiving, sending, int(at == 0), laps, buffer.ctypes.data))

        yield relay


HAND_OFFS = {WINNER: _yielding, "semaphore": _posting, "socket pair": _sending}


def _hop_ns(hand_off: Callable[[], Any], core: int, laps: int) -> float:
    """ns a hop of `laps` rounds. Raises RuntimeError when a token had a wrong number."""
    parent = os.getpid()
    with hand_off() as relay, pinned(core):
        relay(0, 0)  # compiled for the children too
        children = [_fork(relay, at, laps, parent) for at in range(1, PROCESSES)]
        try:
            start = time.perf_counter_ns()
            wrong = relay(0, laps)
            elapsed = time.perf_counter_ns() - start
            for child in list(children):
                wrong += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                children.remove(child)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    if wrong:
        raise RuntimeError("a token came with a wrong number")
    return elapsed / laps / PROCESSES


def _fork(relay: Relay, at: int, laps: int, parent: int) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_with(parent)
            code = int(relay(at, laps) != 0)
        finally:
            os._exit(code)
    return child


def run(*, quick: bool = False) -> dict[str, Any]:
    """Results and ratios: the winner's cost over each alternative's, round by round."""
    core = max(os.sched_getaffinity(0))
    laps = 100 if quick else LAPS
    runs: list[list[dict[str, float]]] = []
    for _ in range(1 if quick else RUNS):
        found = [
            {name: _hop_ns(hand_off, core, laps) for name, hand_off in HAND_OFFS.items()}
            for _ in range(2 if quick else ROUNDS)
        ]
        runs.append(found)
    rounds = [each for some in runs for each in some]
    return {
        "results": [
            {
                "name": f"hand-off: {name}",
                **over_runs([{"hop_ns_per_op": statistics.median(each[name] for each in some)} for some in runs]),
                "samples": len(rounds),
            }
            for name in HAND_OFFS
        ],
        "ratios": {
            f"{WINNER}_vs_{name}": ratio([each[WINNER] for each in rounds], [each[name] for each in rounds])
            for name in HAND_OFFS if name != WINNER
        },
    }  # fmt: skip
