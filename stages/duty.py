"""The duty cycle: poll, idle, heartbeat, look at the command word; all compiled, so an empty poll costs nanoseconds.

The generated line module (one per placement) holds the loop, because Numba finds compiled code on disk only for
functions that import what they call by name. This file has the parts the loop is made of, and the Python around it.
"""

import gc
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm import doorbell, libc, neighbour, turns
from shm.atomics import load_acquire, load_word, pause, peek, store_relaxed, store_word
from shm.clock import CLOCK_WORDS, read_now_ns, set_realtime_offset
from shm.clock import now_ns as read_clock
from shm.control import (
    EXIT_FAULT,
    STALL_NS,
    STATUS_CYCLE_MAX,
    STATUS_CYCLES,
    STATUS_HEARTBEAT,
    STATUS_STALLS,
    Command,
    State,
)
from shm.kernel import primitive
from shm.neighbour import EDGE_WORDS, Edge
from stages.agent import Agent, AgentError, Attention, Poll

log = logging.getLogger(__name__)

IDLE_STRATEGIES = {"spin": 0, "yield": 1, "backoff": 2, "doorbell": 3}
"""spin: own core. yield: core shared with other stages, each after its predecessor in the line (`shm.turns`).
backoff: spin, then yield, then sleep 50 µs.

doorbell: spin, then sleep until a process that shares a ring with this one rings (`shm.neighbour`): it has published
records, or made room in a ring that was half full at least; `Agent.sleep_ns_max` at most.
"""

SPIN, YIELD, BACKOFF = 0, 1, 2
BACKOFF_SPINS = 200
BACKOFF_YIELDS = 400
BACKOFF_SLEEP_NS = 50_000
DOORBELL_SPINS = 3
"""Idle cycles before a sleep is announced. Few: on a shared core the stage that was just rung waits for their end.
Five stages on one core, a record round all: 1.08 times a bare futex wake a hop with 3, 1.20 times with 20."""

SLICE_NS = 1_000_000_000
"""How long the compiled loop runs before Python looks in, unasked. That costs each agent 0.2 to 0.5 ms here, its caches
cold, in which no tick passes: at four times a second five agents on one core made 1 tick in 150 wait for one of them.
"""
UNSYNCED_SLICE_NS = 250_000_000
"""The same while an agent is not synced: connections and questions are tried again after pauses."""

WIND_DOWN_S = 5.0
"""How long the agents of a process that failed may take to cancel their orders."""

SHORT_SLICE_NS = 2_000_000
"""The same while the supervisor waits to see something: while the agents are not ready and synced, for NEW_S at most,
and while one that was told to quiesce is not quiet."""
NEW_S = 10.0
NEVER_NS = (1 << 63) - 1
ORPHAN_LOOK_NS = 100_000_000
"""How often a process looks whether its supervisor lives. When it does not, Python looks in as often."""

IDLE, IDLE_COUNT, FAULT_AGENT, FAULT_CODE, AGENTS = 0, 1, 2, 3, 4
TIMESPEC = 5
LAST_TURN, CYCLE_MAX, STALLS = 7, 8, 9
SUPERVISOR, NEXT_ORPHAN_LOOK = 10, 11
PER_AGENT = 12
COMMAND_ADDRESS, SEEN_COMMAND, STATUS_ADDRESS = 0, 1, 2
AGENT_WORDS = 4

OWN_BELL, SLEEP_NS, EDGES = 0, 1, 2


class Duty(NamedTuple):
    """What the compiled loop needs besides the agents' contexts."""

    clock: NDArray[np.int64]
    words: NDArray[np.int64]
    """Private words: see the constants above; from PER_AGENT on, AGENT_WORDS for each agent of the process."""
    bells: NDArray[np.int64]
    """Empty unless the process sleeps: the bell that wakes it, its longest sleep, then EDGE_WORDS for each ring that it
    shares with another process. That there are none is all that a process that does not sleep looks at."""
    order: NDArray[np.int64] = turns.ALONE
    """Empty unless the process yields its core to others of the line."""


def new_duty(agents: int, idle: str) -> Duty:
    """A duty for `agents` agents, its addresses still 0 (enough to compile against)."""
    words = np.zeros(PER_AGENT + AGENT_WORDS * agents, np.int64)
    words[AGENTS], words[IDLE], words[NEXT_ORPHAN_LOOK] = agents, IDLE_STRATEGIES[idle], NEVER_NS
    return Duty(np.zeros(CLOCK_WORDS, np.int64), words, np.zeros(0, np.int64))


def with_bells(duty: Duty, own: int, edges: Sequence[Edge], sleep_ns_max: int) -> Duty:
    """`duty` with the bell, by address, that the process sleeps by, and those it rings. Their owner must keep them."""
    words = [word for edge in edges for word in edge.words()]
    return duty._replace(bells=np.array([own, sleep_ns_max, *words], np.int64))


@primitive
def turn(duty: Duty, attention: int, now_ns: int, handled: int) -> bool:
    """End of a cycle: heartbeats, commands and attention, then bells, place and idling. True: go back to Python."""
    words = duty.words
    changed = load_acquire(attention) != 0
    cycle_ns = now_ns - words[LAST_TURN]
    words[LAST_TURN] = now_ns
    is_worst = cycle_ns > words[CYCLE_MAX] or cycle_ns > STALL_NS
    if is_worst:
        words[CYCLE_MAX] = max(cycle_ns, words[CYCLE_MAX])
        words[STALLS] += 1 if cycle_ns > STALL_NS else 0
    for agent in range(words[AGENTS]):
        at = PER_AGENT + AGENT_WORDS * agent
        status = words[at + STATUS_ADDRESS]
        store_relaxed(status + STATUS_HEARTBEAT, now_ns)
        store_word(status + STATUS_CYCLES, load_word(status + STATUS_CYCLES) + 1)
        if is_worst:
            store_word(status + STATUS_CYCLE_MAX, words[CYCLE_MAX])
            store_word(status + STATUS_STALLS, words[STALLS])
        if load_acquire(words[at + COMMAND_ADDRESS]) != words[at + SEEN_COMMAND]:
            changed = True
    if now_ns >= words[NEXT_ORPHAN_LOOK]:
        words[NEXT_ORPHAN_LOOK] = now_ns + ORPHAN_LOOK_NS
        changed |= libc.getppid() != words[SUPERVISOR]
    if len(duty.bells) > 0:
        _use_bells(duty, handled)
    if len(duty.order) > 0:
        turns.stamp(duty.order.ctypes.data, now_ns)
    if handled > 0:
        words[IDLE_COUNT] = 0
    elif not changed:
        _idle(duty)
    return changed


@primitive
def _use_bells(duty: Duty, handled: int) -> None:
    """Ring the neighbours; and a sleep that was announced is over when the second look has found something."""
    for at in range(EDGES, len(duty.bells), EDGE_WORDS):
        neighbour.ring_if_moved(duty.bells.ctypes.data + 8 * at)
    if handled > 0 and duty.words[IDLE_COUNT] == DOORBELL_SPINS:
        doorbell.end_sleep(duty.bells[OWN_BELL])


@primitive
def _idle(duty: Duty) -> None:
    words = duty.words
    if words[IDLE] == SPIN:
        pause()
    elif words[IDLE] == YIELD:
        _give_way(duty)
    elif words[IDLE] == BACKOFF:
        _back_off(words)
    else:
        _sleep(duty)


@primitive
def _give_way(duty: Duty) -> None:
    """Let the others run; by a sleep, which changes the order, when this process is out of its place."""
    words, sleep_ns = duty.words, 0
    if len(duty.order) > 0:
        sleep_ns = turns.sleep_ns(duty.order.ctypes.data, len(duty.order) - (turns.OTHERS >> 3))
    if sleep_ns > 0:
        words[TIMESPEC], words[TIMESPEC + 1] = 0, sleep_ns
        libc.nanosleep(words.ctypes.data + 8 * TIMESPEC, 0)
    else:
        libc.sched_yield()


@primitive
def _back_off(words: NDArray[np.int64]) -> None:
    words[IDLE_COUNT] += 1
    if words[IDLE_COUNT] < BACKOFF_SPINS:
        pause()
    elif words[IDLE_COUNT] < BACKOFF_YIELDS:
        libc.sched_yield()
    else:
        words[TIMESPEC], words[TIMESPEC + 1] = 0, BACKOFF_SLEEP_NS
        libc.nanosleep(words.ctypes.data + 8 * TIMESPEC, 0)


@primitive
def _sleep(duty: Duty) -> None:
    """Spin for some cycles, then announce a sleep, then, when a whole poll has found nothing since, sleep.

    The poll between announcement and sleep is the second look at the inputs that `shm.doorbell` asks for.
    """
    words, bell = duty.words, duty.bells[OWN_BELL]
    words[IDLE_COUNT] += 1
    if words[IDLE_COUNT] < DOORBELL_SPINS:
        pause()
    elif words[IDLE_COUNT] == DOORBELL_SPINS:
        doorbell.announce_sleep(bell)
    else:
        doorbell.wait_ring(bell, duty.bells[SLEEP_NS])
        doorbell.end_sleep(bell)
        words[IDLE_COUNT] = DOORBELL_SPINS - 1  # woken for nothing: sleep again without spinning
        words[LAST_TURN] = read_clock(duty.clock)  # asleep is not stalled


class Runner:
    """Runs the agents of one process until they are told to stop.

    `run(contexts..., duty, attention, slice_ns)` is the generated compiled loop. It returns 0 at the end of a slice, on
    a new command or on a call for attention, and Poll.SERVICE or Poll.FAULT when an agent's poll returned that
    (words[FAULT_AGENT] says which).
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        run: Callable[..., int],
        duty: Duty,
        attention: Attention,
        pages: Mapping[str, np.ndarray[Any, Any]],
        command_addresses: Mapping[str, int],
        extra: Sequence[Any] = (),
    ) -> None:
        """`extra`: what `run` takes between the contexts and the duty."""
        assert (duty.words[IDLE] == IDLE_STRATEGIES["doorbell"]) == (len(duty.bells) > 0), "bells, and only to sleep by"
        self._extra = tuple(extra)
        self._agents, self._run, self._duty, self._attention = list(agents), run, duty, attention
        self._pages = pages
        self._commands = dict(command_addresses)
        self._unfit: list[Agent] = []
        self._quiescing: list[Agent] = []
        for index, agent in enumerate(self._agents):
            at = PER_AGENT + AGENT_WORDS * index
            duty.words[at + COMMAND_ADDRESS] = command_addresses[agent.name]
            duty.words[at + SEEN_COMMAND] = Command.RUN
            duty.words[at + STATUS_ADDRESS] = pages[agent.name]["status"].ctypes.data
        first = pages[self._agents[0].name]["status"]
        duty.words[CYCLE_MAX], duty.words[STALLS] = first["cycle_ns_max"][0], first["stalls"][0]
        duty.words[LAST_TURN] = read_now_ns(duty.clock)
        duty.words[SUPERVISOR], duty.words[NEXT_ORPHAN_LOOK] = attention.supervisor_pid, 0
        self._is_new, self._new_until_s = True, time.monotonic() + NEW_S

    def run(self) -> int:
        """Until every agent is told to STOP (returns 0) or one fails (returns EXIT_FAULT)."""
        sys.setswitchinterval(0.0005)  # a busy helper thread keeps the interpreter from us for at most this long
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while self._slice():
                pass
        except Exception as error:
            _log_failure(error)
            self._wind_down()
            self._set_all(State.FAILED)
            return EXIT_FAULT
        for agent in self._agents:
            agent.close()
        self._set_all(State.STOPPED)
        return 0

    def _wind_down(self) -> None:
        """An agent failed: the others of this process end what they hold at the venue, if they still can."""
        for agent in self._agents:
            agent.give_up()
        end = time.monotonic() + WIND_DOWN_S
        while time.monotonic() < end and any(
            agent.holds_orders and agent.state() != State.QUIET for agent in self._agents
        ):
            unfit = len(self._unfit)
            try:
                self._slice()
            except Exception as error:
                _log_failure(error)
                if len(self._unfit) == unfit:
                    return  # not one more agent's cold side: the compiled loop itself cannot go on

    def _slice(self) -> bool:
        duty = self._duty
        contexts = [agent.context for agent in self._agents]
        try:
            code = self._run(*contexts, *self._extra, duty, self._attention.word.ctypes.data, self._slice_ns())
        except Exception as error:  # only a strategy's code is compiled with checks that raise
            log.exception("compiled code raised")
            source = next((agent.source for agent in self._agents if agent.source), "compiled code")
            raise AgentError(f"{source}: raised {type(error).__name__}: {error}") from error
        self._attention.clear()
        if code == Poll.FAULT:
            agent = self._agents[int(duty.words[FAULT_AGENT])]
            raise AgentError(f"{agent.name}: its kernel reported fault {int(duty.words[FAULT_CODE])}")
        now_ns = int(read_now_ns(duty.clock))
        set_realtime_offset(duty.clock)
        stopping = self._take_commands()
        for agent in self._agents:
            if agent in self._unfit:
                continue
            try:
                agent.service(now_ns)
            except Exception:
                self._unfit.append(agent)  # its kernel can still cancel; its cold side is not asked again
                raise
            self._set(agent, agent.state())
        if self._is_new:
            self._look_whether_synced(now_ns)
        self._quiescing = [agent for agent in self._quiescing if agent.state() < State.QUIET]
        gc.collect(0)
        return not stopping

    def _slice_ns(self) -> int:
        if self._is_new or self._quiescing:
            return SHORT_SLICE_NS
        return SLICE_NS if all(agent.is_synced() for agent in self._agents) else UNSYNCED_SLICE_NS

    def _look_whether_synced(self, now_ns: int) -> None:
        """Note when each agent is ready, and when it knows all again."""
        statuses = [self._pages[agent.name]["status"] for agent in self._agents]
        for agent, status in zip(self._agents, statuses, strict=True):
            if not status["ready_ns"][0] and agent.state() in (State.READY, State.RUNNING, State.QUIET):
                status["ready_ns"] = now_ns
            if status["ready_ns"][0] and not status["synced_ns"][0] and agent.is_synced():
                status["synced_ns"] = now_ns
        all_synced = all(status["synced_ns"][0] for status in statuses)
        self._is_new = not all_synced and time.monotonic() < self._new_until_s

    def _take_commands(self) -> bool:
        stops = 0
        for index, agent in enumerate(self._agents):
            at = PER_AGENT + AGENT_WORDS * index
            command = peek(self._commands[agent.name])
            if command != self._duty.words[at + SEEN_COMMAND]:
                self._duty.words[at + SEEN_COMMAND] = command
                log.info("%s: %s", agent.name, Command(command).name.lower())
                if command == Command.QUIESCE:
                    agent.quiesce()
                    self._quiescing.append(agent)
            stops += command == Command.STOP
        return stops == len(self._agents)

    def _set(self, agent: Agent, state: State) -> None:
        self._pages[agent.name]["status"]["state"] = state

    def _set_all(self, state: State) -> None:
        for agent in self._agents:
            self._set(agent, state)


def _log_failure(error: Exception) -> None:
    """What an agent says itself in its words; anything else is a defect, and is told with all that is known."""
    if isinstance(error, AgentError):
        log.error("%s", error)
    else:
        log.error("unexpected: %r", error, exc_info=error)
