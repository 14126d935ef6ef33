"""Signals and pipes of the supervisor in one place to wait at: a wakeup pipe, the children's notify pipes, a time-out.

Ctrl-C, SIGTERM and SIGHUP are requests to stop, counted; the second one forces. While `interruptible` is set (during
configuration and compilation, where nothing waits here) a request also raises KeyboardInterrupt.
"""

import contextlib
import os
import selectors
import signal
from collections.abc import Callable
from types import FrameType, TracebackType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Context manager: handlers and wakeup pipe are installed within, and restored after."""

    def __init__(self) -> None:
        self.requests = 0
        """Requests to stop so far."""
        self.interruptible = False
        self._selector = selectors.DefaultSelector()
        self._previous: dict[signal.Signals, object] = {}
        self._pipe = (-1, -1)
        self._attending: list[Callable[[], None]] = []

    def __enter__(self) -> "Signals":
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._pipe[0], selectors.EVENT_READ, self._drain)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            self._previous[number] = signal.signal(number, self._handle)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned
        self._selector.close()
        for descriptor in self._pipe:
            os.close(descriptor)

    def request_stop(self) -> None:
        """Like a first signal; after one it changes nothing, so that it never forces."""
        self.requests = max(self.requests, 1)

    def listen(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` from `wait` whenever `descriptor` can be read."""
        self._selector.register(descriptor, selectors.EVENT_READ, ready)

    def forget(self, descriptor: int) -> None:
        """Listen to it no more; no error when it is closed or was forgotten already."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)

    def attend(self, act: Callable[[], None]) -> None:
        """Call `act` after each wait from now on: for what listens and also has deadlines."""
        self._attending.append(act)

    def wait(self, timeout_s: float) -> None:
        """Until a signal, a message, or the time is over."""
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            key.data()
        for act in self._attending:
            act()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return  # its byte in the pipe has woken the loop, which reaps by pid
        self.requests += 1
        if self.interruptible:
            raise KeyboardInterrupt

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe[0], 4096)
