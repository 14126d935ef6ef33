"""Every interleaving of the primitives' real source, with a kill at every step; and mutants, which must be caught.

Tables and traces: `python -m tests.shm.interleavings`.
"""

import pytest

from shm.atomics import JIT
from tests.shm.interleavings.mutants import (
    LONG_SCENARIOS,
    MISTAKES,
    MODELS,
    NOT_NEEDED,
    SCENARIOS,
    Mutant,
    hunt,
    weakenings,
)
from tests.shm.interleavings.neighbour_scenarios import WRITER, neighbour_scenario
from tests.shm.interleavings.search import Scenario, explore
from tests.shm.interleavings.source import Program

pytestmark = pytest.mark.skipif(not JIT, reason="reads the source itself, the same with the compiler on or off")

models = pytest.mark.parametrize("model", ["TSO", "weak, races"])


def _name(item: Scenario | Mutant) -> str:
    return item.name if isinstance(item, Scenario) else item.what


@models
@pytest.mark.parametrize("scenario", [each for some in SCENARIOS.values() for each in some], ids=_name)
def test_nothing_wrong_can_happen(scenario: Scenario, model: str) -> None:
    verdict = explore(scenario, MODELS[model], Program())
    assert verdict.wrong is None, "\n".join(verdict.trace)
    print(f"{verdict.states} states")


@pytest.mark.long
@pytest.mark.timeout(600)
@models
@pytest.mark.parametrize("scenario", LONG_SCENARIOS, ids=_name)
def test_nothing_wrong_can_happen_in_longer_runs(scenario: Scenario, model: str) -> None:
    verdict = explore(scenario, MODELS[model], Program())
    assert verdict.wrong is None, "\n".join(verdict.trace)
    print(f"{verdict.states} states")


@pytest.mark.parametrize("mutant", [*weakenings(), *MISTAKES], ids=_name)
def test_mutants_are_caught(mutant: Mutant) -> None:
    death = hunt(mutant, "weak, races")
    if mutant.what in NOT_NEEDED:
        assert death is None, f"it is needed after all: {death}"
    else:
        assert death is not None, "it survived every scenario: a scenario is missing, or this order is not needed"
        print(f"{death.wrong} [{len(death.trace)} steps, {death.scenario}]")


def test_a_writer_that_waits_for_more_than_half_of_a_ring_may_wait_for_ever() -> None:
    """What `shm.neighbour` forbids: the limit is one."""
    verdict = explore(neighbour_scenario(3, 6, sleepers=(WRITER,), wanted=3), MODELS["TSO"], Program())
    assert verdict.wrong is not None
    assert "nobody gets on any more: writer at" in verdict.wrong


@pytest.mark.long
@pytest.mark.timeout(600)
def test_taking_an_order_away_harms_x86_only_where_a_load_follows_a_store() -> None:
    """Its compiler aside: the hardware's own order is what hides such mistakes on the machine they are made on."""
    harmed = {mutant.what.partition(":")[0] for mutant in weakenings() if hunt(mutant, "TSO") is not None}
    assert harmed == {"ring", "announce_sleep", "ring_if_moved"}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", [each for each in weakenings() if each.what in NOT_NEEDED], ids=_name)
def test_what_survives_survives_the_search_in_every_order_too(mutant: Mutant) -> None:
    assert hunt(mutant, "weak, races", reduced=False) is None
