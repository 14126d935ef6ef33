"""What a stage is: an agent with a cold side (this class) and a hot side (its compiled `poll`).

    cold   construct, attach, start, service, quiesce, close: ordinary Python, may raise, never on the path
           `attach` is also how a stage goes on where an earlier process of it was killed: it finds that it is not the
           first one by the epochs of its rings
    hot    poll(context, now_ns) -> int: how many messages it handled, 0 when idle, negative when it needs the cold side

The same agent runs unchanged under three drivers: one process per agent, all agents packed into one process, or a test
that calls `poll` by hand. `context` is a NamedTuple of numpy arrays (and nothing else), so that the compiled duty cycle
takes it once per slice and Numba finds the compiled code again on disk. Nothing in a `poll` waits for another agent.

A page is what an agent's process writes for everybody to read: its status, its counters, its latency histograms, its
log of distinct errors.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from shm.control import STATUS, State
from shm.counters import Counter, counters_dtype
from shm.errorlog import ERROR_LOG
from shm.histogram import HISTOGRAM
from shm.segment import Layout, Segment

Array = NDArray[Any]


BYTES_SLEEP_NS_MAX = 50_000
"""`Agent.sleep_ns_max` of agents that read a socket: what the bytes may wait."""


class Poll(IntEnum):
    """Negative results of a poll: the duty cycle returns to Python, which calls `Agent.service`."""

    SERVICE = -1
    """Something for the cold side: a control frame, an unrecognised message, a lost connection."""
    FAULT = -2
    """The agent cannot go on; its state says why. The process ends and trading stops."""


@dataclass(frozen=True)
class Hop:
    """One latency that an agent measures: a histogram in its page, a line in the report."""

    name: str
    budget_ns: int | None = None
    unit: Literal["ns", "ns_per_level"] = "ns"


@dataclass(frozen=True)
class SegmentUse:
    """A shared segment an agent needs: its logical name, what it must hold, and whether the agent writes to it."""

    name: str
    layout: Layout
    writable: bool


def page_dtype(counters: Sequence[Counter], hops: Sequence[Hop]) -> np.dtype:
    """The page of an agent: status, counters, one histogram per hop, distinct errors, in that order."""
    return np.dtype(
        [
            ("status", STATUS),
            ("counters", counters_dtype(counters)),
            ("hops", HISTOGRAM, (max(1, len(hops)),)),
            ("errors", ERROR_LOG),
        ],
        align=True,
    )


ColdKernel = tuple[Any, tuple[Any, ...]]
"""A kernel called by ordinary Python, and the Numba types that it is called with."""


class AgentError(Exception):
    """An agent cannot start or go on; the text says what happened and what to do."""


class Agent(ABC):
    """The cold side of a stage. Life: construct, `attach`, `start`, then `service` until `close`.

    Construction happens in the launcher, before the fork: it must open nothing and start no thread, and must leave
    `context` complete in type (private arrays in place of shared ones), so that kernels are compiled against it there.
    """

    name: ClassVar[str]
    counters: ClassVar[tuple[Counter, ...]]
    hops: ClassVar[tuple[Hop, ...]]
    context: Any
    """NamedTuple of arrays for the kernels."""

    sleep_ns_max: ClassVar[int] = 10_000_000
    """Longest sleep of an idle process that hosts this agent, where the idle strategy is `doorbell`.

    Records in its rings end a sleep, and so does room in them; commands, timers and whatever was not rung for wait for
    its end. Bytes in a socket ring nobody: agents that take those sleep no longer than `BYTES_SLEEP_NS_MAX`.
    No poll may wait for more room than half of a ring: with more than half free, nobody is rung for room. And one that
    leaves work to the next poll, for which nobody will ring, says that it handled something.
    """

    @classmethod
    def page(cls) -> np.dtype:
        """The dtype of this agent's page."""
        return page_dtype(cls.counters, cls.hops)

    @property
    def source(self) -> str:
        """Where the code of this agent is that is not ours, for error messages; empty when all of it is."""
        return ""

    @abstractmethod
    def uses(self) -> list[SegmentUse]:
        """Every shared segment but the page and the command words."""

    @abstractmethod
    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        """Point `context` at the shared segments of `uses`, at the page's arrays and at the calibrated clock."""

    def cold_kernels(self) -> list[ColdKernel]:
        """Kernels that the methods below call. They are compiled before the fork: in a stage that runs, compiling one
        would stop it for seconds.
        """
        return []

    def start(self, attention: "Attention") -> None:  # noqa: B027 - most agents have nothing to open
        """Open what the agent needs (sockets, its helper thread). Runs in the stage's process; must not block."""

    def state(self) -> State:
        """READY until the agent is at work, then RUNNING, QUIET once quiesced with nothing under way, or FAILED."""
        return State.RUNNING

    def is_synced(self) -> bool:
        """True once it knows what an earlier process of it knew: books valid, views rebuilt, orders resolved."""
        return True

    def service(self, now_ns: int) -> None:  # noqa: B027
        """Cold work: called when a poll asked for it, when a helper called for attention, and a few times a second.

        Must be done within 1 ms. Raises AgentError when the agent cannot go on.
        """

    def quiesce(self) -> None:  # noqa: B027
        """Start nothing new from now on; `state` turns QUIET when nothing is under way."""

    def rehearse_every(self, interval_ns: int, *, has_twin: bool) -> None:  # noqa: B027
        """How often idle time goes into keeping the next tick's code and memory at hand.

        `has_twin`: a twin of this agent rehearses what needs a second set of everything (stages.rehearsal).
        """

    holds_orders: ClassVar[bool] = False
    """Must be QUIET before its process may leave: orders of ours may be at the venue."""

    def give_up(self) -> None:
        """An agent of this process failed: leave nothing half done, and quiesce."""
        self.quiesce()

    def idle_input(self) -> bool:
        """True when nothing unread is waiting in the agent's input rings."""
        return True

    def close(self) -> None:  # noqa: B027
        """Release what `start` opened."""


class Attention:
    """A word that any thread of the process sets to make the compiled duty cycle return to Python.

    `supervisor_pid`: of the process that forked this one; by default its parent. Who forked says it, since a parent
    that died meanwhile is another one by the time that the child asks.
    """

    def __init__(self, supervisor_pid: int | None = None) -> None:
        self.supervisor_pid = os.getppid() if supervisor_pid is None else supervisor_pid
        self.word: NDArray[np.int64] = np.zeros(1, np.int64)

    def call(self) -> None:
        """Ask for `service` as soon as the current poll is over. Any thread."""
        self.word[0] = 1

    def clear(self) -> None:
        """Main thread, before it looks at what was delivered."""
        self.word[0] = 0
