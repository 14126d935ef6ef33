"""What all tests share: where the recorded data lies, and a check that nothing of ours stays in /dev/shm."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

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


@pytest.fixture(scope="session", autouse=True)
def _no_segments_left_behind() -> Iterator[None]:
    def ours() -> set[str]:
        return {path.name for glob in ("", "sem.") for path in SHM_DIRECTORY.glob(f"{glob}{NAME_PREFIX}*")}

    before = ours()
    yield
    left = ours() - before
    assert not left, f"segments or semaphores left in {SHM_DIRECTORY}: {sorted(left)}"
