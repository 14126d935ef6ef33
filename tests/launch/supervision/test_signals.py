"""What counts as one request to stop, and what as two."""

import os
import signal
from collections.abc import Sequence

import pytest

from launch.supervision.signals import Signals

HUP, INT, TERM = signal.SIGHUP, signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("sent", "requests"),
    [((HUP, HUP), 1), ((INT,), 1), ((INT, INT), 2), ((HUP, INT), 2), ((INT, HUP), 1), ((TERM, INT), 2)],
    ids=[
        "a closed terminal",
        "Ctrl-C",
        "Ctrl-C twice",
        "closed, then Ctrl-C",
        "Ctrl-C, then closed",
        "TERM and Ctrl-C",
    ],
)
def test_requests_to_stop_are_counted_but_a_closed_terminal_is_one(
    sent: Sequence[signal.Signals], requests: int
) -> None:
    """Shell and kernel both send SIGHUP when a terminal is closed: two of them must not force."""
    with Signals() as signals:
        for number in sent:
            os.kill(os.getpid(), number)
            signals.wait(0)
        assert signals.requests == requests
