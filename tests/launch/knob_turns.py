"""Turns knobs of its own process: `python -m tests.launch.knob_turns NAME=VALUE...` prints what came of it as JSON.

For each knob: the value read before, the finding of the attempt, the value read after it and after the undo. In between
a little is allocated and a thread started, and their fate is told: a knob must not make either fail.
"""

import json
import mmap
import os
import sys
import threading
from typing import Any

from launch.knobs.schedule import KNOBS
from launch.knobs.scheduling import policy_of


def turn(name: str, value: int) -> dict[str, Any]:
    """One knob, there and back."""
    knob = KNOBS[name]
    before = knob.read()
    finding = knob.attempt(value)
    after, policy = knob.read(), policy_of(0)
    with mmap.mmap(-1, 16 << 20) as memory:
        memory[0] = 1
    seen: list[Any] = []
    thread = threading.Thread(
        target=lambda: seen.extend((policy_of(threading.get_native_id()), _nice(threading.get_native_id())))
    )
    thread.start()
    thread.join()
    flags = os.sched_getscheduler(0) & os.SCHED_RESET_ON_FORK
    knob.undo(before)
    return {
        "before": before, "finding": finding and finding.document(), "after": after, "policy": policy,
        "thread": seen, "reset_on_fork": bool(flags), "undone": knob.read(),
    }  # fmt: skip


def _nice(thread: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


if __name__ == "__main__":
    arguments = [argument.split("=") for argument in sys.argv[1:]]
    print(json.dumps({name: turn(name, int(value)) for name, value in arguments}))
