"""What a stage can reach: exactly the segments of its plan, and no way to write what it only reads."""

import ctypes
import errno
import mmap
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.plan import COMMAND_SEGMENT, page_segment
from pipeline.line.placement import STAGES
from shm import catalogue
from shm.atomics import poke
from shm.segment import NAME_PREFIX, Segment
from stages.domain.edges import CHECK_REQUESTS
from tests.e2e.conftest import Runs, stage_pids

pytestmark = pytest.mark.timeout(400)

READ, READ_WRITE = "r--s", "rw-s"


def _mapped(pid: int) -> dict[str, set[str]]:
    """Segment, as it is called in /dev/shm: the permissions of its mappings in process `pid`."""
    mapped: dict[str, set[str]] = {}
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="ascii").splitlines():
        if NAME_PREFIX in line:
            _, permissions, _, _, _, path = line.split(maxsplit=5)
            mapped.setdefault(Path(path).name, set()).add(permissions)
    return mapped


def _by_stage(supervisor: int) -> dict[str, dict[str, set[str]]]:
    """Stage: what its process maps."""
    return {
        stage: {name.split(".", 2)[2]: permissions for name, permissions in _mapped(pid).items()}
        for stage, pid in stage_pids(supervisor).items()
    }


def _how_it_ends(work: Callable[[], None]) -> int:
    """Exit code of a child that does `work`, negative when a signal ended it."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.close(2)  # the test runner's fault handler would print a stack
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _make_writable(segment: Segment) -> int:
    """What the operating system says to a process that wants to write what it mapped for reading."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = ctypes.c_void_p(segment.address // mmap.PAGESIZE * mmap.PAGESIZE)
    result = libc.mprotect(page, ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE)
    return ctypes.get_errno() if result else 0


def test_every_stage_maps_exactly_its_plan_and_cannot_write_what_it_reads(
    pipeline: Runs, until: Callable[..., None], tmp_path: Path
) -> None:
    plan = pipeline.run("up", "--dry-run", "--json").report
    said = tmp_path / "words"
    with said.open("w") as words:
        process = pipeline.start("up", "--duration", "100s", "--json", stderr=words)
    until(lambda: re.search(r"^market data [1-9]", said.read_text(), re.MULTILINE), 220, "the line trades")
    stages = _by_stage(process.pid)
    assert set(stages) == set(STAGES)
    for stage, mapped in stages.items():
        planned = {name: {READ} for name in plan["processes"][stage]["reads"]}
        planned |= {name: {READ_WRITE} for name in plan["processes"][stage]["writes"]}
        assert mapped == planned, stage
    _assert_separate(stages)

    run = re.search(r"^run (\S+):", said.read_text(), re.MULTILINE)
    assert run is not None
    read_only = {name for mapped in stages.values() for name, permissions in mapped.items() if permissions == {READ}}
    assert {COMMAND_SEGMENT, CHECK_REQUESTS, "bbo"} <= read_only
    for name in sorted(read_only):
        with Segment.observe(f"{NAME_PREFIX}{run[1]}.{name}") as segment:
            assert _how_it_ends(lambda segment=segment: poke(segment.address, 1)) == -signal.SIGSEGV, name
            assert _make_writable(segment) == errno.EACCES, name
    process.send_signal(signal.SIGINT)
    done = pipeline.finish(process)
    assert (done.code, done.report["exit"]) == (0, "clean")


def _assert_separate(stages: dict[str, dict[str, set[str]]]) -> None:
    """Of what the plan itself must not grant."""
    assert not {"risk-router", "router-risk", catalogue.NAME} & stages["strategy"].keys()
    for stage, mapped in stages.items():
        assert {name for name in mapped if name.startswith("page.")} == {page_segment(stage)}
        assert mapped[COMMAND_SEGMENT] == {READ}
    for name in {name for mapped in stages.values() for name in mapped} - {COMMAND_SEGMENT, CHECK_REQUESTS}:
        users = [stage for stage, mapped in stages.items() if mapped.get(name) == {READ_WRITE}]
        assert len(users) == (2 if "-" in name else 1), f"{name} is written by {users}"  # a ring has two ends
