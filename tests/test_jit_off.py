"""The kernels' plain twins: the property tests pass as well with Numba's compiler switched off."""

import os
import subprocess
import sys

import pytest

from shm.atomics import JIT
from tests.conftest import REPOSITORY

LEFT_OUT = (
    "--ignore=tests/shm/interleavings",  # walk the source as plain Python with the compiler on, too
    # Not beside a line that may start and sweep:
    "--ignore=tests/shm/test_segment.py", "--ignore=tests/shm/test_inspection.py",
    "--deselect=tests/shm/test_doorbell.py::test_sweep_removes_the_semaphores_of_dead_owners_and_those_without_a_segment",
)  # fmt: skip


@pytest.mark.skipif(not JIT, reason="this run has the compiler off already")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("tests", ["tests/shm", "tests/stages/domain/orderbook tests/stages/book/test_cut.py"])
def test_the_primitives_hold_in_plain_python(tests: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests.split(), "-n0", "-p", "no:cacheprovider", *LEFT_OUT],
        cwd=REPOSITORY, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
