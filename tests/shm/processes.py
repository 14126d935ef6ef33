"""Children for tests of two and more processes: forked from the warm pytest process, pinned, killed, always reaped."""

import ctypes
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType

import pytest

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def cores() -> list[int]:
    """The cores this process may run on."""
    return sorted(os.sched_getaffinity(0))


class Deadline:
    """`check` fails the test when the time is up: what spins calls it now and then."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, 0 when the time is up."""
        return max(0.0, self._end - time.monotonic())

    def check(self, what: str) -> None:
        if not self.left():
            raise TimeoutError(f"not within {self.seconds} s: {what}")


class Children:
    """Children of this process. Whatever happens in the `with` block, none outlives it, nor this process."""

    def __init__(self) -> None:
        self._alive: dict[int, str] = {}

    def fork(self, name: str, core: int, work: Callable[[], None]) -> int:
        """A child, pinned to `core`, that does `work` and exits with 0, or with 1 and a traceback."""
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
                if os.getppid() == parent:  # else it died before prctl took hold
                    os.sched_setaffinity(0, {core})
                    work()
                    code = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        self._alive[pid] = name
        return pid

    def has_exited(self, pid: int) -> bool:
        """Whether a child is dead; it stays to be reaped."""
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self, *pids: int) -> None:
        """SIGKILL and reap. Fails when one was dead already: it has its traceback in the captured output."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            name = self._alive.pop(pid)
            assert code == -signal.SIGKILL, f"{name} ended by itself, exit code {code}"

    def join(self, pid: int, deadline: Deadline) -> None:
        """Wait until a child has exited, and reap it. Fails when its exit code is not 0."""
        descriptor = os.pidfd_open(pid)
        try:
            if not select.select([descriptor], [], [], deadline.left())[0]:
                pytest.fail(f"{self._alive[pid]} has not ended within {deadline.seconds} s")
        finally:
            os.close(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        name = self._alive.pop(pid)
        assert code == 0, f"{name} ended with exit code {code}"

    def __enter__(self) -> "Children":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self._alive:
            os.kill(pid, signal.SIGKILL)
        for pid in self._alive:
            os.waitpid(pid, 0)
        self._alive.clear()
