"""One process under supervision: its place in the table of states, its restarts, what its agents say of themselves."""

from dataclasses import dataclass, field
from pathlib import Path

from launch.plan import ProcessPlan
from launch.supervision.child import EXIT_REFUSED, Forked
from launch.supervision.restarts import Failure, Restarts
from launch.supervision.states import ProcessState, moved
from shm.atomics import peek, poke
from shm.control import (
    COMMAND,
    EXIT_FAULT,
    STATUS,
    STATUS_CYCLE_MAX,
    STATUS_HEARTBEAT,
    STATUS_READY,
    STATUS_STALLS,
    STATUS_STATE,
    STATUS_SYNCED,
    Command,
    State,
)

READY_STATES = (State.READY, State.RUNNING, State.QUIET)
KEPT_WORDS = (STATUS_CYCLE_MAX, STATUS_STALLS)
"""Words of a status record that go on counting over restarts."""


@dataclass(frozen=True)
class AgentWords:
    """The words of one agent, by the addresses of the supervisor's own mapping."""

    name: str
    status: int
    command: int

    @property
    def state(self) -> State:
        """What the status word says; FAILED for a word that is none: something wrote over its page."""
        try:
            return State(peek(self.status + STATUS_STATE))
        except ValueError:
            return State.FAILED

    @property
    def is_ready(self) -> bool:
        """READY or beyond, and not failed."""
        return self.state in READY_STATES

    @property
    def heartbeat(self) -> int:
        """The last stamp of the duty cycle, 0 before its first."""
        return peek(self.status + STATUS_HEARTBEAT)

    @property
    def ready_ns(self) -> int:
        """When it was first ready in this process, 0 before."""
        return peek(self.status + STATUS_READY)

    @property
    def synced_ns(self) -> int:
        """When it knew again all that an earlier process of it knew, 0 before."""
        return peek(self.status + STATUS_SYNCED)

    def tell(self, command: Command) -> None:
        """Write the command word; the supervisor is its only writer."""
        poke(self.command, int(command))

    def clear(self) -> None:
        """Forget what an earlier process said. Only while none lives: the words are the process's."""
        for offset in range(0, STATUS.itemsize, 8):
            if offset not in KEPT_WORDS:
                poke(self.status + offset, 0)


def agent_words(name: str, status: int, commands: int, index: int) -> AgentWords:
    """The words of the agent with command word number `index`."""
    return AgentWords(name, status, commands + COMMAND.itemsize * index)


@dataclass
class Restart:
    """One restart, for the report."""

    process: str
    cause: str
    """crash, hang, fault, late, or request."""
    down_ns: int
    """When the earlier process last gave a sign of life, CLOCK_MONOTONIC; a hanging one: when it was given up."""
    restart_gap_ns: int | None = None
    """From then until the first poll with its links attached, session open; None: not there yet."""
    resync_ns: int | None = None
    """From then until it knew all again: books valid, views rebuilt, unknown orders resolved; None: not there yet."""


@dataclass
class Child:
    """A process of the plan, in its present incarnation."""

    plan: ProcessPlan
    log_path: Path
    agents: tuple[AgentWords, ...]
    restarts: Restarts
    state: ProcessState = ProcessState.PLANNED
    forked: Forked | None = None
    exit_code: int | None = None
    spare: Forked | None = None
    """Forked ahead: waits to be the next incarnation."""
    wants_spare: bool = False
    failure: tuple[Failure, str] | None = None
    """Why the supervisor gave it up, before it was reaped."""
    given_up_ns: int | None = None
    """When."""
    is_dismissed: bool = False
    """An operator told it to leave: however it does, it has ended, not failed."""
    deadline_s: float = 0.0
    """By our clock: of the state it is in."""
    history: list[Restart] = field(default_factory=list)

    def move(self, following: ProcessState) -> None:
        """To `following`, by the table of states."""
        self.state = moved(self.plan.name, self.state, following)

    @property
    def name(self) -> str:
        """The process's name in the plan."""
        return self.plan.name

    @property
    def alive(self) -> bool:
        """Started, and not reaped yet."""
        return self.forked is not None and self.exit_code is None

    @property
    def pid(self) -> int:
        """Of the present incarnation, or of the last one."""
        assert self.forked is not None, f"process={self.name} was never started"
        return self.forked.pid

    def words(self, agent: str) -> AgentWords:
        """The words of one of its agents."""
        return next(words for words in self.agents if words.name == agent)

    @property
    def is_ready(self) -> bool:
        """Every agent says READY or more."""
        return all(agent.is_ready for agent in self.agents)

    def note_failure(self, failure: Failure, now_ns: int) -> None:
        """Put a failure into its history, before it is started again."""
        last_sign_ns = self.given_up_ns or max(agent.heartbeat for agent in self.agents)
        self.history.append(Restart(self.name, failure.value, last_sign_ns or now_ns))

    def failed_how(self) -> tuple[Failure, str]:
        """The kind of a failure that ended the process, and the supervisor's words for it, if it gave it up."""
        if self.failure is not None:
            return self.failure
        if self.exit_code == EXIT_REFUSED:
            return Failure.REFUSED, ""
        return (Failure.FAULT if self.exit_code == EXIT_FAULT else Failure.CRASH), ""

    def take_times(self, now_ns: int) -> bool:
        """Note in the last restart when it was ready and synced; True once both are known."""
        last = self.history[-1]
        if last.restart_gap_ns is None and self.is_ready:
            # A stage that does not say when it was ready was so by now.
            last.restart_gap_ns = max(agent.ready_ns or now_ns for agent in self.agents) - last.down_ns
        synced = [agent.synced_ns for agent in self.agents]
        if last.restart_gap_ns is not None and all(synced):
            last.resync_ns = max(synced) - last.down_ns
            return True
        return False
