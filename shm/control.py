"""Control words: how the supervisor tells an agent what to do, and how an agent says where it is.

A command word is written by the supervisor only, a status record by the agent's process only; they live in different
segments. Agents look at the command once per duty cycle, inside compiled code.
"""

from enum import IntEnum

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
        ("ready_ns", "<i8"),  # when it first said READY or more, in this process; 0 before
        ("synced_ns", "<i8"),  # when it first knew again all that an earlier process of it knew; 0 before
        ("cycle_ns_max", "<i8"),  # longest duty cycle, of all its processes
        ("stalls", "<i8"),  # duty cycles longer than STALL_NS, of all its processes
    ],
    WRITER_SEPARATION_BYTES,
)

STATUS_STATE = 0
STATUS_HEARTBEAT = 8
STATUS_CYCLES = 16
STATUS_READY = 32
STATUS_SYNCED = 40
STATUS_CYCLE_MAX = 48
STATUS_STALLS = 56

STALL_NS = 1_000_000
"""Nothing that a stage does between two polls may take longer."""

EXIT_FAULT = 3
"""Exit code of a process that ended because one of its agents said that it cannot go on."""

assert STATUS.fields is not None
assert [STATUS.fields[name][1] for name in ("state", "heartbeat_ns", "cycles", "ready_ns", "synced_ns")] == [
    STATUS_STATE, STATUS_HEARTBEAT, STATUS_CYCLES, STATUS_READY, STATUS_SYNCED,
]  # fmt: skip
assert [STATUS.fields[name][1] for name in ("cycle_ns_max", "stalls")] == [STATUS_CYCLE_MAX, STATUS_STALLS]
