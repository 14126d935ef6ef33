"""The duty cycle: what agents still do when one of them fails, how long slices are, whose turn it is."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shm.clock import calibrate
from shm.control import EXIT_FAULT, STATUS, Command, State
from shm.segment import Segment
from shm.turns import PATIENCE, TURN, words_of
from stages.agent import Agent, AgentError, Array, Attention, SegmentUse
from stages.duty import (
    COMMAND_ADDRESS,
    NEXT_ORPHAN_LOOK,
    ORPHAN_LOOK_NS,
    PER_AGENT,
    SHORT_SLICE_NS,
    SLICE_NS,
    STATUS_ADDRESS,
    SUPERVISOR,
    TIMESPEC,
    UNSYNCED_SLICE_NS,
    Runner,
    new_duty,
    turn,
)
from tests.entered import entered


class Stub(Agent):
    """Does what `failures` say at each service, then nothing."""

    counters = ()
    hops = ()
    context = ()

    def __init__(self, name: str, *, failures: tuple[Exception | None, ...] = (), cancels: int = 0) -> None:
        self.name = name  # type: ignore[misc]
        self.holds_orders = cancels > 0  # type: ignore[misc]
        self.failures = list(failures)
        self.cancels = cancels
        self.is_quiesced = False
        self.served = 0
        self.is_connected = True

    def is_synced(self) -> bool:
        return self.is_connected

    def uses(self) -> list[SegmentUse]:
        return []

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        raise NotImplementedError

    def quiesce(self) -> None:
        self.is_quiesced = True

    def service(self, now_ns: int) -> None:
        self.served += 1
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        if self.is_quiesced and self.cancels:
            self.cancels -= 1

    def state(self) -> State:
        return State.QUIET if self.is_quiesced and not self.cancels else State.RUNNING


def run(
    *agents: Stub, loop: Any = lambda *_: 0, commands: NDArray[np.int64] | None = None
) -> tuple[int, dict[str, State]]:
    """Exit code and last states of a process of these agents. `commands`: a word for each, all RUN when not given."""
    pages = {agent.name: np.zeros(1, agent.page()) for agent in agents}
    commands = np.full(len(agents), Command.RUN, np.int64) if commands is None else commands
    addresses = {agent.name: commands.ctypes.data + 8 * index for index, agent in enumerate(agents)}
    duty = new_duty(len(agents), "yield")._replace(clock=calibrate(0.002))
    runner = Runner(agents, loop, duty, Attention(), pages, addresses)
    code = runner.run()
    return code, {name: State(int(page["status"]["state"][0])) for name, page in pages.items()}


@pytest.mark.parametrize("failure", [AgentError("feed: cannot"), ValueError("nobody thought of this")])
def test_a_failing_agent_does_not_keep_another_from_cancelling_its_orders(failure: Exception) -> None:
    feed = Stub("feed", failures=(None, failure, failure))
    router = Stub("router", cancels=5)
    code, states = run(feed, router)
    assert code == EXIT_FAULT
    assert router.cancels == 0
    assert feed.served == 2  # its cold side is not asked again
    assert set(states.values()) == {State.FAILED}


def test_the_order_holder_itself_may_fail_and_nobody_waits_for_it_forever() -> None:
    router = Stub("router", failures=(ValueError("odd"),), cancels=1)
    others = Stub("book"), Stub("risk", failures=(None, ValueError("another")))
    now = iter(range(100))

    def loop(*_: Any) -> int:
        if next(now) == 3:
            router.cancels = 0  # its kernel still works
        return 0

    code, _ = run(router, *others, loop=loop)
    assert code == EXIT_FAULT
    assert router.served == 1


def test_compiled_code_that_raises_again_and_again_ends_the_process() -> None:
    def loop(*_: Any) -> int:
        raise ZeroDivisionError

    router = Stub("router", cancels=5)
    code, states = run(router, loop=loop)
    assert code == EXIT_FAULT
    assert router.is_quiesced
    assert states["router"] == State.FAILED


def test_slices_are_short_while_orders_are_being_cancelled_so_that_their_end_is_seen_at_once() -> None:
    router, slices = Stub("router", cancels=3), list[int]()
    commands = np.full(1, Command.RUN, np.int64)

    def loop(*arguments: Any) -> int:
        slices.append(arguments[-1])
        if len(slices) == 3:
            commands[0] = Command.QUIESCE
        if len(slices) == 7:
            commands[0] = Command.STOP
        return 0

    code, states = run(router, loop=loop, commands=commands)
    assert (code, states) == (0, {"router": State.STOPPED})
    new, running, quiescing = [SHORT_SLICE_NS], [SLICE_NS] * 2, [SHORT_SLICE_NS] * 2
    assert slices == [*new, *running, *quiescing, *[SLICE_NS] * 2]


def test_python_looks_in_rarely_and_more_often_while_something_is_tried_again() -> None:
    router, slices = Stub("router"), list[int]()
    commands = np.full(1, Command.RUN, np.int64)

    def loop(*arguments: Any) -> int:
        slices.append(arguments[-1])
        router.is_connected = len(slices) != 2
        commands[0] = Command.STOP if len(slices) == 4 else Command.RUN
        return 0

    run(router, loop=loop, commands=commands)
    assert slices == [SHORT_SLICE_NS, SLICE_NS, UNSYNCED_SLICE_NS, SLICE_NS]


def test_python_looks_in_when_the_supervisor_is_gone() -> None:
    attention, command, status = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, STATUS)
    duty = new_duty(1, "spin")
    duty.words[PER_AGENT + COMMAND_ADDRESS] = command.ctypes.data
    duty.words[PER_AGENT + STATUS_ADDRESS] = status.ctypes.data

    def comes_back(now_ns: int) -> bool:
        return bool(entered(turn)(duty, attention.ctypes.data, now_ns, 0))

    assert not comes_back(1_000), "nobody has said whose child it is"
    duty.words[SUPERVISOR], duty.words[NEXT_ORPHAN_LOOK] = os.getppid(), 0
    assert not comes_back(2_000)
    duty.words[SUPERVISOR] += 1
    assert [comes_back(2_000 + elapsed_ns) for elapsed_ns in (1, ORPHAN_LOOK_NS - 1, ORPHAN_LOOK_NS)] == [
        False, False, True,
    ]  # fmt: skip
    assert not comes_back(2_001 + ORPHAN_LOOK_NS)
    assert comes_back(2_000 + 2 * ORPHAN_LOOK_NS), "as long as it runs on"


def test_a_process_stamps_each_turn_and_sleeps_when_idle_out_of_its_place_again_and_again() -> None:
    own, predecessor, other = stamps = np.zeros(3, TURN)
    addresses = [stamps[index:].ctypes.data for index in range(3)]
    attention, command, status = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, STATUS)
    duty = new_duty(1, "yield")._replace(order=words_of(addresses[0], addresses[1:], 0))
    duty.words[PER_AGENT + COMMAND_ADDRESS] = command.ctypes.data
    duty.words[PER_AGENT + STATUS_ADDRESS] = status.ctypes.data

    def slept_ns(now_ns: int, handled: int) -> int:
        duty.words[TIMESPEC + 1] = 0
        assert not entered(turn)(duty, attention.ctypes.data, now_ns, handled)
        assert own["last_ns"] == now_ns
        return int(duty.words[TIMESPEC + 1])

    predecessor["last_ns"], other["last_ns"] = 1, 2
    assert not any(slept_ns(now_ns, handled=1) for now_ns in range(1_000, 1_000 + 2 * PATIENCE))
    slept = [slept_ns(now_ns, handled=0) for now_ns in range(5_000, 5_000 + PATIENCE)]
    assert slept == [0] * (PATIENCE - 1) + [5_000 + PATIENCE - 1]
    predecessor["last_ns"] = 3
    assert not any(slept_ns(now_ns, handled=0) for now_ns in range(9_000, 9_000 + 4 * PATIENCE))
