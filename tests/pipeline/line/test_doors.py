"""Doors in the plan: only where the line sleeps, written by their sleeper, read by who shares a ring with it."""

from typing import Any

import pytest

from launch.host.topology import read_topology
from launch.plan import Plan, ProcessPlan
from pipeline.config.tree import Config
from pipeline.line.agents import AGENT_CLASSES
from pipeline.line.placement import placed
from pipeline.reports.dry_run import plan_of
from shm.doorbell import DOOR_LAYOUT
from stages.domain.edges import RING_ENDS, RINGS


def plan(**launch: Any) -> Plan:
    config = Config(launch=launch)
    return plan_of(config, placed(config, read_topology()))


def doors(run: Plan, process: str) -> dict[str, bool]:
    found = next(each for each in run.processes if each.name == process)
    return {use.name: use.writable for use in found.segments if use.name.startswith("door.")}


def test_each_stage_writes_its_own_door_and_reads_those_of_its_neighbours() -> None:
    run = plan(idle="doorbell")
    assert doors(run, "feed") == {"door.feed": True, "door.book": False}
    assert doors(run, "book") == {"door.book": True, "door.feed": False, "door.strategy": False}
    assert doors(run, "strategy") == {"door.strategy": True, "door.book": False, "door.risk": False}
    assert doors(run, "risk") == {"door.risk": True, "door.strategy": False, "door.router": False}
    assert doors(run, "router") == {"door.router": True, "door.risk": False}
    assert {process.idle for process in run.processes} == {"doorbell"}
    assert {name for name, layout in run.segments.items() if layout == DOOR_LAYOUT} == {
        f"door.{stage}" for stage in AGENT_CLASSES
    }


def test_a_packed_line_sleeps_behind_one_door_that_nobody_rings() -> None:
    assert doors(plan(idle="doorbell", placement="packed"), "line") == {"door.line": True}


@pytest.mark.parametrize("idle", ["auto", "spin", "yield", "backoff"])
def test_a_line_that_does_not_sleep_has_no_doors(idle: str) -> None:
    run = plan(idle=idle)
    assert not [name for name, layout in run.segments.items() if layout == DOOR_LAYOUT]
    assert not any(doors(run, process.name) for process in run.processes)


def test_the_ends_of_the_rings_are_who_uses_them() -> None:
    assert set(RING_ENDS) == set(RINGS)
    for name, ends in RING_ENDS.items():
        assert {stage for process in plan().processes for stage in process.agents if _maps(process, name)} == set(ends)


def _maps(process: ProcessPlan, name: str) -> bool:
    return any(use.name == name and use.writable for use in process.segments)


def test_whoever_reads_a_socket_sleeps_50_us_at_most() -> None:
    assert {name: agent.sleep_ns_max for name, agent in AGENT_CLASSES.items()} == {
        "feed": 50_000, "book": 10_000_000, "strategy": 10_000_000, "risk": 10_000_000, "router": 50_000,
    }  # fmt: skip
