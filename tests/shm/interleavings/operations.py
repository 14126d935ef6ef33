"""Operations as trees: what one call does, for every sequence of values that its loads may return.

A coroutine cannot be copied, but a primitive is a function of its arguments and of what it reads. So each call is a
tree: a node is the next access to shared memory, its children are keyed by the value that came back, a leaf is the
call's result. A tree grows while the search walks it, and a process is at a node: that is all of its local state.

Private memory (records to push, buffers to pop into, an observer's cursor) is not shared: it is kept here, and its
accesses are no steps of the search.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.shm.interleavings.source import Coroutine, Event, Program

PRIVATE = 1 << 40
"""Addresses from here on are the calling process's own."""

STEPS_MAX = 400
"""More accesses in one call count as a hang: every primitive is bounded, whatever it reads."""


class WrongError(Exception):
    """Something happened that must never happen."""


@dataclass(frozen=True)
class Operation:
    """A call: `module.name(*args)`, with the private words that it finds."""

    module: str
    name: str
    args: tuple[int, ...]
    private: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a call returned, and the private words after it."""

    result: Any
    private: dict[int, int]


@dataclass(slots=True)
class Node:
    """Before a shared access (`event`), or at the end of the call (`outcome`)."""

    number: int
    operation: Operation
    history: tuple[int, ...]
    event: Event | None
    outcome: Outcome | None
    live: tuple[Coroutine, dict[int, int]] | None
    """The coroutine itself, until a first child takes it further; further children replay the history."""
    children: dict[int, "Node"] = field(default_factory=dict)


class Trees:
    """All operations of one search."""

    def __init__(self, program: Program, is_elided: Callable[[int], bool]) -> None:
        """`is_elided(address)`: shared words that are left out: they read as 0 and keep nothing."""
        self._program, self._is_elided = program, is_elided
        self._roots: dict[Operation, Node] = {}
        self._count = 0

    def root(self, operation: Operation) -> Node:
        """The node at the start of `operation`."""
        if operation not in self._roots:
            self._roots[operation] = self._settle(operation, (), *self._started(operation), None)
        return self._roots[operation]

    def after(self, node: Node, value: int) -> Node:
        """The node that follows when the access at `node` returned `value`."""
        if value not in node.children:
            coroutine, private = node.live or self._replayed(node)
            node.live = None
            history = (*node.history, value)
            node.children[value] = self._settle(node.operation, history, coroutine, private, value)
        return node.children[value]

    def _started(self, operation: Operation) -> tuple[Coroutine, dict[int, int]]:
        return self._program(operation.module, operation.name)(*operation.args), dict(operation.private)

    def _replayed(self, node: Node) -> tuple[Coroutine, dict[int, int]]:
        coroutine, private = self._started(node.operation)
        event: Event | Outcome = self._next_shared(coroutine, private, None)
        for value in node.history:
            event = self._next_shared(coroutine, private, value)
        assert event == node.event
        return coroutine, private

    def _settle(
        self, operation: Operation, history: tuple[int, ...], coroutine: Coroutine, private: dict[int, int],
        value: int | None,
    ) -> Node:  # fmt: skip
        if len(history) > STEPS_MAX:
            raise WrongError(f"{operation.name} has not ended after {STEPS_MAX} accesses: a hang")
        self._count += 1
        found = self._next_shared(coroutine, private, value)
        if isinstance(found, Outcome):
            return Node(self._count, operation, history, None, found, None)
        return Node(self._count, operation, history, found, None, (coroutine, private))

    def _next_shared(self, coroutine: Coroutine, private: dict[int, int], value: int | None) -> Event | Outcome:
        """Run on until the next access to shared memory, or to the end."""
        while True:
            try:
                event = coroutine.send(value)  # type: ignore[arg-type]  # None starts a coroutine
            except StopIteration as stop:
                return Outcome(stop.value, private)
            name, *args = event
            if name in ("pause", "prefetch", "clock_gettime"):
                value = 0
            elif name == "leading_zeros":
                value = 64 - args[0].bit_length()
            elif args and (args[0] >= PRIVATE or self._is_elided(args[0])):
                if name.startswith("load"):
                    value = private.get(args[0], 0)
                else:
                    assert name.startswith("store"), f"{name} on private memory"
                    if args[0] >= PRIVATE:
                        private[args[0]] = args[1]
                    value = 0
            else:
                return event
