"""The supervisor: starts the processes of a plan in order, watches them, and stops them in order.

It is single-threaded for life (it forks), never SCHED_FIFO, and runs on the housekeeping core. It knows a process by
its pid, an agent by its status word and its heartbeat, and tells an agent what to do by its command word, of which it
is the only writer. Everything it waits for goes through one `wait`, so that a second Ctrl-C is noticed anywhere.

    start    fork, wait until each agent says READY, in the plan's order
    watch    each process (watch.py), until the duration is over, a signal comes, or the caller's condition holds
    stop     the plan's stop sequence, as far as what still lives allows; then SIGTERM, then SIGKILL
    close    kill what is left, unlink every segment: in every path, exceptions included
"""

import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from launch.errors import LaunchError, ProcessFailedError
from launch.findings import Finding
from launch.plan import KILL_DEADLINE_S, Drain, StopStep, Tell, Terminate, check
from launch.preflight import check_room
from launch.supervision.facts import ProcessFacts
from launch.supervision.logs import describe_exit, tail
from launch.supervision.processes import POLL_S, ForcedError, Processes, monotonic_ns
from launch.supervision.requests import Action, Request
from launch.supervision.service import Service
from launch.supervision.states import ProcessState
from launch.supervision.supervised import Child, Restart
from launch.supervision.watch import SLOW_START_S, Watch, all_restarts, late
from shm.control import Command, State
from shm.doorbell import DOOR_LAYOUT, create_semaphore, unlink_semaphore
from shm.ring import cursors
from shm.segment import Segment, unlink

log = logging.getLogger(__name__)


class StopRequestedError(Exception):
    """A signal asked to stop before the line was running."""


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

    def __init__(self, processes: Processes) -> None:
        check(processes.plan)
        self.plan, self._processes = processes.plan, processes
        self._waiter, self._say, self._clock = processes.waiter, processes.say, processes.clock
        self._watch = Watch(processes)
        self.segments: dict[str, Segment] = {}
        self.services: dict[str, Service] = {}
        self.is_started, self.is_stopping = False, False

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def children(self) -> Mapping[str, Child]:
        """The supervised processes by name."""
        return self._processes.children

    @property
    def facts(self) -> Mapping[str, ProcessFacts]:
        """What the system said of each process when it was last asked."""
        return self._processes.facts

    @property
    def findings(self) -> list[Finding]:
        """What the machine refused or lacks, as far as it was noticed."""
        return self._processes.findings

    @property
    def restarts(self) -> list[Restart]:
        """Every restart so far."""
        return all_restarts(list(self.children.values()))

    def note(self, finding: Finding) -> None:
        """Keep a finding, said once however many processes have it."""
        self._processes.note(finding)

    # -- preparation ---------------------------------------------------------------------------------------------

    def create_segments(self) -> None:
        """Create every segment of the plan, and the semaphore of each door.

        Raises MachineError when /dev/shm has no room, SegmentError, DoorbellError.
        """
        check_room(self.plan.segments.values())
        for name, layout in self.plan.segments.items():
            self.segments[name] = Segment.create(self.plan.shared_name(name), layout)
            if layout == DOOR_LAYOUT:
                create_semaphore(self.plan.shared_name(name))
        self._processes.attach(self.segments)

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
        self._processes.take_facts()
        notes = self.stop()
        if failure is not None:
            return Outcome("refused" if failure.refused else "stage_failed", reason, failure, notes)
        return Outcome("unclean" if notes else "clean", reason, None, notes)

    def start(self) -> None:
        """Fork each process of the plan and wait until its agents are ready, in order.

        A process that fails before all have been ready is not started again: nothing has been traded yet.
        Raises ProcessFailedError, StopRequestedError, ForcedError.
        """
        self._processes.spawner.prepare()
        for process in self.plan.processes:
            child = self.children[process.name]
            self._processes.spawn(child)
            self._wait_ready(child)
        self._processes.take_facts()
        self.is_started = True

    def _wait_ready(self, child: Child) -> None:
        say_at = self._clock() + SLOW_START_S
        while not child.is_ready:
            if self._waiter.requests:
                raise StopRequestedError
            self._check_started()
            if self._clock() > say_at:
                say_at = child.deadline_s
                self._say(f"{child.name} is not ready yet: {tail(child.log_path, 1)}")
            if self._clock() > child.deadline_s:
                child.failure = late(child, self.plan.start_deadline_s)
                raise self._processes.failed(child)
            self._processes.wait(POLL_S)
        child.move(ProcessState.READY)

    def _check_started(self) -> None:
        """Raises ProcessFailedError for the first process that has ended or says FAILED, ready or not."""
        for child in self.children.values():
            if any(agent.state is State.FAILED for agent in child.agents):
                # It says so before it leaves; its exit code and the rest of its log follow at once.
                self._processes.wait_until(lambda child=child: not child.alive, 2.0)  # type: ignore[misc]
                raise self._processes.failed(child)
            if child.exit_code is not None:
                raise self._processes.failed(child)
        self._check_services()

    def watch(self, until: Callable[[], str | None], duration_s: float | None, tick: Callable[[], None]) -> str:
        """Until the duration is over, a signal comes or `until` says why. Raises ProcessFailedError, ForcedError."""
        end = None if duration_s is None else self._clock() + duration_s
        while True:
            if self._waiter.requests:
                return "interrupted"
            self._check_services()
            left = self._watch.tend()
            reason = until()
            if reason is not None:
                return reason
            tick()
            if end is not None:
                left = min(left, end - self._clock())
            if left <= 0:
                return "duration over"
            self._processes.wait(left)

    def take_facts(self) -> None:
        """Ask the system about the processes that live; of the others the last answer stays."""
        self._processes.take_facts()

    def request(self, action: Action, stage: str) -> Request:
        """Restart, stop or start one stage while the others go on. Raises LaunchError when that is refused."""
        if not self.is_started:
            raise LaunchError(f"{action} {stage}: the run is still starting", "ask again when it trades")
        if self.is_stopping:
            raise ProcessFailedError(stage, "is not restarted, stopped or started: the run is stopping")
        return self._watch.request(action, stage)

    def _check_services(self) -> None:
        for service in self.services.values():
            code = service.poll()
            if code is not None:
                raise ProcessFailedError(
                    service.name, describe_exit(code), tail(service.log_path), f"its log is {service.log_path}"
                )

    # -- stopping ------------------------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """The plan's stop sequence as far as possible; returns what was not reached. Raises ForcedError."""
        self.is_stopping = True
        self._watch.end_requests()
        self._processes.stop_faults.clear()
        for child in self.children.values():
            if child.alive and child.state in (ProcessState.STARTING, ProcessState.READY):
                child.move(ProcessState.STOPPING)
        notes = [note for step in self.plan.stop if (note := self._stop_step(step))]
        notes += self._end_remaining()
        return notes + self._processes.stop_faults

    def _stop_step(self, step: StopStep) -> str | None:
        match step:
            case Tell(agents, command, awaited, deadline_s):
                return self._tell(agents, command, awaited, deadline_s)
            case Drain(deadline_s):
                if self._processes.wait_until(self._drained, deadline_s):
                    return None
                return f"rings not empty after {deadline_s:g} s: {', '.join(self.undrained())}"
            case Terminate(name, deadline_s):
                service = self.services.get(name)
                if service is not None:
                    self._waiter.forget(service.notify.descriptor)
                    service.end(deadline_s)
                return None

    def _tell(self, agents: tuple[str, ...], command: Command, awaited: State, deadline_s: float) -> str | None:
        if awaited is State.QUIET:
            self._bring_back(agents, command)
        words = {agent: child.words(agent) for agent in agents if (child := self._processes.hosting(agent)) is not None}
        for agent in words.values():
            agent.tell(command)
        if awaited == State.ABSENT:
            return None
        if not words:
            return self._lost(agents) if awaited is State.QUIET else None

        def late_ones() -> list[str]:
            return [
                name for name, agent in words.items() if self._processes.hosting(name) and not agent.state >= awaited
            ]

        def reached() -> bool:
            if awaited is State.QUIET:
                self._bring_back(agents, command)
            return not late_ones()

        if self._processes.wait_until(reached, deadline_s):
            return None
        return f"{' '.join(late_ones())} not {awaited.name.lower()} {deadline_s:g} s after {command.name.lower()}"

    def _lost(self, agents: tuple[str, ...]) -> str | None:
        """What is to be said when those who should end their orders at the venue have failed for good."""
        children = {
            self.plan.process_of(agent).name: self.children[self.plan.process_of(agent).name] for agent in agents
        }
        failed = [name for name, child in children.items() if child.state is ProcessState.FAILED]
        if not failed or not any(children[name].plan.outlives_supervisor for name in failed):
            return None
        return f"{' '.join(failed)} has failed: what it had at the venue may be there still, until the next start"

    def _bring_back(self, agents: tuple[str, ...], command: Command) -> None:
        """Start again, already told what to do, a failed process that must end what it holds at the venue."""
        for child in self.children.values():
            if child.state is ProcessState.FAILED and any(agent.name in agents for agent in child.agents):
                failure, _ = child.failed_how()
                pause = child.restarts.pause_s(failure, self._clock())
                if isinstance(pause, str):
                    continue
                child.note_failure(failure, monotonic_ns())
                child.move(ProcessState.WAITING)
            if child.state is ProcessState.WAITING and any(agent.name in agents for agent in child.agents):
                self._processes.spawn(child, command)
                self._say(f"{child.name} is started again, to end its orders at the venue")
                child.move(ProcessState.STOPPING)

    def _end_remaining(self) -> list[str]:
        """Wait for those told to stop; then SIGTERM, then SIGKILL."""
        notes = []
        if not self._processes.wait_until(self._none_alive, self.plan.stop_deadline_s):
            patience = ((signal.SIGTERM, self.plan.stop_deadline_s), (signal.SIGKILL, KILL_DEADLINE_S))
            for number, patience_s in patience:
                for child in self._processes.living():
                    notes.append(f"{child.name} did not leave by itself: {number.name}")
                    self._processes.kill(child, number)
                if self._processes.wait_until(self._none_alive, patience_s):
                    break
        return notes

    def _none_alive(self) -> bool:
        return not self._processes.living()

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
            if all(self.children[user].alive for user in users):
                head, tail_ = cursors(segment.address)
                if head != tail_:
                    names.append(name)
        return names

    def kill(self) -> None:
        """SIGKILL every process that is left, by pid, and reap it."""
        self._processes.kill_all()
        for service in self.services.values():
            self._waiter.forget(service.notify.descriptor)
            service.end(0.0)

    def close(self) -> None:
        """End what is left, close the pipes, unlink the segments."""
        try:
            self.kill()
        finally:
            for child in self.children.values():
                self._processes.forget(child)
            for segment in self.segments.values():
                if segment.layout == DOOR_LAYOUT:
                    unlink_semaphore(segment.name)
                unlink(segment.name)

    def _hear_service(self, service: Service) -> None:
        if not service.take_messages():
            self._waiter.forget(service.notify.descriptor)
