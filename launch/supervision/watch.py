"""What the supervisor does with each process while the line runs: one step, again and again.

    starting   its duty cycle moves, and it is ready in time, or it is given up
    ready      its duty cycle moves, or it is given up; it says that it failed, or not
    failed     started again by its policy, or the line stops
    waiting    until its pause is over
    stopping   because an operator asked: quiesced first where that ends orders, then told to leave, then killed
    ended      stays so until an operator asks for it

A new process of a stage starts only after the old one was reaped: each ring has one writer and one reader at a time.
"""

import signal
from collections.abc import Sequence

from launch.errors import LaunchError
from launch.plan import Tell
from launch.supervision.logs import describe_exit, tail
from launch.supervision.processes import POLL_S, Processes, monotonic_ns
from launch.supervision.requests import ACTIONS, Action, Request
from launch.supervision.restarts import Failure
from launch.supervision.states import ProcessState
from launch.supervision.supervised import Child, Restart
from shm.control import Command, State

WATCH_POLL_S = 0.1
"""Between two looks at everything while nothing changes."""
SLOW_START_S = 2.0
"""A process that is not ready by then is said to be late, with the last line of its log."""
FIRST_BEAT_S = 2.0
"""How long at least a new process has until its first heartbeat: what comes before it, attaching and touching memory,
is one long step that a limit meant for cycles does not fit."""
WIND_DOWN_S = 7.0
"""How long a process that says FAILED may take to end what it holds at the venue and leave."""


class Watch:
    """Tends the processes of a plan."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._plan = processes.plan
        self._heartbeats: dict[str, tuple[int, float]] = {}  # agent: last stamp seen, and when by our clock
        self._stalled: set[str] = set()
        self._requests: dict[str, Request] = {}  # by process
        self._unsynced: set[str] = set()
        self._winding_down: dict[str, float] = {}  # process that says FAILED: until when it may live
        self._say_late_s: dict[str, float] = {}

    # -- what an operator asks for -------------------------------------------------------------------------------

    def request(self, action: Action, stage: str) -> Request:
        """Restart, stop or start `stage`. Raises LaunchError when that cannot be; the Request says when it is done."""
        if action not in ACTIONS:
            raise LaunchError(f"action {action!r} is none of {', '.join(ACTIONS)}")
        if stage not in self._plan.agents:
            raise LaunchError(f"there is no stage {stage!r}", f"the stages are {', '.join(self._plan.agents)}")
        process = self._plan.process_of(stage)
        child = self._processes.children[process.name]
        if len(process.agents) > 1:
            raise LaunchError(
                f"{action} {stage}: in this placement one process hosts {', '.join(process.agents)}",
                "stages can be restarted one by one with --placement dedicated",
            )
        if child.name in self._requests:
            raise LaunchError(f"{action} {stage}: a {self._requests[child.name].action} of it is under way already")
        is_down = child.state is ProcessState.ENDED
        if is_down and action == "stop":
            raise LaunchError(f"stop {stage}: it is stopped already", f"pipeline start {stage}")
        if not is_down and action == "start":
            raise LaunchError(f"start {stage}: it is {child.state.value} already", f"pipeline restart {stage}")
        request = Request(action, stage)
        self._requests[child.name] = request
        self._begin(child, request)
        return request

    def _begin(self, child: Child, request: Request) -> None:
        if child.state in (ProcessState.STARTING, ProcessState.READY):
            child.move(ProcessState.STOPPING)
            child.is_dismissed = True
            child.deadline_s = self._processes.clock() + self._plan.stop_deadline_s
            command = Command.STOP
            if request.action == "stop" and any(agent.name in self._quiesced() for agent in child.agents):
                command = Command.QUIESCE
                child.deadline_s += self._quiet_deadline_s()
            for agent in child.agents:
                agent.tell(command)
            return
        if child.state is ProcessState.FAILED:
            child.move(ProcessState.WAITING)
        if child.state is ProcessState.WAITING and request.action == "stop":
            child.move(ProcessState.ENDED)
        elif child.state is ProcessState.WAITING:
            self._again(child, "request")

    def _quiesced(self) -> set[str]:
        """Agents that end what they hold at the venue before they leave."""
        return {name for step in self._plan.stop if isinstance(step, Tell) and step.command is Command.QUIESCE
                for name in step.agents}  # fmt: skip

    def _quiet_deadline_s(self) -> float:
        return max((step.deadline_s for step in self._plan.stop if isinstance(step, Tell)), default=0.0)

    # -- one step ------------------------------------------------------------------------------------------------

    def tend(self) -> float:
        """One step of every process; returns how long to wait for the next. Raises ProcessFailedError."""
        steps = {
            ProcessState.STARTING: self._tend_starting, ProcessState.READY: self._tend_ready,
            ProcessState.FAILED: self._tend_failed, ProcessState.WAITING: self._tend_waiting,
            ProcessState.STOPPING: self._tend_stopping, ProcessState.ENDED: self._tend_ended,
        }  # fmt: skip
        for child in self._processes.children.values():
            steps[child.state](child)
        changing = self._processes.fork_spare() or self._unsynced or self._requests or self._winding_down or any(
            child.state is not ProcessState.READY and child.state is not ProcessState.ENDED
            for child in self._processes.children.values()
        )  # fmt: skip
        return POLL_S if changing else min(WATCH_POLL_S, self._plan.heartbeat_failure_s / 4)

    def _tend_starting(self, child: Child) -> None:
        now_s = self._processes.clock()
        if child.is_ready:
            self._say_late_s.pop(child.name, None)
            child.move(ProcessState.READY)
            self._processes.take_facts(child.name)
            child.take_times(monotonic_ns())
            self._unsynced.add(child.name)
            last = child.history[-1]
            assert last.restart_gap_ns is not None
            self._processes.say(f"{child.name} runs again, {last.restart_gap_ns / 1e6:.1f} ms after ({last.cause})")
            self._answer(child, pid=child.pid, restart_gap_ns=last.restart_gap_ns)
        elif now_s > child.deadline_s and child.failure is None:
            self._processes.give_up(child, *late(child, self._plan.start_deadline_s))
        else:
            self._check_heartbeats(child)
            if now_s > self._say_late_s.setdefault(child.name, now_s + SLOW_START_S):
                self._say_late_s[child.name] = child.deadline_s
                self._processes.say(f"{child.name} is not ready yet: {tail(child.log_path, 1)}")

    def _tend_ready(self, child: Child) -> None:
        if child.name in self._unsynced and child.take_times(monotonic_ns()):
            self._unsynced.discard(child.name)
        if any(agent.state is State.FAILED for agent in child.agents):
            until_s = self._winding_down.setdefault(child.name, self._processes.clock() + WIND_DOWN_S)
            if self._processes.clock() > until_s and child.failure is None:
                self._processes.give_up(child, Failure.FAULT, "says that it failed, and does not leave")
            return
        self._check_heartbeats(child)

    def _check_heartbeats(self, child: Child) -> None:
        for agent in child.agents:
            self._check_heartbeat(child, agent.name)

    def _check_heartbeat(self, child: Child, agent: str) -> None:
        age_s = self.heartbeat_age_s(child, agent)
        limit_s = self._plan.heartbeat_failure_s
        if child.words(agent).heartbeat == 0:
            limit_s = max(limit_s, FIRST_BEAT_S)
        if age_s > limit_s and child.failure is None:
            self._processes.give_up(child, Failure.HANG, f"hangs: no heartbeat of agent {agent} for {age_s:.1f} s")
        elif age_s >= self._plan.heartbeat_warning_s and agent not in self._stalled:
            self._stalled.add(agent)
            self._processes.say(f"{agent}: no heartbeat for {age_s:.1f} s, its process {child.pid} lives")
        elif age_s < self._plan.heartbeat_warning_s and agent in self._stalled:
            self._stalled.discard(agent)
            self._processes.say(f"{agent}: its duty cycle runs again")

    def _tend_failed(self, child: Child) -> None:
        failure, how = child.failed_how()
        self._forget_incarnation(child)
        pause = child.restarts.pause_s(failure, self._processes.clock())
        if isinstance(pause, str):
            error = self._processes.failed(child, pause)
            if child.name in self._requests:
                self._requests.pop(child.name).fail(str(error))
            raise error
        words = how or (describe_exit(child.exit_code) if child.exit_code is not None else "failed")
        child.note_failure(failure, monotonic_ns())
        child.move(ProcessState.WAITING)
        child.deadline_s = self._processes.clock() + pause
        self._tend_waiting(child)
        when = "at once" if pause == 0 else f"in {pause:g} s"
        self._processes.say(f"{child.name} {words} ({failure.value}); it is started again {when}")

    def _tend_waiting(self, child: Child) -> None:
        if self._processes.clock() >= child.deadline_s:
            self._processes.spawn(child)

    def _tend_stopping(self, child: Child) -> None:
        now_s = self._processes.clock()
        if all(agent.state >= State.QUIET for agent in child.agents):
            for agent in child.agents:
                agent.tell(Command.STOP)
        if now_s > child.deadline_s:
            self._processes.say(f"{child.name} did not leave by itself: SIGKILL")
            child.deadline_s = now_s + self._plan.stop_deadline_s
            self._processes.kill(child, signal.SIGKILL)

    def _tend_ended(self, child: Child) -> None:
        request = self._requests.get(child.name)
        if request is None:
            return
        self._forget_incarnation(child)
        if request.action == "stop":
            self._answer(child)
        else:
            self._again(child, "request")

    def _again(self, child: Child, cause: str) -> None:
        child.history.append(Restart(child.name, cause, monotonic_ns()))
        self._processes.spawn(child)

    def _answer(self, child: Child, **result: object) -> None:
        request = self._requests.pop(child.name, None)
        if request is not None:
            request.succeed(**result)

    def _forget_incarnation(self, child: Child) -> None:
        """What was remembered of a process that is gone."""
        for agent in child.agents:
            self._heartbeats.pop(agent.name, None)
            self._stalled.discard(agent.name)
        self._unsynced.discard(child.name)
        self._winding_down.pop(child.name, None)
        self._say_late_s.pop(child.name, None)

    def heartbeat_age_s(self, child: Child, agent: str) -> float:
        """Seconds since the agent's heartbeat was last seen to move; before its first, since it was first looked for.

        The stamp is not compared with our clock: the agent's runs on the TSC, and they drift apart by seconds in weeks.
        """
        stamp, now_s = child.words(agent).heartbeat, self._processes.clock()
        last_stamp, seen_s = self._heartbeats.get(agent, (None, now_s))
        if stamp != last_stamp:
            self._heartbeats[agent] = (stamp, now_s)
            return 0.0
        return now_s - seen_s

    def end_requests(self) -> None:
        """The line stops: nothing that was asked for will happen any more."""
        for request in self._requests.values():
            request.fail("the run is stopping")
        self._requests.clear()


def late(child: Child, deadline_s: float) -> tuple[Failure, str]:
    """The failure of a process that is not ready by its deadline."""
    waiting = next(agent for agent in child.agents if not agent.is_ready)
    return Failure.LATE, f"is not ready after {deadline_s:g} s (agent {waiting.name} says {waiting.state.name})"


def all_restarts(children: Sequence[Child]) -> list[Restart]:
    """Every restart of a run, in the order of their beginning."""
    return sorted((one for child in children for one in child.history), key=lambda restart: restart.down_ns)
