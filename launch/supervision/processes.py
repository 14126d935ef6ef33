"""The processes of a plan: forked, heard, reaped, ended; and the one wait through which everything is waited for."""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from launch.errors import ProcessFailedError
from launch.findings import Finding
from launch.knobs.schedule import AFFINITY
from launch.plan import COMMAND_SEGMENT, KILL_DEADLINE_S, Plan, page_segment
from launch.supervision.child import Entry, Forked
from launch.supervision.facts import ProcessFacts
from launch.supervision.logs import describe_exit, tail
from launch.supervision.restarts import Failure, Restarts
from launch.supervision.spawner import ForkSpawner, Spawner
from launch.supervision.states import ProcessState
from launch.supervision.supervised import Child, agent_words
from shm.control import Command
from shm.segment import Segment

log = logging.getLogger(__name__)

POLL_S = 0.002
"""Between two looks at a status word while something is awaited."""


class Waiter(Protocol):
    """What the supervisor waits at: `launch.supervision.signals.Signals`, or a fake with a clock of its own."""

    requests: int

    def listen(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when the descriptor can be read."""

    def forget(self, descriptor: int) -> None:
        """Listen no more."""

    def wait(self, timeout_s: float) -> None:
        """Until something happens or the time is over."""


class ForcedError(Exception):
    """A second signal: end everything now."""


@dataclass(eq=False)
class Processes:
    """The children of one supervisor, by process name."""

    plan: Plan
    entries: Mapping[str, Entry]
    waiter: Waiter
    log_folder: Path
    say: Callable[[str], None] = log.info
    spawner: Spawner = field(default_factory=ForkSpawner)
    clock: Callable[[], float] = time.monotonic
    children: dict[str, Child] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, ProcessFacts] = field(default_factory=dict)
    stop_faults: list[str] = field(default_factory=list)
    """What went wrong with processes that were told to stop."""

    def attach(self, segments: Mapping[str, Segment]) -> None:
        """Once the segments exist: the children, none of them started."""
        commands = segments[COMMAND_SEGMENT].address
        for process in self.plan.processes:
            words = tuple(
                agent_words(agent, segments[page_segment(agent)].address, commands, self.plan.agents.index(agent))
                for agent in process.agents
            )
            self.children[process.name] = Child(process, self.log_path(process.name), words, Restarts(process.restart))

    def log_path(self, process: str) -> Path:
        """Where a process's output goes."""
        return self.log_folder / f"{process}.log"

    # -- life and death ------------------------------------------------------------------------------------------

    def spawn(self, child: Child, command: Command = Command.RUN) -> None:
        """Start `child`, for the first time or again; its earlier process has been reaped."""
        assert not child.alive, f"process={child.name} pid={child.pid} still lives"
        child.move(ProcessState.STARTING)
        for agent in child.agents:
            agent.clear()
            agent.tell(command)
        child.exit_code, child.failure, child.given_up_ns, child.is_dismissed = None, None, None, False
        child.deadline_s = self.clock() + self.plan.start_deadline_s
        child.forked, child.spare = child.spare or self._fork(child), None
        self.waiter.listen(child.forked.notify.descriptor, lambda: self._hear(child))
        self.spawner.run(child.forked, child.plan.schedule.value(AFFINITY.name))
        child.wants_spare = child.plan.restart.when != "never"

    def _fork(self, child: Child) -> Forked:
        return self.spawner.spawn(child.plan, self.plan, self.entries[child.name], child.log_path)

    def fork_spare(self) -> bool:
        """Fork the next incarnation of one process that is ready ahead; False when none lacks it.

        One for each start, not more: a spare that ends is not replaced before the next start, which forks anew.
        """
        for child in self.children.values():
            if child.wants_spare and child.state is ProcessState.READY:
                child.wants_spare = False
                try:
                    child.spare = self._fork(child)
                except OSError as error:
                    self.say(f"{child.name}: no process could be forked ahead, its restart takes longer: {error}")
                return True
        return False

    def reap(self) -> None:
        """Take the exit codes of those that have ended, by pid."""
        for child in self.children.values():
            if child.spare is not None and self.spawner.reap(child.spare.pid) is not None:
                child.spare.forget()
                child.spare = None
        for child in self.living():
            assert child.forked is not None
            code = self.spawner.reap(child.forked.pid)
            if code is None:
                continue
            self._hear(child)
            child.exit_code = code
            self.forget(child)
            if child.state is not ProcessState.STOPPING:
                child.move(ProcessState.FAILED)
                continue
            if code != 0:
                self.stop_faults.append(f"{child.name} {describe_exit(code)} while stopping")
            child.move(ProcessState.ENDED if code == 0 or child.is_dismissed else ProcessState.FAILED)

    def give_up(self, child: Child, failure: Failure, how: str) -> None:
        """Kill a process that does not do what it must; its end is noticed as every other."""
        child.failure, child.given_up_ns = (failure, how), monotonic_ns()
        self.kill(child, signal.SIGKILL)

    def kill(self, child: Child, number: signal.Signals) -> None:
        """A signal, by pid, to a child that has not been reaped."""
        self.spawner.kill(child.pid, number)

    def kill_all(self) -> None:
        """SIGKILL every process that is left, spares included, and reap it."""
        for child in self.living():
            self.kill(child, signal.SIGKILL)
        for spare in self._spares():
            self.spawner.kill(spare.pid, signal.SIGKILL)
        end = self.clock() + KILL_DEADLINE_S
        while (self.living() or self._spares()) and self.clock() < end:
            self.reap()
            self.waiter.wait(POLL_S)

    def failed(self, child: Child, why: str = "") -> ProcessFailedError:
        """The failure of `child` as an error; `why` says why it is not started again."""
        failure, how = child.failed_how()
        code = child.exit_code
        words = how or (describe_exit(code) if code is not None else "failed")
        hint = ""
        if failure is Failure.REFUSED:
            hint = next((finding.hint for finding in reversed(self.findings) if finding.status == "bad"), "")
        elif failure is Failure.LATE:
            hint = "launch.start_deadline_s allows more time"
        return ProcessFailedError(
            child.name, words + (f"; {why}" if why else ""), tail(child.log_path),
            hint or f"its log is {child.log_path}", refused=failure is Failure.REFUSED,
        )  # fmt: skip

    # -- looking -------------------------------------------------------------------------------------------------

    def living(self) -> list[Child]:
        """Those not reaped yet."""
        return [child for child in self.children.values() if child.alive]

    def _spares(self) -> list[Forked]:
        return [child.spare for child in self.children.values() if child.spare is not None]

    def hosting(self, agent: str) -> Child | None:
        """The live child that hosts `agent`."""
        child = self.children[self.plan.process_of(agent).name]
        return child if child.alive else None

    def take_facts(self, *names: str) -> None:
        """What the system says of the live ones (of all, without names)."""
        for name in names or self.children:
            child = self.children[name]
            facts = self.spawner.facts(child.pid) if child.alive else None
            if facts is not None:
                self.facts[name] = facts

    def note(self, finding: Finding) -> None:
        """Keep a finding, said once however many processes have it."""
        if finding.id not in {known.id for known in self.findings}:
            self.findings.append(finding)
            self.say(f"{finding.what}; {finding.why}" + (f"; hint: {finding.hint}" if finding.hint else ""))

    # -- waiting and hearing -------------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Until something happens or the time is over. Raises ForcedError after a second signal."""
        self.waiter.wait(timeout_s)
        self.reap()
        if self.waiter.requests >= 2:
            raise ForcedError

    def wait_until(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        """Until `condition` holds; False when it does not within `deadline_s`."""
        end = self.clock() + deadline_s
        while not condition():
            if self.clock() > end:
                return False
            self.wait(POLL_S)
        return True

    def _hear(self, child: Child) -> None:
        if child.forked is None or child.forked.notify.descriptor < 0:
            return
        messages, is_open = child.forked.notify.messages()
        for message in messages:
            event = message.pop("event", "")
            if event in ("finding", "refused"):
                if event == "refused":
                    message["status"] = "bad"
                self.note(Finding(**message))
        if not is_open:
            self.forget(child)

    def forget(self, child: Child) -> None:
        """Close the pipe on which a child tells what it found."""
        if child.forked is not None and child.forked.notify.descriptor >= 0:
            self.waiter.forget(child.forked.notify.descriptor)
            child.forked.notify.close()


def monotonic_ns() -> int:
    """The scale of the stages' own stamps."""
    return time.monotonic_ns()
