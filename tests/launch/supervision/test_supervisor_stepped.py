"""The supervisor with a clock and a spawner of the test's: no process, no waiting."""

import errno
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.errors import LaunchError
from launch.plan import Plan, ProcessPlan, page_segment
from launch.settings import LaunchSettings
from launch.supervision.child import Entry, Forked
from launch.supervision.facts import ProcessFacts
from launch.supervision.processes import Processes
from launch.supervision.service import NotifyPipe
from launch.supervision.supervisor import Supervisor
from launch.supervision.watch import FIRST_BEAT_S
from shm.atomics import peek, poke
from shm.control import COMMAND, STATUS_HEARTBEAT, STATUS_STATE, Command, State
from shm.ring import TAIL
from tests.launch.toys import RING, toy_plan


class World:
    """Time, signals and processes: a step of time lets each live process act once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.requests = 0
        self.live: dict[int, str] = {}
        self.ended: dict[int, int] = {}
        self.behaviour: dict[str, Callable[[str], int | None]] = {}
        self.killed: list[tuple[str, int]] = []
        self.killed_ns = 0
        self.is_full = False
        """No process more can be forked."""
        self.waiting: dict[int, str] = {}
        """Forked, and not told to run yet."""
        self.forked: list[str] = []
        self.spawned: list[str] = []
        """Told to run."""
        self.told: list[tuple[str, Command]] = []
        self.at: dict[float, Callable[[], None]] = {}

    def clock(self) -> float:
        return self.now_s

    def listen(self, descriptor: int, ready: Callable[[], None]) -> None:
        pass

    def forget(self, descriptor: int) -> None:
        pass

    def wait(self, timeout_s: float) -> None:
        self.now_s += max(timeout_s, 0.001)
        for moment in [moment for moment in self.at if moment <= self.now_s - 1000]:
            self.at.pop(moment)()
        for pid, name in list(self.live.items()):
            code = self.behaviour[name](name)
            if code is not None:
                del self.live[pid]
                self.ended[pid] = code

    def prepare(self) -> None:
        pass

    def spawn(self, process: ProcessPlan, plan: Plan, entry: Entry, log_path: Path) -> Forked:
        if self.is_full:
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        pid = 10_000_000 + len(self.forked)
        self.forked.append(process.name)
        self.waiting[pid] = process.name
        reading, writing = os.pipe()
        os.close(writing)
        return Forked(pid, NotifyPipe(reading), os.open(os.devnull, os.O_WRONLY))

    def run(self, forked: Forked, cpu: int | None) -> None:
        assert not {self.waiting[forked.pid]} & set(self.live.values()), "two processes of one stage run"
        self.live[forked.pid] = self.waiting.pop(forked.pid)
        self.spawned.append(self.live[forked.pid])
        forked.run(None)

    def reap(self, pid: int) -> int | None:
        return self.ended.get(pid)

    def kill(self, pid: int, number: int) -> None:
        if self.waiting.pop(pid, None):
            self.ended[pid] = -number
            return
        name = self.live.pop(pid)
        self.killed.append((name, number))
        self.killed_ns = time.monotonic_ns()
        self.ended[pid] = -number

    def facts(self, pid: int) -> ProcessFacts | None:
        return None


class Stage:
    """A process that does as it is told."""

    def __init__(self, world: World, supervisor: Supervisor) -> None:
        self.world, self.supervisor = world, supervisor

    def __call__(self, name: str) -> int | None:
        status = self.supervisor.segments[page_segment(name)].address
        command = self.command(name)
        poke(status + STATUS_HEARTBEAT, int(self.world.now_s * 1e9))
        state = {Command.RUN: State.RUNNING, Command.QUIESCE: State.QUIET, Command.STOP: State.STOPPED}[command]
        if not self.world.told or self.world.told[-1] != (name, command):
            self.world.told.append((name, command))
        poke(status + STATUS_STATE, state)
        return 0 if command is Command.STOP else None

    def command(self, name: str) -> Command:
        index = self.supervisor.plan.agents.index(name)
        return Command(peek(self.supervisor.segments["command"].address + COMMAND.itemsize * index))


AGENTS = ("first", "second", "third")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def changed() -> dict[str, Any]:
    """Launcher settings that differ from those of the fixture."""
    return {}


@pytest.fixture
def supervisor(world: World, tmp_path: Path, changed: dict[str, Any]) -> Iterator[Supervisor]:
    settings = LaunchSettings(
        **{"fifo": "never", "start_deadline_s": 30, "heartbeat_failure_s": 5, "restart": "never"} | changed
    )
    plan = toy_plan(f"stepped-{os.getpid()}", AGENTS, settings)
    entries: dict[str, Entry] = {agent: lambda segments, supervisor_pid: 0 for agent in AGENTS}
    with Supervisor(Processes(plan, entries, world, tmp_path, lambda text: None, world, world.clock)) as made:
        made.create_segments()
        for agent in AGENTS:
            world.behaviour[agent] = Stage(world, made)
        yield made
    assert not list(Path("/dev/shm").glob(f"tickpipe.stepped-{os.getpid()}.*"))
    assert not world.waiting


def drive(supervisor: Supervisor, duration_s: float = 1.0) -> str:
    return supervisor.run(lambda: None, duration_s=duration_s, tick=lambda: None).exit


def test_processes_start_one_after_the_other_in_the_plans_order(supervisor: Supervisor, world: World) -> None:
    assert drive(supervisor) == "clean"
    assert world.spawned == list(AGENTS)
    ready = [name for name, command in world.told if command is Command.RUN]
    assert [name for index, name in enumerate(ready) if name not in ready[:index]] == list(AGENTS)


def test_the_stop_sequence_quiesces_the_source_first_and_stops_along_the_flow(
    supervisor: Supervisor, world: World
) -> None:
    drive(supervisor)
    orders = [(name, command) for name, command in world.told if command is not Command.RUN]
    assert [name for name, command in orders if command is Command.QUIESCE] == ["first"]
    assert [name for name, command in orders if command is Command.STOP] == list(AGENTS)


def test_stopping_takes_no_longer_than_its_deadlines_when_a_ring_never_drains(
    supervisor: Supervisor, world: World
) -> None:
    poke(supervisor.segments[RING].address + TAIL, 3)
    keep = world.behaviour["second"]
    # The ring's writer must still live while the line drains: it leaves only when the rest is told to.
    world.behaviour["first"] = lambda name: None if Stage(world, supervisor)(name) == 0 and world.now_s < 1012 else (
        None if Stage(world, supervisor).command(name) is not Command.STOP else 0
    )  # fmt: skip
    world.behaviour["second"] = keep
    outcome = supervisor.run(lambda: None, duration_s=1.0, tick=lambda: None)
    assert outcome.exit == "unclean"
    assert any(RING in note for note in outcome.notes)
    assert world.now_s < 1000 + 1 + 5 + 5 + 5 + 5


def test_a_ring_whose_reader_died_is_not_waited_for(supervisor: Supervisor, world: World) -> None:
    poke(supervisor.segments[RING].address + TAIL, 3)
    world.at[0.5] = lambda: world.behaviour.update(second=lambda name: -11)
    outcome = supervisor.run(lambda: None, duration_s=60.0, tick=lambda: None)
    assert outcome.exit == "stage_failed"
    assert not outcome.notes
    assert world.now_s < 1002


def test_a_silent_process_is_given_up_at_the_deadline(supervisor: Supervisor, world: World) -> None:
    world.behaviour["second"] = lambda name: None
    outcome = supervisor.run(lambda: None, duration_s=1.0, tick=lambda: None)
    assert outcome.failure is not None
    assert "not ready after 30 s" in outcome.failure.how
    assert "third" not in world.spawned
    assert ("second", signal.SIGTERM) in world.killed


def test_a_request_while_starting_stops_what_has_started(supervisor: Supervisor, world: World) -> None:
    world.behaviour["second"] = lambda name: setattr(world, "requests", 1)
    outcome = supervisor.run(lambda: None, duration_s=None, tick=lambda: None)
    assert outcome.reason == "interrupted while starting"
    assert world.spawned == ["first", "second"]


def test_a_second_request_kills_at_once(supervisor: Supervisor, world: World) -> None:
    world.behaviour["third"] = _deaf(supervisor, world)
    world.at[0.5] = lambda: setattr(world, "requests", 1)
    world.at[2.0] = lambda: setattr(world, "requests", 2)
    outcome = supervisor.run(lambda: None, duration_s=None, tick=lambda: None)
    assert outcome.exit == "forced"
    assert ("third", signal.SIGKILL) in world.killed
    assert world.now_s < 1002.5


def test_the_callers_condition_ends_the_run(supervisor: Supervisor, world: World) -> None:
    outcome = supervisor.run(lambda: "all played" if world.now_s > 1003 else None, duration_s=None, tick=lambda: None)
    assert (outcome.exit, outcome.reason) == ("clean", "all played")


def _deaf(supervisor: Supervisor, world: World) -> Callable[[str], int | None]:
    def act(name: str) -> int | None:
        status = supervisor.segments[page_segment(name)].address
        poke(status + STATUS_HEARTBEAT, int(world.now_s * 1e9))
        poke(status + STATUS_STATE, State.RUNNING)
        return None

    return act


@pytest.mark.parametrize("error", [OSError("the terminal is gone"), SystemExit(1)])
def test_an_error_of_our_own_while_watching_stops_the_line_in_order(
    supervisor: Supervisor, world: World, error: BaseException
) -> None:
    def tick() -> None:
        raise error

    with pytest.raises(type(error)):
        supervisor.run(lambda: None, duration_s=10.0, tick=tick)
    assert world.killed == []
    assert {name for name, command in world.told if command is Command.STOP} == set(AGENTS)
    assert ("first", Command.QUIESCE) in world.told


RESTARTED = {"restart": "limited", "restarts_per_minute_max": 3}


def dies_at(world: World, moment: float, name: str, code: int = -9) -> None:
    """`name` ends with `code` at `moment`; its successor is good."""
    good = world.behaviour[name]

    def end(_: str) -> int:
        world.behaviour[name] = good
        return code

    world.at[moment] = lambda: world.behaviour.update({name: end})


@pytest.mark.parametrize("changed", [RESTARTED])
def test_a_process_that_crashes_is_started_again_while_the_others_go_on(supervisor: Supervisor, world: World) -> None:
    dies_at(world, 1.0, "second")
    assert drive(supervisor, 3.0) == "clean"
    assert world.spawned == [*AGENTS, "second"]
    assert [(restart.process, restart.cause) for restart in supervisor.restarts] == [("second", "crash")]
    assert supervisor.restarts[0].restart_gap_ns is not None


@pytest.mark.parametrize("changed", [RESTARTED])
def test_a_process_that_hangs_is_killed_and_started_again(supervisor: Supervisor, world: World) -> None:
    good = world.behaviour["second"]
    world.at[1.0] = lambda: world.behaviour.update(second=lambda name: None)
    world.at[6.5] = lambda: world.behaviour.update(second=good)
    began_ns = time.monotonic_ns()
    assert drive(supervisor, 10.0) == "clean"
    assert world.killed == [("second", signal.SIGKILL)]
    assert [restart.cause for restart in supervisor.restarts] == ["hang"]
    assert began_ns <= supervisor.restarts[0].down_ns <= world.killed_ns, "the gap begins when it is given up"


@pytest.mark.parametrize("changed", [RESTARTED])
def test_each_process_has_a_successor_forked_ahead_which_runs_once_it_is_gone(
    supervisor: Supervisor, world: World
) -> None:
    dies_at(world, 1.0, "second")
    spares: dict[int, str] = {}
    world.at[0.5] = lambda: spares.update(world.waiting)
    assert drive(supervisor, 3.0) == "clean"
    assert sorted(spares.values()) == sorted(AGENTS)
    assert spares[supervisor.children["second"].pid] == "second"
    assert world.spawned == [*AGENTS, "second"]
    assert sorted(world.forked) == sorted([*AGENTS, *AGENTS, "second"]), "the one that was used is replaced"


def test_a_process_that_is_not_started_again_has_no_successor_waiting(supervisor: Supervisor, world: World) -> None:
    assert drive(supervisor, 3.0) == "clean"
    assert world.forked == list(AGENTS)


@pytest.mark.parametrize("changed", [RESTARTED])
def test_a_successor_that_dies_while_it_waits_is_forked_anew_when_it_is_needed(
    supervisor: Supervisor, world: World
) -> None:
    def kill_spare() -> None:
        world.kill(next(pid for pid, name in world.waiting.items() if name == "second"), signal.SIGKILL)

    world.at[0.5] = kill_spare
    dies_at(world, 1.0, "second")
    world.at[0.9] = lambda: before.extend(world.forked)
    before: list[str] = []
    assert drive(supervisor, 3.0) == "clean"
    assert sorted(before) == sorted([*AGENTS, *AGENTS]), "not at once: it might die again and again"
    assert world.spawned == [*AGENTS, "second"]
    assert world.forked.count("second") == 4


@pytest.mark.parametrize("changed", [RESTARTED])
def test_a_successor_that_cannot_be_forked_ahead_ends_no_run(supervisor: Supervisor, world: World) -> None:
    good = world.behaviour["third"]

    def is_the_last(name: str) -> int | None:
        world.is_full = True
        return good(name)

    world.behaviour["third"] = is_the_last
    assert drive(supervisor, 1.0) == "clean"
    assert world.forked == list(AGENTS)


@pytest.mark.parametrize("changed", [RESTARTED])
def test_no_successor_is_forked_for_one_that_is_not_ready(supervisor: Supervisor, world: World) -> None:
    waiting: list[str] = []

    def end(_: str) -> int:
        world.behaviour["second"] = _busy(supervisor, world)
        return -9

    world.at[1.0] = lambda: world.behaviour.update(second=end)
    world.at[5.0] = lambda: waiting.extend(world.waiting.values())
    assert drive(supervisor, 6.0) == "unclean"
    assert sorted(waiting) == ["first", "third"]


@pytest.mark.parametrize("changed", [RESTARTED])
def test_a_crash_loop_stops_trading_in_order(supervisor: Supervisor, world: World) -> None:
    world.at[1.0] = lambda: world.behaviour.update(second=lambda name: -11)
    outcome = supervisor.run(lambda: None, duration_s=60.0, tick=lambda: None)
    assert (outcome.exit, outcome.notes) == ("stage_failed", [])
    assert "was ended by signal 11 (SIGSEGV); it was restarted 3 times" in outcome.reason
    assert world.spawned.count("second") == 4
    assert ("first", Command.QUIESCE) in world.told


@pytest.mark.parametrize("changed", [RESTARTED])
def test_a_fault_code_stops_trading_at_once(supervisor: Supervisor, world: World) -> None:
    dies_at(world, 1.0, "second", 3)
    outcome = supervisor.run(lambda: None, duration_s=60.0, tick=lambda: None)
    assert "exited with code 3; it said itself that it cannot go on" in outcome.reason
    assert world.spawned == list(AGENTS)


@pytest.mark.parametrize("changed", [RESTARTED | {"restart_of": {"second": "always"}}])
def test_a_policy_of_its_own_overrules_the_common_one(supervisor: Supervisor, world: World) -> None:
    dies_at(world, 1.0, "second", 3)
    assert drive(supervisor, 3.0) == "clean"
    assert [restart.cause for restart in supervisor.restarts] == ["fault"]


@pytest.mark.parametrize("changed", [RESTARTED])
def test_a_restarted_process_that_is_not_ready_in_time_counts_as_failed_again(
    supervisor: Supervisor, world: World
) -> None:
    good = world.behaviour["second"]

    def end(_: str) -> int:
        world.behaviour["second"] = _busy(supervisor, world)
        return -9

    world.at[1.0] = lambda: world.behaviour.update(second=end)
    world.at[35.0] = lambda: world.behaviour.update(second=good)
    assert drive(supervisor, 40.0) == "clean"
    assert [restart.cause for restart in supervisor.restarts] == ["crash", "late"]
    assert world.killed == [("second", signal.SIGKILL)]


def _busy(supervisor: Supervisor, world: World) -> Callable[[str], None]:
    """One whose duty cycle runs, and who is never ready."""

    def act(name: str) -> None:
        poke(supervisor.segments[page_segment(name)].address + STATUS_HEARTBEAT, int(world.now_s * 1e9))

    return act


@pytest.mark.parametrize(
    ("changed", "beats", "within_s"),
    [
        (RESTARTED | {"heartbeat_failure_s": 5.0}, False, 5.2),
        (RESTARTED | {"heartbeat_failure_s": 0.3}, False, FIRST_BEAT_S + 0.2),
        (RESTARTED | {"heartbeat_failure_s": 0.3}, True, 0.5),
    ],
    ids=["before its first cycle", "before its first cycle, a short limit", "after some cycles"],
)
def test_a_restarted_process_that_hangs_while_it_starts_is_killed_as_one_that_is_ready(
    supervisor: Supervisor, world: World, beats: bool, within_s: float
) -> None:
    good = world.behaviour["second"]

    def end(_: str) -> int:
        world.behaviour["second"] = hang if beats else lambda name: None
        return -9

    def hang(name: str) -> None:
        _busy(supervisor, world)(name)
        world.behaviour["second"] = lambda name: None

    def killed() -> str | None:
        if not world.killed:
            return None
        world.behaviour["second"] = good
        return f"killed {world.now_s - 1001:.1f} s after the crash"

    world.at[1.0] = lambda: world.behaviour.update(second=end)
    outcome = supervisor.run(killed, duration_s=60.0, tick=lambda: None)
    assert world.killed == [("second", signal.SIGKILL)]
    assert within_s - 0.3 < float(outcome.reason.split()[1]) < within_s


@pytest.mark.parametrize("changed", [RESTARTED])
def test_one_that_ends_orders_is_brought_back_to_do_so_while_stopping(supervisor: Supervisor, world: World) -> None:
    good = world.behaviour["first"]

    def dies_when_told(name: str) -> int | None:
        if good.command(name) is Command.RUN:
            return good(name)
        world.behaviour["first"] = good
        return -9

    good = Stage(world, supervisor)
    world.behaviour["first"] = dies_when_told
    assert drive(supervisor) == "unclean"
    assert world.spawned == [*AGENTS, "first"]
    assert ("first", Command.QUIESCE) in world.told


def test_a_request_restarts_one_process(supervisor: Supervisor, world: World) -> None:
    requests = []
    world.at[1.0] = lambda: requests.append(supervisor.request("restart", "third"))
    assert drive(supervisor, 3.0) == "clean"
    assert world.spawned == [*AGENTS, "third"]
    assert (requests[0].done, requests[0].problem) == (True, None)
    assert requests[0].result["stage"] == "third"
    assert requests[0].result["pid"] == supervisor.children["third"].pid


def test_a_stage_is_stopped_in_order_and_started_again(supervisor: Supervisor, world: World) -> None:
    requests = []
    world.at[1.0] = lambda: requests.append(supervisor.request("stop", "first"))
    world.at[2.0] = lambda: requests.append(supervisor.request("start", "first"))
    assert drive(supervisor, 3.0) == "clean"
    assert [request.done and request.problem is None for request in requests] == [True, True]
    told = [command for name, command in world.told if name == "first"]
    assert [command for command, _ in itertools.groupby(told)] == [
        Command.RUN,
        Command.QUIESCE,
        Command.STOP,
        Command.RUN,
        Command.QUIESCE,
        Command.STOP,
    ]


@pytest.mark.parametrize(
    ("action", "stage", "words"),
    [
        ("start", "first", "it is ready already"),
        ("restart", "fourth", "there is no stage"),
        ("dance", "first", "is none of restart, stop, start"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    supervisor: Supervisor, world: World, action: Any, stage: str, words: str
) -> None:
    refused: list[str] = []

    def ask() -> None:
        with pytest.raises(LaunchError) as error:
            supervisor.request(action, stage)
        refused.append(str(error.value))

    world.at[1.0] = ask
    assert drive(supervisor, 2.0) == "clean"
    assert words in refused[0]


def test_a_request_before_all_are_ready_is_refused(supervisor: Supervisor, world: World) -> None:
    refused: list[str] = []
    ready = world.behaviour["third"]

    def ask(name: str) -> int | None:
        with pytest.raises(LaunchError) as error:
            supervisor.request("restart", "first")
        refused.append(str(error.value))
        world.behaviour["third"] = ready
        return None

    world.behaviour["third"] = ask
    assert drive(supervisor, 1.0) == "clean"
    assert refused == ["restart first: the run is still starting"]


def test_a_request_that_is_under_way_when_the_line_stops_is_answered(supervisor: Supervisor, world: World) -> None:
    requests = []
    world.behaviour["third"] = _deaf(supervisor, world)
    world.at[1.0] = lambda: requests.append(supervisor.request("restart", "third"))
    drive(supervisor, 1.5)
    assert requests[0].problem == "the run is stopping"
