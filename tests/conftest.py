"""What all tests share: where the recorded data lies, and a check that nothing of ours stays in /dev/shm."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from shm.atomics import JIT
from shm.segment import NAME_PREFIX, SHM_DIRECTORY

# The first call of a kernel compiles it: a deadline per example would judge the compiler and the machine. With the
# compiler off kernels are a hundred times slower, and what is looked for is where their plain twins differ.
hypothesis.settings.register_profile("tickpipe", deadline=None, print_blob=True, max_examples=100 if JIT else 15)
hypothesis.settings.load_profile("tickpipe")

# Started in the background of a shell, we would ignore Ctrl-C, and so would every command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests start some hundred commands: our sources are not to be compiled to bytecode by each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

REPOSITORY = Path(__file__).parent.parent
SEGMENTS_BEFORE = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """The folder of recorded market data: $TICKPIPE_DATA, or ../shared/data. Skips the test where there is none."""
    folder = Path(os.environ.get("TICKPIPE_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "binance").is_dir():
        pytest.skip(f"recorded market data absent: no {folder}/binance; set TICKPIPE_DATA to its folder")
    return folder


@pytest.fixture
def until() -> Callable[..., None]:
    """until(condition, seconds, what): waits for a condition, fails with `what` at the deadline."""

    def wait(condition: Callable[[], object], seconds: float = 20.0, what: str = "condition") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {what}")
            time.sleep(0.005)

    return wait


OF_THE_MACHINE = (
    "e2e/", "chaos/", "bench/", "shm/test_segment.py", "shm/test_inspection.py",
    "shm/test_doorbell.py::test_sweep",
)  # fmt: skip
"""Tests that need what a machine has one of: its cores, for a line of stages; /dev/shm, where a start sweeps away what
the dead have left, and what is meant to look like it."""


FIRST = ("test_jit_off.py", "shm/", "launch/")
"""Of the others, those that compile little of what lines are made of, while the first lines compile it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.removeprefix("tests/").startswith((*OF_THE_MACHINE, *FIRST)))


class TwoLanes(LoadScopeScheduling):
    """One worker has all tests of the machine, one after the other; the other has the rest beside it."""

    def _split_scope(self, nodeid: str) -> str:
        return "the machine" if nodeid.removeprefix("tests/").startswith(OF_THE_MACHINE) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoLanes:
    return TwoLanes(config, log)


def _segments() -> set[str]:
    return {path.name for glob in ("", "sem.") for path in SHM_DIRECTORY.glob(f"{glob}{NAME_PREFIX}*")}


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[SEGMENTS_BEFORE] = _segments()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing of ours stays in /dev/shm. Whoever started the workers looks, when none is at it any more."""
    left = _segments() - session.config.stash[SEGMENTS_BEFORE]
    if left and "PYTEST_XDIST_WORKER" not in os.environ:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nsegments or semaphores left in {SHM_DIRECTORY}: {sorted(left)}")
