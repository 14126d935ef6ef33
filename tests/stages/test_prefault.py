"""Every page of an agent's private memory is the process's own before the first poll."""

import mmap
import os
import re
from pathlib import Path

import numpy as np
import pytest

from shm import huge_pages
from shm.huge_pages import HUGE_PAGE_BYTES
from stages.prefault import fault_in
from stages.risk.agent import RiskAgent
from stages.risk.settings import RiskSettings
from tests.stages.private_memory import instruments


class Holder:
    """Like an agent: arrays as attributes, in containers, behind other objects."""

    def __init__(self) -> None:
        self.large = np.zeros(64 * mmap.PAGESIZE, np.uint8)
        self.inner = [{"table": np.arange(5_000)}]
        self.part = self.inner[0]["table"][10:20]
        self.names = ["a name", b"another", 3, None]
        self.for_reading = np.arange(5_000)
        self.for_reading.flags.writeable = False
        self.text = np.frombuffer(b"not ours to write", np.uint8)
        self.itself = self


Holder.__module__ = "stages.test"


def _smaps_kb(address: int, what: str) -> int:
    """A figure of the mapping that holds `address`, in kB (Linux, proc(5))."""
    found = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="ascii").splitlines():
        bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if bounds:
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith(f"{what}:"):
            found = int(line.split()[1])
    return found


def test_all_pages_are_written_and_hold_what_they_held() -> None:
    holder = Holder()
    table = holder.inner[0]["table"].copy()
    assert fault_in(holder) == holder.large.nbytes + table.nbytes
    assert not holder.large.any()
    assert (holder.inner[0]["table"] == table).all()


def test_after_a_fork_the_pages_are_the_childs_own() -> None:
    holder = Holder()
    holder.large[:] = 7
    child = os.fork()
    if child == 0:
        fault_in(holder)
        os._exit(0 if _smaps_kb(holder.large.ctypes.data, "Private_Dirty") * 1024 >= holder.large.nbytes else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_after_a_fork_large_tables_lie_in_huge_pages_and_hold_what_they_held() -> None:
    probe = mmap.mmap(-1, 4 * HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    at = int(np.frombuffer(probe, np.uint8).ctypes.data)
    if not huge_pages.move(at, len(probe)):
        pytest.skip("this kernel gives no huge pages")
    holder = Holder()
    holder.large = np.zeros(16 * HUGE_PAGE_BYTES, np.uint8)
    holder.large[: 8 * HUGE_PAGE_BYTES] = 7  # the parent's since then, the other half nobody's
    child = os.fork()
    if child == 0:
        fault_in(holder)
        is_same = (holder.large[: 8 * HUGE_PAGE_BYTES] == 7).all() and not holder.large[8 * HUGE_PAGE_BYTES :].any()
        inner = (
            holder.large.ctypes.data + HUGE_PAGE_BYTES
        )  # a mapping of its own, without the broken pages at both ends
        is_huge = _smaps_kb(inner, "AnonHugePages") * 1024 >= 15 * HUGE_PAGE_BYTES
        os._exit(0 if is_same and is_huge else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_agents_tables_are_found() -> None:
    agent = RiskAgent(instruments(), RiskSettings(), "conflate")
    assert fault_in(agent) >= agent.context.working.nbytes + agent.context.exposures.nbytes
