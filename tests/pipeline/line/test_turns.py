"""Stamps in the plan: only among processes that yield one core to each other, written by each, read by the others."""

from types import SimpleNamespace
from typing import Any

import pytest

from launch.host.topology import Topology
from launch.plan import Plan
from pipeline.config.tree import Config
from pipeline.line.placement import STAGES, placed
from pipeline.line.turns import turn_words
from pipeline.reports.dry_run import plan_of
from shm.turns import ALONE, OTHERS, PREDECESSOR, TURN_LAYOUT


def stamps(cores: int, **launch: Any) -> dict[str, dict[str, bool]]:
    """Process: the stamps that it maps, and whether it may write to them; of a line on a machine of so many cores."""
    config = Config(launch=launch)
    plan = plan_of(config, placed(config, Topology(tuple(range(cores)))))
    found = {
        process.name: {use.name: use.writable for use in process.segments if use.name.startswith("turn.")}
        for process in plan.processes
    }
    assert _with_a_stamp(plan) == {name for names in found.values() for name in names}
    return found


def _with_a_stamp(plan: Plan) -> set[str]:
    return {name for name, layout in plan.segments.items() if layout == TURN_LAYOUT}


@pytest.mark.parametrize("cores", [1, 2])
def test_five_on_one_core_know_of_each_other(cores: int) -> None:
    assert stamps(cores) == {stage: {f"turn.{other}": other == stage for other in STAGES} for stage in STAGES}


def test_only_those_who_share_a_core_do() -> None:
    found = stamps(4)
    alone = {stage for stage in STAGES if not found[stage]}
    shared = {f"turn.{stage}" for stage in STAGES if stage not in alone}
    assert alone == {"feed", "router"}
    assert all(found[stage].keys() == shared for stage in STAGES if stage not in alone)


@pytest.mark.parametrize(
    ("cores", "launch"),
    [
        (6, {}),
        (6, {"idle": "yield"}),
        (2, {"idle": "doorbell"}),
        (2, {"idle": "backoff"}),
        (2, {"placement": "packed"}),
    ],
)
def test_nobody_else_has_stamps(cores: int, launch: dict[str, Any]) -> None:
    assert not any(stamps(cores, **launch).values())


def test_each_follows_whoever_is_before_it_in_the_line_and_on_the_core() -> None:
    segments: Any = {f"turn.{stage}": SimpleNamespace(address=1_000 * place) for place, stage in enumerate(STAGES)}
    del segments["turn.strategy"]
    words = {stage: turn_words(stage, STAGES, segments) for stage in STAGES}
    assert words["strategy"] is ALONE
    before = {
        stage: own[(OTHERS >> 3) + own[PREDECESSOR >> 3]] if own[PREDECESSOR >> 3] >= 0 else None
        for stage, own in words.items() if len(own)
    }  # fmt: skip
    assert before == {"feed": None, "book": 0, "risk": 1_000, "router": 3_000}
