"""What memory asks of any book: lines at random among as many bytes as the books take, and among fewer.

chained   each line says where the next one is; of one, two and three such chains side by side: misses that can only
          be waited for one after the other, or two and three together
known     all lines are known beforehand, are changed, and so have to be written back: as many misses under way as
          the core has room for. Nothing can look further ahead.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.book_memory import Memory
from shm.atomics import load_word, store_word
from shm.kernel import kernel
from shm.layout import bytes_at

LINE_BYTES = 64
STEPS, QUICK_STEPS = 100_000, 10_000
ROUNDS, QUICK_ROUNDS = 15, 3


@kernel
def _chase(first: int, steps: int) -> int:
    for _ in range(steps):
        first = load_word(first)
    return first


@kernel
def _chase_two(first: int, second: int, steps: int) -> int:
    for _ in range(steps):
        first, second = load_word(first), load_word(second)
    return first ^ second


@kernel
def _chase_three(first: int, second: int, third: int, steps: int) -> int:
    for _ in range(steps):
        first, second, third = load_word(first), load_word(second), load_word(third)
    return first ^ second ^ third


@kernel
def _change(lines: int, steps: int) -> None:
    for index in range(steps):
        at = load_word(lines + 8 * index) + 8
        store_word(at, load_word(at) + 1)


def _ring(memory: Memory, random: np.random.Generator) -> np.ndarray:
    """Make all lines of the memory one ring in random order; their addresses, in that order."""
    words = np.ndarray((memory.size // LINE_BYTES, LINE_BYTES // 8), np.int64, bytes_at(memory.address, memory.size))
    order = random.permutation(len(words))
    addresses: np.ndarray = memory.address + LINE_BYTES * order
    words[order, 0] = np.roll(addresses, -1)
    return addresses


def _row(size: int, *, huge: bool, quick: bool) -> dict[str, Any]:
    """The figures for so many bytes."""
    random = np.random.default_rng(1)
    memory = Memory(size, huge=huge)
    addresses = _ring(memory, random)
    steps = min(len(addresses) // 4, QUICK_STEPS if quick else STEPS)

    def chase(chains: int, position: int) -> None:
        starts = [int(addresses[(position + len(addresses) * part // 3) % len(addresses)]) for part in range(chains)]
        (_chase, _chase_two, _chase_three)[chains - 1](*starts, steps)

    ways: dict[str, Callable[[int], None]] = {
        "chained_ns": partial(chase, 1),
        "chained_two_ns": partial(chase, 2),
        "chained_three_ns": partial(chase, 3),
        "known_ns": lambda position: _change(addresses.ctypes.data + 8 * position, steps),
    }
    rounds = QUICK_ROUNDS if quick else ROUNDS
    pages = "2 MiB" if huge else "4 KiB"
    row: dict[str, Any] = {"name": f"memory, {memory.size / 1e6:.0f} MB in pages of {pages}", "samples": rounds - 1}
    for name, way in ways.items():
        times = []
        for number in range(rounds):
            position = (
                number * steps % (len(addresses) - steps)
            )  # where the last round ended: nothing is met soon again
            start = time.thread_time_ns()
            way(position)
            times.append((time.thread_time_ns() - start) / steps)
        row[name] = round(statistics.median(times[1:]), 1)
    return row


def rows(size: int, *, quick: bool) -> list[dict[str, Any]]:
    """Result rows, ns a step: for `size` bytes, a half and a quarter of it, and both sizes of pages."""
    return [_row(size // part, huge=huge, quick=quick) for part in (1, 2, 4) for huge in (True, False)]
