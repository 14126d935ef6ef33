"""The memory models themselves, by programs whose possible outcomes are textbook knowledge."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.shm.interleavings.mutants import MODELS, unreduced
from tests.shm.interleavings.operations import Operation, Outcome
from tests.shm.interleavings.search import Scenario, Verdict, explore
from tests.shm.interleavings.source import Program

X, Y = 1024, 2048


@dataclass(frozen=True)
class Once:
    """Calls one function; its state is then the result."""

    function: str
    words: tuple[int, int]
    name: str = "side"
    start: Any = None
    restarts: bool = False

    def operation(self, state: Any) -> Operation | None:
        if state is not None:
            return None
        return Operation("tests.shm.interleavings.litmus", self.function, self.words)

    def finish(self, state: Any, outcome: Outcome) -> Any:
        return outcome.result

    def restart(self, state: Any) -> Any:
        raise AssertionError("it has no successor")


def _outcomes(model: str, first: Once, second: Once) -> tuple[set[tuple[int, int]], Verdict]:
    """What the two sides may return; the same with every step tried in every order, or the search leaves some out."""
    found: set[tuple[int, int]] = set()
    scenario = Scenario("litmus", (first, second), lambda program: {}, hex, kills=0, at_end=found.add)
    verdict = explore(scenario, MODELS[model], Program())
    reduced = found.copy()
    found.clear()
    assert (explore(scenario, unreduced(model), Program()).wrong is None) == (verdict.wrong is None)
    assert found == reduced
    return found, verdict


both = pytest.mark.parametrize("model", ["TSO", "weak"])


@both
@pytest.mark.parametrize(
    ("one", "other", "both_zero"),
    [
        ("store_then_load", "store_then_load", True),
        ("store_weak_fences_load", "store_weak_fences_load", True),
        ("store_fence_load", "store_then_load", True),
        ("store_fence_load", "store_fence_load", False),
    ],
)
def test_only_full_fences_on_both_sides_keep_loads_behind_earlier_stores(
    model: str, one: str, other: str, both_zero: bool
) -> None:
    found, verdict = _outcomes(model, Once(one, (X, Y)), Once(other, (Y, X)))
    assert found == {(0, 1), (1, 0), (1, 1)} | ({(0, 0)} if both_zero else set())
    assert verdict.wrong is None


@pytest.mark.parametrize(
    ("sender", "receiver", "late"),
    [
        ("send_relaxed", "receive_relaxed", True),
        ("send_release", "receive_relaxed", True),
        ("send_relaxed", "receive_acquire", True),
        ("send_fence", "receive_relaxed", True),
        ("send_fence_late", "receive_fence", True),
        ("store_release_then_relaxed", "receive_acquire", True),
        ("send_release", "receive_acquire", False),
        ("send_release", "receive_fence", False),
        ("send_fence", "receive_acquire", False),
        ("send_fence", "receive_fence", False),
    ],
)
def test_a_flag_may_overtake_its_message_unless_both_sides_order_them(sender: str, receiver: str, late: bool) -> None:
    run = partial(_outcomes, first=Once(sender, (X, Y)), second=Once(receiver, (X, Y)))
    assert run("TSO")[0] == {(0, 0), (0, 1), (0, 11)}, "x86 keeps stores in order, and loads"
    assert run("weak")[0] == {(0, 0), (0, 1), (0, 11)} | ({(0, 10)} if late else set())


@both
def test_one_word_never_goes_back(model: str) -> None:
    found, _ = _outcomes(model, Once("count_up", (X, Y)), Once("read_twice", (X, Y)))
    assert {result for _, result in found} == {0, 1, 2, 11, 12, 22}


def test_a_store_that_may_overtake_a_load_is_an_error_of_the_strict_model() -> None:
    found, verdict = _outcomes("weak, races", Once("load_then_store", (X, Y)), Once("load_then_store", (Y, X)))
    assert verdict.wrong is not None
    assert "overtake a relaxed load" in verdict.wrong
    assert not found
