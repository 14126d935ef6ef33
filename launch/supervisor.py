"""The supervisor: starts the processes of a plan in order, watches them, and stops them in order.

It is single-threaded for life (it forks), never SCHED_FIFO, and runs on the housekeeping core. It knows a process by
its pid, an agent by its status word and its heartbeat, and tells an agent what to do by its command word, of which it
is the only writer. Everything it waits for goes through one `wait`, so that a second Ctrl-C is noticed anywhere.

    start    fork, wait until each agent says READY, in the plan's order
    watch    reap, heartbeats, until the duration is over, a signal comes, or the caller's condition holds
    stop     the plan's stop sequence, as far as what still lives allows; then SIGTERM, then SIGKILL
    close    kill what is left, unlink every segment: in every path, exceptions included
"""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from launch.child import EXIT_REFUSED, Entry, Forked
from launch.errors import ProcessFailedError
from launch.facts import ProcessFacts
from launch.findings import Finding
from launch.logs import describe_exit, tail
from launch.memory import check_room
from launch.plan import COMMAND_SEGMENT, Drain, Plan, ProcessPlan, StopStep, Tell, Terminate, check, page_segment
from launch.service import Service
from launch.spawner import ForkSpawner, Spawner
from launch.states import ProcessState, moved
from shm.atomics import peek, poke
from shm.control import COMMAND, STATUS_HEARTBEAT, STATUS_STATE, Command, State
from shm.ring import cursors
from shm.segment import Segment, unlink

log = logging.getLogger(__name__)

START_POLL_S = 0.002
"""Between two looks at a status word while something is awaited."""
WATCH_POLL_S = 0.1
"""Between two looks at everything while the line runs."""
SLOW_START_S = 2.0
"""A process that is not ready by then is said to be late, with the last line of its log."""
READY_STATES = (State.READY, State.RUNNING, State.QUIET)


class Waiter(Protocol):
    """What the supervisor waits at: `launch.signals.Signals`, or a fake with a clock of its own."""

    requests: int

    def listen(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when the descriptor can be read."""

    def forget(self, descriptor: int) -> None:
        """Listen no more."""

    def wait(self, timeout_s: float) -> None:
        """Until something happens or the time is over."""


class StopRequestedError(Exception):
    """A signal asked to stop before the line was running."""


class ForcedError(Exception):
    """A second signal: end everything now."""


@dataclass
class Child:
    """A process under supervision."""

    plan: ProcessPlan
    forked: Forked
    log_path: Path
    state: ProcessState = ProcessState.STARTING
    exit_code: int | None = None

    def move(self, following: ProcessState) -> None:
        """To `following`, by the table of states."""
        self.state = moved(self.plan.name, self.state, following)

    @property
    def alive(self) -> bool:
        """Not reaped yet."""
        return self.exit_code is None


@dataclass
class Outcome:
    """How a run ended."""

    exit: str
    """clean, stage_failed, refused, forced, or unclean (a stop step was not reached)."""
    reason: str
    """Why it ended, in words."""
    failure: ProcessFailedError | None = None
    notes: list[str] = field(default_factory=list)
    """What did not go in order while stopping."""


class Supervisor:
    """Runs one plan once. A context manager: leaving it ends every process and unlinks every segment."""

    def __init__(
        self,
        plan: Plan,
        entries: Mapping[str, Entry],
        waiter: Waiter,
        log_folder: Path,
        *,
        say: Callable[[str], None] = log.info,
        spawner: Spawner | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check(plan)
        self.plan, self._entries, self._waiter, self._logs = plan, entries, waiter, log_folder
        self._say, self._clock = say, clock
        self._spawner: Spawner = spawner or ForkSpawner()
        self.segments: dict[str, Segment] = {}
        self.children: dict[str, Child] = {}
        self._heartbeats: dict[str, tuple[int, float]] = {}  # agent: last stamp seen, and when by our clock
        self.services: dict[str, Service] = {}
        self.facts: dict[str, ProcessFacts] = {}
        self.findings: list[Finding] = []
        self._stalled: set[str] = set()
        self._stop_faults: list[str] = []

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- preparation ---------------------------------------------------------------------------------------------

    def create_segments(self) -> None:
        """Create every segment of the plan. Raises MachineError when /dev/shm has no room, SegmentError."""
        check_room(self.plan.segments.values())
        for name, layout in self.plan.segments.items():
            self.segments[name] = Segment.create(self.plan.shared_name(name), layout)

    def adopt(self, service: Service) -> None:
        """Watch an exec'ed process that is ready, and end it at the end."""
        self.services[service.name] = service
        self._waiter.listen(service.notify.descriptor, lambda: self._hear_service(service))

    # -- the run -------------------------------------------------------------------------------------------------

    def run(self, until: Callable[[], str | None], *, duration_s: float | None, tick: Callable[[], None]) -> Outcome:
        """Start, watch, stop. `until` returns why the run is over, or None; `tick` is called a few times a second.

        Whatever a stage or the user does comes back as an Outcome; only errors of our own are raised.
        """
        try:
            return self._run(until, duration_s, tick)
        except ForcedError:
            self.kill()
            return Outcome("forced", "interrupted twice")

    def _run(self, until: Callable[[], str | None], duration_s: float | None, tick: Callable[[], None]) -> Outcome:
        failure: ProcessFailedError | None = None
        try:
            self.start()
            reason = self.watch(until, duration_s, tick)
        except StopRequestedError:
            reason = "interrupted while starting"
        except ProcessFailedError as error:
            failure, reason = error, str(error)
            self._say(f"{error}; stopping the others in order")
        except ForcedError:
            raise
        except BaseException:
            # Ours, in `until` or `tick`: a figure that could not be drawn must not leave orders at the venue.
            self.stop()
            raise
        self.take_facts()
        notes = self.stop()
        if failure is not None:
            return Outcome("refused" if failure.refused else "stage_failed", reason, failure, notes)
        return Outcome("unclean" if notes else "clean", reason, None, notes)

    def start(self) -> None:
        """Fork each process of the plan and wait until its agents are ready, in order.

        Raises ProcessFailedError, StopRequestedError, ForcedError.
        """
        for process in self.plan.processes:
            forked = self._spawner.spawn(process, self.plan, self._entries[process.name], self.log_path(process.name))
            child = Child(process, forked, self.log_path(process.name))
            self.children[process.name] = child
            self._waiter.listen(forked.notify.descriptor, lambda child=child: self._hear(child))  # type: ignore[misc]
            self._wait_ready(child)
        self.take_facts()

    def log_path(self, process: str) -> Path:
        """Where a process's output goes."""
        return self._logs / f"{process}.log"

    def _wait_ready(self, child: Child) -> None:
        end = self._clock() + self.plan.start_deadline_s
        say_at = self._clock() + SLOW_START_S
        while True:
            if self._waiter.requests:
                raise StopRequestedError
            self._check_alive()
            waiting = [agent for agent in child.plan.agents if self.agent_state(agent) not in READY_STATES]
            if waiting and self._clock() > say_at:
                say_at = end
                self._say(f"{child.plan.name} is not ready yet: {tail(child.log_path, 1)}")
            if not waiting:
                child.move(ProcessState.READY)
                return
            if self._clock() > end:
                state = self.agent_state(waiting[0]).name
                raise self._failed(
                    child,
                    f"is not ready after {self.plan.start_deadline_s:g} s (agent {waiting[0]} says {state})",
                    "launch.start_deadline_s allows more time",
                )
            self._wait(START_POLL_S)

    def watch(self, until: Callable[[], str | None], duration_s: float | None, tick: Callable[[], None]) -> str:
        """Until the duration is over, a signal comes or `until` says why. Raises ProcessFailedError, ForcedError."""
        end = None if duration_s is None else self._clock() + duration_s
        while True:
            if self._waiter.requests:
                return "interrupted"
            self._check_alive()
            self._check_heartbeats()
            reason = until()
            if reason is not None:
                return reason
            tick()
            left = WATCH_POLL_S if end is None else min(WATCH_POLL_S, end - self._clock())
            if left <= 0:
                return "duration over"
            self._wait(left)

    def stop(self) -> list[str]:
        """The plan's stop sequence as far as possible; returns what was not reached. Raises ForcedError."""
        for child in self.children.values():
            if child.alive and child.state in (ProcessState.STARTING, ProcessState.READY):
                child.move(ProcessState.STOPPING)
        notes = [note for step in self.plan.stop if (note := self._stop_step(step))]
        notes += self._end_remaining()
        return notes + self._stop_faults

    # -- stopping ------------------------------------------------------------------------------------------------

    def _stop_step(self, step: StopStep) -> str | None:
        match step:
            case Tell(agents, command, awaited, deadline_s):
                return self._tell(agents, command, awaited, deadline_s)
            case Drain(deadline_s):
                if self._wait_until(self._drained, deadline_s):
                    return None
                return f"rings not empty after {deadline_s:g} s: {', '.join(self.undrained())}"
            case Terminate(name, deadline_s):
                service = self.services.get(name)
                if service is not None:
                    self._waiter.forget(service.notify.descriptor)
                    service.end(deadline_s)
                return None

    def _tell(self, agents: tuple[str, ...], command: Command, awaited: State, deadline_s: float) -> str | None:
        told = [agent for agent in agents if self._hosting(agent) is not None]
        for agent in told:
            self.command(agent, command)
        if awaited == State.ABSENT or not told:
            return None

        def reached() -> bool:
            return all(self._hosting(agent) is None or self.agent_state(agent) >= awaited for agent in told)

        if self._wait_until(reached, deadline_s):
            return None
        late = [agent for agent in told if self._hosting(agent) is not None and self.agent_state(agent) < awaited]
        return f"{' '.join(late)} not {awaited.name.lower()} {deadline_s:g} s after {command.name.lower()}"

    def _end_remaining(self) -> list[str]:
        """Wait for those told to stop; then SIGTERM, then SIGKILL."""
        notes = []
        if not self._wait_until(self._none_alive, self.plan.stop_deadline_s):
            for number, patience_s in ((signal.SIGTERM, self.plan.stop_deadline_s), (signal.SIGKILL, 10.0)):
                for child in self._living():
                    notes.append(f"{child.plan.name} did not leave by itself: {number.name}")
                    self._spawner.kill(child.forked.pid, number)
                if self._wait_until(self._none_alive, patience_s):
                    break
        return notes

    def _drained(self) -> bool:
        return not self.undrained()

    def undrained(self) -> list[str]:
        """Rings with unread records whose writer and reader both live."""
        names = []
        for name, segment in self.segments.items():
            if segment.layout.kind != "ring":
                continue
            users = [
                process.name
                for process in self.plan.processes
                if any(use.name == name and use.writable for use in process.segments)
            ]
            if all(user in self.children and self.children[user].alive for user in users):
                head, tail_ = cursors(segment.address)
                if head != tail_:
                    names.append(name)
        return names

    def kill(self) -> None:
        """SIGKILL every process that is left, by pid, and reap it."""
        for child in self._living():
            self._spawner.kill(child.forked.pid, signal.SIGKILL)
        end = self._clock() + 10
        while self._living() and self._clock() < end:
            self._reap()
            self._waiter.wait(START_POLL_S)
        for service in self.services.values():
            self._waiter.forget(service.notify.descriptor)
            service.end(0.0)

    def close(self) -> None:
        """End what is left, close the pipes, unlink the segments."""
        try:
            self.kill()
        finally:
            for child in self.children.values():
                self._forget(child)
            for segment in self.segments.values():
                unlink(segment.name)

    # -- looking -------------------------------------------------------------------------------------------------

    def agent_state(self, agent: str) -> State:
        """What the agent's status word says."""
        return State(peek(self._status_address(agent) + STATUS_STATE))

    def heartbeat_age_s(self, agent: str) -> float | None:
        """Seconds since the agent's heartbeat was last seen to move; None before its first.

        The stamp is not compared with our clock: the agent's runs on the TSC, and they drift apart by seconds in weeks.
        """
        stamp, now_s = peek(self._status_address(agent) + STATUS_HEARTBEAT), self._clock()
        if stamp == 0:
            return None
        last_stamp, seen_s = self._heartbeats.get(agent, (0, 0.0))
        if stamp != last_stamp:
            self._heartbeats[agent] = (stamp, now_s)
            return 0.0
        return now_s - seen_s

    def command(self, agent: str, command: Command) -> None:
        """Write the agent's command word."""
        poke(self.segments[COMMAND_SEGMENT].address + COMMAND.itemsize * self.plan.agents.index(agent), int(command))

    def _status_address(self, agent: str) -> int:
        return self.segments[page_segment(agent)].address

    def _hosting(self, agent: str) -> Child | None:
        """The live child that hosts `agent`."""
        child = self.children.get(self.plan.process_of(agent).name)
        return child if child is not None and child.alive else None

    def _living(self) -> list[Child]:
        return [child for child in self.children.values() if child.alive]

    def _none_alive(self) -> bool:
        return not self._living()

    def take_facts(self) -> None:
        """Ask the system about the processes that live; of the others the last answer stays."""
        for name, child in self.children.items():
            facts = self._spawner.facts(child.forked.pid) if child.alive else None
            if facts is not None:
                self.facts[name] = facts

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait(self, timeout_s: float) -> None:
        self._waiter.wait(timeout_s)
        self._reap()
        if self._waiter.requests >= 2:
            raise ForcedError

    def _wait_until(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        end = self._clock() + deadline_s
        while not condition():
            if self._clock() > end:
                return False
            self._wait(START_POLL_S)
        return True

    def _reap(self) -> None:
        for child in self._living():
            code = self._spawner.reap(child.forked.pid)
            if code is not None:
                self._hear(child)
                child.exit_code = code
                stopping = child.state is ProcessState.STOPPING
                ended_well = stopping and code == 0
                if stopping and not ended_well:
                    self._stop_faults.append(f"{child.plan.name} {describe_exit(code)} while stopping")
                child.move(ProcessState.ENDED if ended_well else ProcessState.FAILED)
                self._forget(child)

    def _check_alive(self) -> None:
        """Raises ProcessFailedError for the first process that has ended or failed, before or after it was ready."""
        for child in self.children.values():
            if child.exit_code is not None:
                hint = self._refusal_hint() if child.exit_code == EXIT_REFUSED else ""
                raise self._failed(child, describe_exit(child.exit_code), hint)
            failed = [agent for agent in child.plan.agents if self.agent_state(agent) is State.FAILED]
            if failed:
                # It says so before it leaves; its exit code and the rest of its log follow at once.
                self._wait_until(lambda child=child: not child.alive, 2.0)  # type: ignore[misc]
                code = child.exit_code
                how = f"failed (agent {failed[0]})" + (f" and {describe_exit(code)}" if code is not None else "")
                raise self._failed(child, how, "")
        for service in self.services.values():
            code = service.poll()
            if code is not None:
                raise ProcessFailedError(
                    service.name, describe_exit(code), tail(service.log_path), f"its log is {service.log_path}"
                )

    def _failed(self, child: Child, how: str, hint: str) -> ProcessFailedError:
        return ProcessFailedError(
            child.plan.name, how, tail(child.log_path), hint or f"its log is {child.log_path}",
            refused=child.exit_code == EXIT_REFUSED,
        )  # fmt: skip

    def _refusal_hint(self) -> str:
        return next((finding.hint for finding in reversed(self.findings) if finding.status == "bad"), "")

    def _check_heartbeats(self) -> None:
        for child in self._living():
            for agent in child.plan.agents:
                age_s = self.heartbeat_age_s(agent)
                if age_s is None or age_s < self.plan.heartbeat_warning_s:
                    if agent in self._stalled:
                        self._stalled.discard(agent)
                        self._say(f"{agent}: its duty cycle runs again")
                elif age_s > self.plan.heartbeat_failure_s:
                    raise self._failed(child, f"hangs: no heartbeat of agent {agent} for {age_s:.1f} s", "")
                elif agent not in self._stalled:
                    self._stalled.add(agent)
                    self._say(f"{agent}: no heartbeat for {age_s:.1f} s, its process {child.forked.pid} lives")

    # -- hearing -------------------------------------------------------------------------------------------------

    def _hear(self, child: Child) -> None:
        if child.forked.notify.descriptor < 0:
            return
        messages, is_open = child.forked.notify.messages()
        for message in messages:
            event = message.pop("event", "")
            if event in ("finding", "refused"):
                if event == "refused":
                    message["status"] = "bad"
                self.note(Finding(**message))
        if not is_open:
            self._forget(child)

    def _hear_service(self, service: Service) -> None:
        if not service.take_messages():
            self._waiter.forget(service.notify.descriptor)

    def _forget(self, child: Child) -> None:
        if child.forked.notify.descriptor >= 0:
            self._waiter.forget(child.forked.notify.descriptor)
            child.forked.notify.close()

    def note(self, finding: Finding) -> None:
        """Keep a finding, said once however many processes have it."""
        if finding.id not in {known.id for known in self.findings}:
            self.findings.append(finding)
            self._say(f"{finding.what}; {finding.why}" + (f"; hint: {finding.hint}" if finding.hint else ""))
