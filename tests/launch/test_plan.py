"""The plan: a pure function from the shape of the line and the cores to processes, segments and a stop sequence."""

import dataclasses

import pytest

from launch.host.topology import Topology
from launch.placement.affinity import place
from launch.plan import Drain, Line, Plan, Tell, Terminate, build_plan, check
from launch.settings import LaunchSettings
from launch.supervision.states import ALLOWED, ProcessState, moved
from shm.control import Command, State
from tests.launch.toys import layouts, toy_plan

AGENTS = ("a", "b", "c")


def packed(settings: LaunchSettings) -> Plan:
    line = Line(
        hosted={"line": AGENTS}, agents=AGENTS, start_order=("line",), segments=layouts(AGENTS),
        access={"line": {"command": False}}, quiesce_order=(("b", False), ("c", True)), source="a",
        stop_order=("b", "c"), outlives=frozenset({"c"}), services=("venue",),
    )  # fmt: skip
    return build_plan("packed", line, place(("line",), Topology((0, 1))), settings)


def test_agents_of_one_process_are_stopped_in_one_step_after_the_rings_are_drained() -> None:
    plan = packed(LaunchSettings())
    assert plan.stop == (
        Tell(("b",), Command.QUIESCE, State.ABSENT, 10.0),
        Tell(("c",), Command.QUIESCE, State.QUIET, 10.0),
        Drain(5.0),
        Tell(AGENTS, Command.STOP, State.STOPPED, 5.0),
        Terminate("venue", 5.0),
    )
    assert plan.processes[0].outlives_supervisor


def test_the_source_of_a_dedicated_line_stops_before_the_rings_are_drained() -> None:
    plan = toy_plan("dedicated", AGENTS, LaunchSettings(fifo="never"))
    kinds = [type(step).__name__ if not isinstance(step, Tell) else step.command.name for step in plan.stop]
    assert kinds == ["QUIESCE", "STOP", "Drain", "STOP", "STOP"]


def test_fifo_is_for_a_process_alone_on_its_core() -> None:
    assert packed(LaunchSettings()).processes[0].fifo_priority == 50
    assert packed(LaunchSettings(fifo="never")).processes[0].fifo_priority == 0
    check(packed(LaunchSettings()))


def test_segments_are_made_on_the_node_of_most_processes() -> None:
    two = Topology(tuple(range(4)), nodes={core: int(core > 1) for core in range(4)}, memory_nodes=2)
    line = Line(
        hosted={agent: (agent,) for agent in AGENTS}, agents=AGENTS, start_order=AGENTS, segments=layouts(AGENTS),
        access={agent: {"command": False} for agent in AGENTS}, quiesce_order=(), source="a",
        stop_order=("b", "c"), outlives=frozenset(),
    )  # fmt: skip
    cores = place(AGENTS, two, housekeeping=0)
    assert build_plan("two", line, cores, LaunchSettings()).memory_node == 1
    assert build_plan("two", line, cores, LaunchSettings(local_memory="never")).memory_node is None
    assert packed(LaunchSettings()).memory_node is None


def test_fifo_on_a_shared_core_is_a_bug_that_is_caught() -> None:
    plan = packed(LaunchSettings())
    process = dataclasses.replace(plan.processes[0], cpu=plan.housekeeping_cpu)
    with pytest.raises(AssertionError):
        check(dataclasses.replace(plan, processes=(process,)))


def test_a_plan_is_printable_data() -> None:
    document = packed(LaunchSettings()).document()
    assert document["stop_sequence"][-1] == "SIGTERM venue, at most 5 s"
    assert document["processes"]["line"]["policy"] == "fifo"


def test_a_process_runs_only_by_way_of_starting_and_starts_only_where_none_runs() -> None:
    assert {state for state, following in ALLOWED.items() if ProcessState.READY in following} == {ProcessState.STARTING}
    assert {state for state, following in ALLOWED.items() if ProcessState.STARTING in following} == {
        ProcessState.PLANNED, ProcessState.WAITING, ProcessState.ENDED,
    }  # fmt: skip
    with pytest.raises(AssertionError):
        moved("toy", ProcessState.ENDED, ProcessState.READY)
