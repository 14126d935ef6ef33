"""The fork itself, where the system refuses it."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY

REFUSED = """
import errno, os, signal
from launch.supervision import child

def state():
    return signal.pthread_sigmask(signal.SIG_BLOCK, ()), sorted(os.listdir("/proc/self/fd"))

def refuse():
    raise BlockingIOError(errno.EAGAIN, "no more processes")

os.fork, before = refuse, state()
try:
    child.fork(None, None, None, None)
except BlockingIOError:
    assert state() == before, (before, state())
    print("as it was")
"""


def test_a_fork_that_is_refused_leaves_signals_and_descriptors_as_they_were() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], capture_output=True, text=True, timeout=120, cwd=REPOSITORY,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "as it was\n"), done.stderr
