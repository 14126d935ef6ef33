"""Control words: how the supervisor tells an agent what to do, and how an agent says where it is.

A command word is written by the supervisor only, a status record by the agent's process only; they live in different
segments. Agents look at the command once per duty cycle, inside compiled code.
"""

from enum import IntEnum

import numpy as np

from shm.layout import WRITER_SEPARATION_BYTES, record_dtype


class Command(IntEnum):
    """What the supervisor wants of an agent."""

    RUN = 0
    QUIESCE = 1
    """Start nothing new: bring what is under way to an end, then say QUIET."""
    STOP = 2
    """Leave the duty cycle."""


class State(IntEnum):
    """Where an agent is. Only forward moves are legal, but for QUIET and RUNNING."""

    ABSENT = 0
    STARTING = 1
    READY = 2
    """Attached, compiled and connected; it may still wait for its first input."""
    RUNNING = 3
    QUIET = 4
    """Told to quiesce, and nothing of its own is under way any more."""
    STOPPED = 5
    FAILED = 6


COMMAND = record_dtype([("command", "<i8")], WRITER_SEPARATION_BYTES)
STATUS = record_dtype(
    [
        ("state", "<i8"),
        ("heartbeat_ns", "<i8"),  # CLOCK_MONOTONIC scale, stored by the duty cycle
        ("cycles", "<i8"),
        ("fault_code", "<i8"),  # 0, or what the last poll that failed returned
    ],
    WRITER_SEPARATION_BYTES,
)

STATUS_STATE = 0
STATUS_HEARTBEAT = 8
STATUS_CYCLES = 16

assert STATUS.fields is not None
assert STATUS.fields["heartbeat_ns"][1] == STATUS_HEARTBEAT
assert np.dtype(np.int64).itemsize == 8
