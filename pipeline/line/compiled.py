"""Compiling a line: its loops, and what ordinary Python calls of its agents, or loading all that from the cache."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.line import loops as shared_loops
from pipeline.line.compiler import CompileCount, Task, compile_ahead
from pipeline.line.generated import Placement, import_line
from pipeline.line.placement import PACKED_PROCESS, STAGES
from shm import errorlog
from shm.clock import calibrate
from shm.kernel import hash_files, prune_caches
from stages.agent import Agent, ColdKernel
from stages.book.kernel import poll_once as poll_book_once
from stages.duty import new_duty
from stages.feed.kernel import poll_once as poll_feed_once
from stages.rehearsal import no_rehearsal
from stages.strategy.loader import Strategy

POLLS_ONCE: dict[str, Any] = {"feed": poll_feed_once, "book": poll_book_once}
"""What the twins of a packed line are set up with."""

COMPILE_ORDER = ("router", "feed", "book", "strategy", "risk")
"""The costliest first: 18, 12, 12, 6 and 3 s of one core here."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Line:
    """The agents of a run and the compiled loop of each of its processes."""

    placement: Placement
    agents: dict[str, Agent]
    loops: dict[str, Any]
    """Process name (a stage, or PACKED_PROCESS) to its compiled loop."""
    twins: dict[str, Agent]
    """Of a packed line: a second set of agents, for rehearsals."""
    clock: NDArray[np.int64]
    compiled: int
    """Kernels that had to be compiled; 0 when all were in the cache."""

    def hosted(self, process: str) -> list[Agent]:
        """The agents that run in `process`, in pipeline order."""
        return list(self.agents.values()) if process == PACKED_PROCESS else [self.agents[process]]


def prepare(
    agents: dict[str, Agent], twins: dict[str, Agent], strategy: Strategy, placement: Placement, progress: Progress
) -> Line:
    """Generate and import the line module and compile its loops, or load them from the cache.

    `twins` are agents as `agents` are, for the rehearsals of a packed line; empty for a dedicated one.

    Reports `progress(name, done, total)` for each part that had to be compiled. The shared clock is calibrated here as
    well, so that all processes of the run stamp on one scale.
    """
    prune_caches()
    module = import_line(placement, strategy)
    hosted: dict[str, list[Agent]] = (
        {stage: [agents[stage]] for stage in STAGES}
        if placement == "dedicated"
        else {PACKED_PROCESS: [*agents.values()]}
    )
    loops = {name: _loop_of(name, module) for name in hosted}
    loop_kernels = {name: (loops[name], _loop_types(hosted[name], twins)) for name in hosted}
    called = {stage: _called_by(stage, agents[stage], placement) for stage in STAGES}
    if placement == "dedicated":
        ahead = {stage: Task(stage, [loop_kernels[stage], *called[stage]]) for stage in STAGES}
    else:  # the loop takes in the polls
        polls = {stage: (getattr(module, f"poll_{stage}"), _poll_types(agents[stage])) for stage in STAGES}
        ahead = {stage: Task(stage, [polls[stage], *called[stage]]) for stage in STAGES}
    complete = _completeness_mark(module, [types for _, types in loop_kernels.values()])
    compiled = 0
    if not complete.exists():
        finished: list[str] = []
        progress("", 0, len(ahead))

        def count(name: str) -> None:
            finished.append(name)
            progress(name, len(finished), len(ahead))

        compiled = compile_ahead([ahead[stage] for stage in COMPILE_ORDER], count)
    with CompileCount() as here:
        for stage in STAGES:
            Task(stage, called[stage]).compile()
        for name, (loop, types) in loop_kernels.items():
            loop.compile(types)
            loop.disable_compile()  # another signature is a context of a wrong type: fail, do not stall
            _learn_types(loop, hosted[name], twins)
        errorlog.compile_ahead()
        clock = calibrate()
    complete.touch()
    return Line(placement, agents, loops, twins, clock, compiled + here.count)


def _completeness_mark(module: ModuleType, types: Sequence[tuple[numba.types.Type, ...]]) -> Path:
    """The file beside a line module that says that its loops are compiled for contexts of these types."""
    assert module.__file__ is not None
    return Path(module.__file__).with_suffix(f".{hash_files((), str(types))}.complete")


def _loop_of(process: str, generated: ModuleType) -> Any:
    """The compiled loop of a process: only one with the strategy in it is generated."""
    name = f"run_{process}"
    return getattr(shared_loops if hasattr(shared_loops, name) else generated, name)


def _called_by(stage: str, agent: Agent, placement: Placement) -> list[ColdKernel]:
    """What ordinary Python calls of `stage`: its cold kernels, and in a packed line what sets up its twin."""
    has_twin = placement == "packed" and stage in POLLS_ONCE
    set_up = [(POLLS_ONCE[stage], _poll_types(agent))] if has_twin else []
    return [*set_up, *agent.cold_kernels()]


def _poll_types(agent: Agent) -> tuple[numba.types.Type, ...]:
    return numba.typeof(agent.context), numba.types.int64


def _learn_types(loop: Any, agents: Sequence[Agent], twins: Mapping[str, Agent]) -> None:
    """Have Numba take the arguments of `loop` apart here, once, in a table of types that forked processes inherit.

    Each would do it before its first poll, in 2 to 3 ms. The last argument fits nothing, so that nothing runs.
    """
    arguments = [agent.context for agent in (*agents, *twins.values())]
    if twins:
        arguments.append(no_rehearsal())
    with contextlib.suppress(TypeError):
        loop(*arguments, new_duty(len(agents), "spin"), 0, None)


def _loop_types(agents: Sequence[Agent], twins: Mapping[str, Agent]) -> tuple[numba.types.Type, ...]:
    contexts = [numba.typeof(agent.context) for agent in (*agents, *twins.values())]
    if twins:
        contexts.append(numba.typeof(no_rehearsal()))
    return (*contexts, numba.typeof(new_duty(len(agents), "spin")), numba.types.int64, numba.types.int64)
