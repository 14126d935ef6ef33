"""The kernels' plain twins: the property tests pass as well with Numba's compiler switched off."""

import os
import subprocess
import sys

import pytest

from shm.atomics import JIT
from tests.conftest import REPOSITORY


@pytest.mark.skipif(not JIT, reason="this run has the compiler off already")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("folder", ["tests/shm", "tests/stages/domain/orderbook"])
def test_the_primitives_hold_in_plain_python(folder: str) -> None:
    done = subprocess.run(
        # The interleavings walk the source as plain Python with the compiler on, too.
        [sys.executable, "-m", "pytest", folder, "-p", "no:cacheprovider", "--ignore=tests/shm/interleavings"],
        cwd=REPOSITORY, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
