"""What a run consists of, as data: processes, segments, start order and stop sequence. `--dry-run` prints it.

A plan names agents and segments but knows nothing of what they do; the composition root fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launch.knobs.schedule import LOCAL_MEMORY, Schedule, schedule_of
from launch.placement.affinity import CoreMap
from launch.settings import LaunchSettings
from launch.supervision.restarts import RestartPolicy
from shm.control import Command, State

if TYPE_CHECKING:
    from shm.segment import Layout

COMMAND_SEGMENT = "command"
"""One COMMAND record for each agent, in the plan's order; written by the supervisor only."""


KILL_DEADLINE_S = 10.0
"""How long a process may take to be gone after SIGKILL."""


def page_segment(agent: str) -> str:
    """Logical name of the segment whose first record is the agent's STATUS."""
    return f"page.{agent}"


@dataclass(frozen=True)
class SegmentAccess:
    """A segment that a process maps."""

    name: str
    writable: bool


@dataclass(frozen=True)
class ProcessPlan:
    """One forked process of pollers."""

    name: str
    agents: tuple[str, ...]
    cpu: int
    idle: str
    why: str
    """Why on this core."""
    schedule: Schedule
    """What it asks of the operating system, and what it does not, and why."""
    segments: tuple[SegmentAccess, ...]
    outlives_supervisor: bool
    """Not killed with the supervisor: it notices itself and brings its work to an end."""
    restart: RestartPolicy

    @property
    def fifo_priority(self) -> int:
        """SCHED_FIFO priority wanted; 0 for the normal policy."""
        return self.schedule.value("fifo") or 0


@dataclass(frozen=True)
class Tell:
    """Stop step: write `command` for all `agents`, then wait until each says `awaited` (or its process has left)."""

    agents: tuple[str, ...]
    command: Command
    awaited: State
    deadline_s: float


@dataclass(frozen=True)
class Drain:
    """Stop step: wait until every ring whose two processes live has been read to its end."""

    deadline_s: float


@dataclass(frozen=True)
class Terminate:
    """Stop step: SIGTERM to an exec'ed process, then wait for its end."""

    process: str
    deadline_s: float


StopStep = Tell | Drain | Terminate


@dataclass(frozen=True)
class Plan:
    """Everything the supervisor needs to know."""

    run: str
    agents: tuple[str, ...]
    """In the order of their command words."""
    processes: tuple[ProcessPlan, ...]
    """In start order."""
    segments: Mapping[str, Layout]
    """By logical name."""
    stop: tuple[StopStep, ...]
    housekeeping_cpu: int
    housekeeping_why: str
    start_deadline_s: float
    stop_deadline_s: float
    heartbeat_warning_s: float
    heartbeat_failure_s: float

    def shared_name(self, segment: str) -> str:
        """The name in /dev/shm of a logical segment of this run."""
        return f"tickpipe.{self.run}.{segment}"

    @property
    def stop_limit_s(self) -> float:
        """The longest an orderly stop takes: its steps, then SIGTERM and SIGKILL for what ignored them."""
        steps = sum(step.deadline_s for step in self.stop if not isinstance(step, Tell) or step.awaited != State.ABSENT)
        return steps + 2 * self.stop_deadline_s + KILL_DEADLINE_S

    @property
    def memory_node(self) -> int | None:
        """NUMA node that most processes take their memory from; None when none is to be chosen."""
        nodes = [node for one in self.processes if (node := one.schedule.value(LOCAL_MEMORY.name)) is not None]
        return max(nodes, key=nodes.count, default=None)

    def process_of(self, agent: str) -> ProcessPlan:
        """The process that hosts `agent`."""
        return next(process for process in self.processes if agent in process.agents)

    def document(self) -> dict[str, Any]:
        """The plan as JSON-ready data."""
        return {
            "run": self.run,
            "housekeeping_cpu": self.housekeeping_cpu,
            "housekeeping_why": self.housekeeping_why,
            "start_order": [process.name for process in self.processes],
            "processes": {
                process.name: {
                    "agents": list(process.agents),
                    "cpu": process.cpu,
                    "why": process.why,
                    "idle": process.idle,
                    "policy": "fifo" if process.fifo_priority else "other",
                    "priority": process.fifo_priority,
                    **process.schedule.document(),
                    "outlives_supervisor": process.outlives_supervisor,
                    "restart": process.restart.when,
                    "reads": sorted(use.name for use in process.segments if not use.writable),
                    "writes": sorted(use.name for use in process.segments if use.writable),
                }
                for process in self.processes
            },
            "segments": {
                name: {"bytes": layout.payload_bytes, "kind": layout.description["kind"]}
                for name, layout in self.segments.items()
            },
            "stop_sequence": [_describe(step) for step in self.stop],
        }


@dataclass(frozen=True)
class Line:
    """What the composition root says about the line, free of machine facts."""

    hosted: Mapping[str, tuple[str, ...]]
    """Process: its agents, in poll order. Processes in the order in which they are given a core of their own."""
    agents: tuple[str, ...]
    start_order: tuple[str, ...]
    """Processes: a reader before its writer."""
    segments: Mapping[str, Layout]
    access: Mapping[str, Mapping[str, bool]]
    """Process: {segment: writable}."""
    quiesce_order: tuple[tuple[str, bool], ...]
    """Agents told to quiesce, and whether to wait until each is QUIET."""
    source: str
    """The agent everything enters by: stopped first, so that the rest can drain."""
    stop_order: tuple[str, ...]
    """The other agents, a writer before its reader."""
    outlives: frozenset[str]
    """Agents whose process must not die with the supervisor."""
    services: tuple[str, ...] = ()
    """Exec'ed processes, terminated last."""


def build_plan(run: str, line: Line, cores: CoreMap, settings: LaunchSettings) -> Plan:
    """The plan of a run: a pure function."""
    processes = tuple(_process(name, line, cores, settings) for name in line.start_order)
    return Plan(
        run=run,
        agents=line.agents,
        processes=processes,
        segments=dict(line.segments),
        stop=_stop_sequence(line, settings),
        housekeeping_cpu=cores.housekeeping,
        housekeeping_why=cores.housekeeping_why,
        start_deadline_s=settings.start_deadline_s,
        stop_deadline_s=settings.stop_deadline_s,
        heartbeat_warning_s=settings.heartbeat_warning_s,
        heartbeat_failure_s=settings.heartbeat_failure_s,
    )


def _process(name: str, line: Line, cores: CoreMap, settings: LaunchSettings) -> ProcessPlan:
    core = cores.pollers[name]
    return ProcessPlan(
        name=name,
        agents=line.hosted[name],
        cpu=core.cpu,
        idle=core.idle,
        why=core.why,
        schedule=schedule_of(name, cores, settings),
        segments=tuple(SegmentAccess(segment, writable) for segment, writable in sorted(line.access[name].items())),
        outlives_supervisor=bool(line.outlives.intersection(line.hosted[name])),
        restart=settings.restart_policy(name),
    )


def _stop_sequence(line: Line, settings: LaunchSettings) -> tuple[StopStep, ...]:
    """Quiesce; stop the source; drain; stop the rest along the flow; end the services.

    A process leaves when all its agents are told to stop, so agents of one process are told in one step; where the
    source shares its process with the rest, the rings are drained before all of them stop.
    """
    steps: list[StopStep] = [
        Tell((agent,), Command.QUIESCE, State.QUIET if wait else State.ABSENT, settings.quiet_deadline_s)
        for agent, wait in line.quiesce_order
    ]
    process_of = {agent: name for name, agents in line.hosted.items() for agent in agents}
    if len(line.hosted[process_of[line.source]]) > 1:
        steps.append(Drain(settings.drain_deadline_s))
        stop_agents: tuple[str, ...] = (line.source, *line.stop_order)
    else:
        steps.append(Tell((line.source,), Command.STOP, State.STOPPED, settings.stop_deadline_s))
        steps.append(Drain(settings.drain_deadline_s))
        stop_agents = line.stop_order
    told: set[str] = set()
    for agent in stop_agents:
        name = process_of[agent]
        if name not in told:
            told.add(name)
            steps.append(Tell(line.hosted[name], Command.STOP, State.STOPPED, settings.stop_deadline_s))
    steps.extend(Terminate(name, settings.stop_deadline_s) for name in line.services)
    return tuple(steps)


def _describe(step: StopStep) -> str:
    match step:
        case Tell(agents, command, awaited, deadline_s):
            wait = f", until {awaited.name}, at most {deadline_s:g} s" if awaited != State.ABSENT else ""
            return f"{command.name} {' '.join(agents)}{wait}"
        case Drain(deadline_s):
            return f"drain the rings, at most {deadline_s:g} s"
        case Terminate(process, deadline_s):
            return f"SIGTERM {process}, at most {deadline_s:g} s"


def check(plan: Plan, names: Sequence[str] | None = None) -> None:
    """Assert what must hold of any plan: each agent hosted once, each segment known, FIFO never on a shared core."""
    hosted = [agent for process in plan.processes for agent in process.agents]
    assert sorted(hosted) == sorted(plan.agents), f"agents hosted={hosted}, planned={plan.agents}"
    for process in plan.processes:
        for use in process.segments:
            assert use.name in plan.segments, f"process={process.name} maps unknown segment={use.name}"
        neighbours = [other.name for other in plan.processes if other.cpu == process.cpu]
        assert not process.fifo_priority or neighbours == [process.name], f"FIFO on shared cpu={process.cpu}"
        assert not process.fifo_priority or process.cpu != plan.housekeeping_cpu
