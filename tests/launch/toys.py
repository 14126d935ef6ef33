"""A supervised line of toy processes, run as a program of its own: the supervisor forks, a test runner has threads.

`python -m tests.launch.toys FOLDER DURATION_S SETTINGS BEHAVIOUR...` runs an agent per BEHAVIOUR and prints the outcome
as JSON. SETTINGS are those of the launcher that differ from `settings_of`, as JSON.

    good            says READY, then QUIET and STOPPED as told
    dies            READY, then ends by SIGKILL
    dies-once       the same, but the process that comes after it is good
    exits           READY, then leaves with code 9
    fails           READY, then says FAILED and leaves with code 3
    raises          raises before it is ready
    never-ready     lives, says nothing
    hangs           READY, then no heartbeat any more
    ignores         READY, and deaf to commands and SIGTERM
    ends-with-N     good, but leaves with code N
"""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from launch.host.rt_guard import RtGuard
from launch.host.topology import read_topology
from launch.placement.affinity import place
from launch.plan import COMMAND_SEGMENT, Line, Plan, build_plan, page_segment
from launch.settings import LaunchSettings
from launch.supervision.child import Entry
from launch.supervision.signals import Signals
from launch.supervision.supervisor import Supervisor
from shm.atomics import peek, poke
from shm.control import COMMAND, STATUS, STATUS_HEARTBEAT, STATUS_READY, STATUS_STATE, STATUS_SYNCED, Command, State
from shm.segment import Layout, Segment, record_layout, ring_layout

RING = "toy-ring"

DEFAULTS: dict[str, Any] = {
    "start_deadline_s": 1.0, "quiet_deadline_s": 2.0, "drain_deadline_s": 0.5, "stop_deadline_s": 0.5,
    "heartbeat_warning_s": 0.3, "heartbeat_failure_s": 1.0, "fifo": "never", "restart": "never",
}  # fmt: skip
"""Launcher settings of the toys."""


def layouts(agents: tuple[str, ...]) -> dict[str, Layout]:
    """A page per agent, the command words, one ring."""
    pages = {page_segment(agent): record_layout(STATUS) for agent in agents}
    return pages | {COMMAND_SEGMENT: record_layout(COMMAND, len(agents)), RING: ring_layout(STATUS, 8)}


def toy_plan(run: str, agents: tuple[str, ...], settings: LaunchSettings) -> Plan:
    """Each agent in a process of its own; the first two share the ring."""
    access = {
        agent: {page_segment(agent): True, COMMAND_SEGMENT: False} | ({RING: True} if index < 2 else {})
        for index, agent in enumerate(agents)
    }
    line = Line(
        hosted={agent: (agent,) for agent in agents},
        agents=agents,
        start_order=agents,
        segments=layouts(agents),
        access=access,
        quiesce_order=((agents[0], True),),
        source=agents[0],
        stop_order=agents[1:],
        outlives=frozenset({agents[-1]}),
    )
    # Toys sleep: no throttle of real-time work touches them, and FIFO is to be tried on any kernel.
    topology = replace(read_topology(), rt_guard=RtGuard())
    return build_plan(run, line, place(agents, topology), settings)


def toy_entry(agent: str, index: int, behaviour: str, folder: Path) -> Entry:
    """What the agent's process does."""

    def entry(segments: Mapping[str, Segment]) -> int:
        status = segments[page_segment(agent)].address
        command = segments[COMMAND_SEGMENT].address + COMMAND.itemsize * index
        if behaviour == "raises":
            raise RuntimeError("a toy that raises")
        print(f"{agent} is {behaviour}")
        if behaviour == "ignores":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        poke(status + STATUS_STATE, State.STARTING if behaviour == "never-ready" else State.RUNNING)
        now_ns = time.monotonic_ns()
        poke(status + STATUS_READY, now_ns)
        poke(status + STATUS_SYNCED, now_ns)
        again = (folder / agent).exists()
        (folder / agent).touch()
        born = time.monotonic()
        while True:
            time.sleep(0.002)
            old = time.monotonic() - born > 0.2
            if old and (behaviour == "dies" or (behaviour == "dies-once" and not again)):
                os.kill(os.getpid(), signal.SIGKILL)
            if old and behaviour == "exits":
                return 9
            if old and behaviour == "fails":
                poke(status + STATUS_STATE, State.FAILED)
                return 3
            if not (old and behaviour == "hangs"):
                poke(status + STATUS_HEARTBEAT, time.monotonic_ns())
            if behaviour in ("ignores", "never-ready"):
                continue
            if peek(command) == Command.QUIESCE:
                poke(status + STATUS_STATE, State.QUIET)
            if peek(command) == Command.STOP:
                poke(status + STATUS_STATE, State.STOPPED)
                return int(behaviour.removeprefix("ends-with-")) if behaviour.startswith("ends-with-") else 0

    return entry


def main() -> None:
    """Run the toys; see the module's docstring."""
    folder, duration_s, changed, *behaviours = sys.argv[1:]
    run = f"toys-{os.getpid()}"
    agents = tuple(f"toy{index}" for index in range(len(behaviours)))
    settings = LaunchSettings(**DEFAULTS | json.loads(changed))
    plan = toy_plan(run, agents, settings)
    entries = {
        agent: toy_entry(agent, index, behaviour, Path(folder))
        for index, (agent, behaviour) in enumerate(zip(agents, behaviours, strict=True))
    }
    said: list[str] = []
    announced = False
    with Signals() as signals, Supervisor(plan, entries, signals, Path(folder), say=said.append) as supervisor:
        supervisor.create_segments()

        def announce() -> None:
            nonlocal announced
            if not announced:
                announced = True
                print(json.dumps({"pids": [child.pid for child in supervisor.children.values()]}), flush=True)

        outcome = supervisor.run(lambda: None, duration_s=float(duration_s) or None, tick=announce)
        facts = {name: asdict(fact) for name, fact in supervisor.facts.items()}
    failure = outcome.failure
    print(
        json.dumps(
            {
                "exit": outcome.exit,
                "reason": outcome.reason,
                "failure": failure and {"process": failure.process, "how": failure.how, "tail": failure.log_tail},
                "notes": outcome.notes,
                "said": said,
                "findings": [finding.id for finding in supervisor.findings],
                "facts": facts,
                "restarts": [asdict(restart) for restart in supervisor.restarts],
                "states": {name: child.state.value for name, child in supervisor.children.items()},
                "left": [path.name for path in Path("/dev/shm").glob(f"tickpipe.{run}.*")],
            }
        )
    )


if __name__ == "__main__":
    main()
