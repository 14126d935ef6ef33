"""Processes that yield a core to each other come to run in the order of the line, whatever order they begin in."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm import turns
from tests.entered import entered

stamp, sleep_ns = entered(turns.stamp), entered(turns.sleep_ns)


class Circle:
    """A core that its processes yield, as the kernel has it: in a circle, to whose end a sleeper is put somewhere."""

    def __init__(self, order: list[int], place: Callable[[int], int]) -> None:
        """`order`: who runs first, second, ...; `place(n)` is where in a queue of n a sleeper is put in."""
        self.queue, self.place, self.now_ns, self.sleeps = list(order), place, 0, 0
        self.stamps = np.zeros((len(order), turns.TURN.itemsize // 8), np.int64)
        addresses = [self.stamps[name].ctypes.data for name in range(len(order))]
        self.words = [
            turns.words_of(own, addresses[:name] + addresses[name + 1 :], name - 1)
            for name, own in enumerate(addresses)
        ]

    def run(self, cycles: int, dead: int = -1) -> None:
        """So many cycles of whoever has its turn; `dead` takes none."""
        for _ in range(cycles):
            name = self.queue.pop(0)
            self.now_ns += 3_000
            if name == dead:
                self.queue.append(name)
                continue
            words = self.words[name]
            stamp(words.ctypes.data, self.now_ns)
            asked_ns = sleep_ns(words.ctypes.data, len(self.queue))
            assert 0 <= asked_ns <= turns.SLEEP_NS_MAX
            self.sleeps += asked_ns > 0
            self.queue.insert(self.place(len(self.queue)) if asked_ns else len(self.queue), name)

    def is_in_order(self) -> bool:
        begin = self.queue.index(0)
        return self.queue[begin:] + self.queue[:begin] == sorted(self.queue)


@settings(max_examples=20)
@given(st.permutations(range(5)), st.integers(0, 2**32))
def test_any_order_becomes_that_of_the_line_and_stays(order: list[int], seed: int) -> None:
    draw = random.Random(seed)
    circle = Circle(order, lambda waiting: draw.randint(0, waiting))
    for _ in range(2_000):
        circle.run(5 * turns.PATIENCE)
        before, was_in_order = circle.sleeps, circle.is_in_order()
        circle.run(5)  # each once: whoever has still seen the order before may sleep now, for the last time
        if was_in_order and circle.sleeps == before:
            break
    assert circle.is_in_order()
    before = circle.sleeps
    circle.run(2_000)
    assert (circle.is_in_order(), circle.sleeps) == (True, before)


def test_where_sleeping_does_not_help_it_becomes_rare() -> None:
    circle = Circle([0, 2, 1], lambda waiting: waiting)  # put in again where it would be
    circle.run(3 * 40 * turns.PATIENCE)
    often = circle.sleeps
    circle.run(3 * 40 * turns.PATIENCE)
    assert 0 < circle.sleeps - often <= often / 2


def test_a_predecessor_that_is_gone_costs_a_sleep_now_and_then() -> None:
    circle = Circle([0, 1, 2], lambda waiting: waiting)
    circle.run(3_000)
    assert circle.sleeps == 0
    cycles = 100 * turns.PATIENCE
    circle.run(3 * cycles, dead=1)
    assert 0 < circle.sleeps < cycles / turns.PATIENCE / 5


@pytest.mark.parametrize("count", [2, 3])
def test_two_are_always_in_order_and_the_first_never_sleeps(count: int) -> None:
    circle = Circle([0, *range(count - 1, 0, -1)], lambda waiting: waiting)
    circle.run(count * 3 * turns.PATIENCE)
    assert (circle.sleeps > 0) == (count > 2)
    assert circle.words[0][turns.MISSES >> 3] == 0
