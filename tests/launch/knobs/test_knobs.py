"""Each knob, in a real process: what it reads, sets, refuses and puts back."""

import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launch.host.machine import IPC_LOCK, SYS_NICE
from launch.knobs import scheduling
from launch.knobs.cpu_latency import CpuLatency
from launch.knobs.knob import has_capability
from launch.knobs.memory_policy import NODE_BITS, LocalMemory
from tests.conftest import REPOSITORY

CORE = min(os.sched_getaffinity(0))
UNPRIVILEGED = ("--bounding-set=-sys_nice,-ipc_lock",)
POOR = {resource.RLIMIT_RTPRIO: 0, resource.RLIMIT_NICE: 0, resource.RLIMIT_MEMLOCK: 65_536}

may_raise_priority = pytest.mark.skipif(not has_capability(SYS_NICE), reason="needs CAP_SYS_NICE")
may_lock_memory = pytest.mark.skipif(not has_capability(IPC_LOCK), reason="needs CAP_IPC_LOCK")


def turns(*knobs: str, before: Sequence[str] = (), limits: dict[int, int] | None = None) -> Any:
    def limit() -> None:
        for which, value in (limits or {}).items():
            resource.setrlimit(which, (value, value))

    done = subprocess.run(
        [*before, sys.executable, "-m", "tests.launch.knob_turns", *knobs],
        capture_output=True, text=True, cwd=REPOSITORY, preexec_fn=limit, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unprivileged(*knobs: str) -> Any:
    """As a user without rights would: root loses the capabilities, others have none."""
    return turns(*knobs, before=("setpriv", *UNPRIVILEGED) if os.geteuid() == 0 else (), limits=POOR)


def test_affinity_is_set_and_put_back() -> None:
    turned = turns(f"affinity={CORE}")["affinity"]
    assert (turned["finding"], turned["after"], turned["undone"]) == (None, CORE, turned["before"])


def test_a_core_that_is_not_there_is_a_finding() -> None:
    turned = turns("affinity=1000")["affinity"]
    assert turned["finding"]["id"] == "affinity"
    assert "pinning to core 1000 was refused" in turned["finding"]["what"]
    assert turned["after"] == turned["before"]


def test_timer_slack_is_set_and_put_back() -> None:
    turned = turns("timer_slack=1")["timer_slack"]
    assert (turned["finding"], turned["after"], turned["undone"]) == (None, 1, turned["before"])
    assert turned["before"] > 1


@may_raise_priority
def test_fifo_is_taken_by_a_pinned_process_and_not_by_its_threads() -> None:
    done = turns(f"affinity={CORE}", "fifo=1", before=("taskset", "-c", str(CORE)))["fifo"]
    assert (done["finding"], done["policy"], done["after"], done["reset_on_fork"]) == (None, ["fifo", 1], 1, True)
    assert done["thread"][0] == ["other", 0]
    assert done["undone"] == 0


@may_raise_priority
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="every process is on the one core")
def test_fifo_is_not_taken_by_a_process_that_could_move() -> None:
    done = turns("fifo=1")["fifo"]
    assert "could not be pinned" in done["finding"]["what"]
    assert done["policy"] == ["other", 0]


@may_raise_priority
def test_nice_is_set_and_its_threads_do_not_inherit_it() -> None:
    base = os.getpriority(os.PRIO_PROCESS, 0)
    done = turns("nice=-10", before=("nice", "-n", str(-base)))["nice"]
    assert (done["before"], done["finding"], done["after"], done["reset_on_fork"]) == (0, None, -10, True)
    assert done["thread"] == [["other", 0], 0]
    assert done["undone"] == 0


def test_who_is_started_nice_stays_so() -> None:
    level = max(5, os.getpriority(os.PRIO_PROCESS, 0))
    done = turns("nice=-10", before=("nice", "-n", str(level - os.getpriority(os.PRIO_PROCESS, 0))))["nice"]
    assert f"started with nice {level}" in done["finding"]["what"]
    assert done["after"] == level


@may_lock_memory
def test_memory_is_locked_and_later_allocations_still_succeed() -> None:
    done = turns("memory_lock=1")["memory_lock"]
    assert (done["before"], done["finding"], done["after"], done["undone"]) == (0, None, 1, 0)


def test_what_an_ordinary_user_may_not_do_is_refused_with_what_would_grant_it() -> None:
    done = unprivileged("fifo=50", "nice=-10", "memory_lock=1")
    for name, grant in (("fifo", "ulimit -r 50"), ("nice", "limit of -10"), ("memory_lock", "ulimit -l unlimited")):
        assert done[name]["finding"]["id"] == name
        assert grant in done[name]["finding"]["hint"]
        assert done[name]["after"] == done[name]["before"] == done[name]["undone"]
    assert "RLIMIT_MEMLOCK=65536 bytes" in done["memory_lock"]["finding"]["what"]


@pytest.mark.skipif(LocalMemory().check(0) is not None, reason="no memory policies in this kernel or container")
def test_the_memory_policy_is_set_and_put_back() -> None:
    done = turns("local_memory=0")["local_memory"]
    assert (done["before"], done["finding"], done["after"], done["undone"]) == (-1, None, 0, -1)
    refused = turns("local_memory=63")["local_memory"]
    assert refused["finding"]["id"] == "local_memory"


@pytest.mark.skipif(LocalMemory().check(0) is not None, reason="no memory policies in this kernel or container")
def test_a_memory_policy_is_held_for_a_while_where_it_is_granted() -> None:
    knob = LocalMemory()
    before = knob.read()
    for node, inside in ((0, 0), (None, before), (NODE_BITS - 1, before)):
        with knob.held(node):
            assert knob.read() == inside
        assert knob.read() == before


def test_the_latency_of_idle_cores_is_asked_for_by_an_open_file(tmp_path: Path) -> None:
    device = tmp_path / "cpu_dma_latency"
    device.touch()
    knob = CpuLatency(device)

    def held() -> int:
        return sum(os.path.realpath(path) == str(device) for path in Path("/proc/self/fd").iterdir())

    assert (knob.read(), knob.attempt(3), knob.read(), held()) == (-1, None, 3, 1)
    assert struct.unpack("=i", device.read_bytes()) == (3,)
    knob.undo(-1)
    assert (knob.read(), held()) == (-1, 0)


def test_a_device_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    finding = CpuLatency(tmp_path / "absent").attempt(3)
    assert finding is not None
    assert "this kernel or container has none" in finding.what
    assert "udev" in finding.hint


def test_the_policy_of_a_process_is_read_back() -> None:
    assert scheduling.policy_of(os.getpid()) == ("other", 0)
    assert scheduling.policy_of(2**22 + 1) == ("unknown", 0)
