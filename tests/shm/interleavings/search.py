"""The search: every schedule of the sides' steps, every value a load may return, a kill before every step.

Breadth first over memoised states, so the trace of what went wrong is a shortest one. A state is where each side is,
the memory, and how many kills are left. Steps that commute with all other sides' (see the models) are taken at once,
alone but for the kill that may come before them: every other order leads to the same states.

Besides what must never happen (the sides say so, and the models), every state must still be able to lead to the end:
that finds lost wake-ups and sides that poll for ever.
"""

import gc
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from tests.shm.interleavings.operations import Node, Operation, Outcome, Trees, WrongError
from tests.shm.interleavings.places import LearntError, Places
from tests.shm.interleavings.source import Event, Program


class Side(Protocol):
    """What one process does: operations, one after the other. States are hashable and hold all it knows."""

    name: str
    start: Hashable
    restarts: bool
    """Whether a killed one gets a successor."""

    def operation(self, state: Any) -> Operation | None:
        """What it does next; None: it is done."""

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        """Its state after the operation. Raises WrongError for what must never happen."""

    def restart(self, state: Any) -> Hashable:
        """The state its successor starts in. What the dead one knew may be kept as what really happened."""


@dataclass(frozen=True)
class Scenario:
    """Sides, the memory they start on, and how to call its words."""

    name: str
    sides: tuple[Side, ...]
    memory: Callable[[Program], dict[int, int]]
    address_name: Callable[[int], str]
    kills: int = 1
    """How many kills an execution may have, of any of `victims`."""
    elided: Callable[[int], bool] = lambda address: False
    victims: tuple[int, ...] = (0, 1)
    at_end: Callable[[tuple[Any, ...]], None] = lambda states: None
    """Looks at the sides' last states. Raises WrongError for what must never happen."""


class Model(Protocol):
    """A memory model: see `tso` and `weak`."""

    def start(self) -> Any: ...
    def is_local(self, side: int, event: Event) -> bool: ...
    def step(self, memory: Any, side: int, event: Event) -> list[tuple[int, Any]]: ...
    def hidden_steps(self, memory: Any) -> list[tuple[str, Any]]: ...
    def restarted(self, memory: Any, side: int) -> Any | None: ...


@dataclass(frozen=True)
class Verdict:
    """What a search found: `wrong` is None when nothing that must never happen can happen."""

    states: int
    wrong: str | None
    trace: tuple[str, ...] = ()


class _Process(NamedTuple):
    state: Hashable
    node: int
    """Number of the tree's node it is at; DONE or DEAD."""


_Step = str | tuple[int, Event, int | None]
"""What led from one state to the next, in words or as (side, access, value returned)."""

DONE, DEAD = -1, -2
STATES_MAX = 1_000_000
"""About 1 GB."""


def explore(
    scenario: Scenario, model: Callable[[Places, int], Model], program: Program, *, states_max: int = STATES_MAX
) -> Verdict:
    """Walk all executions of `scenario`; the first wrong one, or the number of states."""
    places = Places(scenario.memory(program), scenario.address_name)
    trees = Trees(program, scenario.elided)
    was_collecting = gc.isenabled()
    gc.disable()  # the search only adds tuples; looking for cycles among them took a third of the time
    try:
        return _explored(scenario, model, trees, places, states_max)
    finally:
        if was_collecting:
            gc.enable()


def _explored(
    scenario: Scenario, model: Callable[[Places, int], Model], trees: Trees, places: Places, states_max: int
) -> Verdict:
    while True:
        try:
            return _Search(scenario, model(places, len(scenario.sides)), trees, places, states_max).run()
        except LearntError:
            continue


class _Search:
    def __init__(self, scenario: Scenario, model: Model, trees: Trees, places: Places, states_max: int) -> None:
        self._scenario, self._model, self._trees, self._places = scenario, model, trees, places
        self._states_max = states_max
        self._nodes: dict[int, Node] = {}
        self._numbers: dict[Any, int] = {}
        self._states: list[Any] = []
        self._came_from: list[tuple[int, _Step]] = []
        self._before: list[list[int]] = []
        self._queue: deque[int] = deque()

    def run(self) -> Verdict:
        try:
            processes = tuple(self._next(side, side.start) for side in self._scenario.sides)
        except WrongError as error:
            return Verdict(0, str(error))
        self._reach((processes, self._model.start(), self._scenario.kills), 0, "")
        while self._queue:
            number = self._queue.popleft()
            step: _Step = ""
            try:
                for step, make in self._successors(self._states[number]):
                    self._reach(self._checked(make()), number, step)
            except WrongError as error:
                return Verdict(len(self._states), str(error), (*self._trace(number), self._words(step)))
            if len(self._states) > self._states_max:
                raise AssertionError(f"{self._scenario.name}: more than {self._states_max} states")
        return self._check_progress()

    def _successors(self, state: Any) -> list[tuple[_Step, Callable[[], Any]]]:
        """(step, how to make the state after it) of every step; making may raise WrongError."""
        processes, memory, kills = state
        running = [side for side, process in enumerate(processes) if process.node >= 0]
        local = next((s for s in running if self._model.is_local(s, self._event(processes[s]))), None)
        found: list[tuple[_Step, Callable[[], Any]]] = []
        for side in running if local is None else [local]:
            event = self._event(processes[side])
            try:
                outcomes = self._model.step(memory, side, event)
            except WrongError as error:
                found.append(((side, event, None), _raise(error)))
                continue
            for value, after in outcomes:

                def make(side: int = side, value: int = value, after: Any = after) -> Any:
                    node = self._trees.after(self._nodes[processes[side].node], value)
                    process = self._settled(self._scenario.sides[side], processes[side].state, node)
                    return _with(processes, side, process), after, kills

                found.append(((side, event, value), make))
            if kills and side in self._scenario.victims:
                dead = (_with(processes, side, _Process(processes[side].state, DEAD)), memory, kills - 1)
                found.append((f"{self._scenario.sides[side].name} is killed", lambda dead=dead: dead))  # type: ignore[misc]
        if local is None:
            for label, after in self._model.hidden_steps(memory):
                found.append((label, lambda after=after: (processes, after, kills)))  # type: ignore[misc]
            for number, side in enumerate(self._scenario.sides):
                if processes[number].node == DEAD and side.restarts:
                    after = self._model.restarted(memory, number)
                    if after is not None:

                        def again(number: int = number, side: Side = side, after: Any = after) -> Any:
                            process = self._next(side, side.restart(processes[number].state))
                            return _with(processes, number, process), after, kills

                        found.append((f"{side.name} is started again", again))
        return found

    def _event(self, process: _Process) -> Event:
        event = self._nodes[process.node].event
        assert event is not None
        return event

    def _next(self, side: Side, state: Hashable) -> _Process:
        operation = side.operation(state)
        if operation is None:
            return _Process(state, DONE)
        return self._settled(side, state, self._trees.root(operation))

    def _settled(self, side: Side, state: Hashable, node: Node) -> _Process:
        if node.outcome is not None:
            return self._next(side, side.finish(state, node.outcome))
        self._nodes[node.number] = node
        return _Process(state, node.number)

    def _checked(self, state: Any) -> Any:
        if all(process.node == DONE for process in state[0]):
            self._scenario.at_end(tuple(process.state for process in state[0]))
        return state

    def _reach(self, state: Any, source: int, step: _Step) -> None:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._states)
            self._states.append(state)
            self._came_from.append((source, step))
            self._before.append([])
            self._queue.append(number)
        self._before[number].append(source)

    def _check_progress(self) -> Verdict:
        """Every state must be able to lead to one in which every side is done, or dead without a successor."""
        good = [number for number, state in enumerate(self._states) if self._is_end(state[0])]
        reached = set(good)
        while good:
            for source in self._before[good.pop()]:
                if source not in reached:
                    reached.add(source)
                    good.append(source)
        lost = [number for number in range(len(self._states)) if number not in reached]
        if not lost:
            return Verdict(len(self._states), None)
        # Rather one in which nobody can move at all than one that is only doomed: it says who waits for what.
        left = {source for number in lost for source in self._before[number]}
        number = next((number for number in lost if number not in left), lost[0])
        waits = ", ".join(
            f"{side.name} at {self._access(self._event(process))}"
            for side, process in zip(self._scenario.sides, self._states[number][0], strict=True)
            if process.node >= 0
        )
        return Verdict(len(self._states), f"nobody gets on any more: {waits}", self._trace(number))

    def _is_end(self, processes: Sequence[_Process]) -> bool:
        return all(
            process.node == DONE or (process.node == DEAD and not side.restarts)
            for side, process in zip(self._scenario.sides, processes, strict=True)
        )

    def _trace(self, number: int) -> tuple[str, ...]:
        steps = []
        while number:
            number, step = self._came_from[number]
            steps.append(self._words(step))
        return tuple(reversed(steps))

    def _words(self, step: _Step) -> str:
        if isinstance(step, str):
            return step
        side, event, value = step
        result = "" if value is None or event[0].startswith(("store", "fence")) else f" -> {value}"
        return f"{self._scenario.sides[side].name}: {self._access(event)}{result}"

    def _access(self, event: Event) -> str:
        name, *args = event
        if not args:
            return str(name)
        stored = f" = {args[1]}" if name.startswith("store") else ""
        return f"{name} {self._scenario.address_name(args[0])}{stored}"


def _raise(error: WrongError) -> Callable[[], Any]:
    def make() -> Any:
        raise error

    return make


def _with(processes: tuple[_Process, ...], at: int, process: _Process) -> tuple[_Process, ...]:
    return (*processes[:at], process, *processes[at + 1 :])
