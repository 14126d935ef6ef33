"""Control words: how the supervisor tells an agent what to do, and how an agent says where it is.

    command   0  command                                        the supervisor's; one record of 128 bytes an agent
    status    0  state      8 heartbeat_ns   16 cycles          the agent's process, in its page
             24  fault_code 32 ready_ns      40 synced_ns
             48  cycle_ns_max  56 stalls                        go on counting over restarts

Each word stands alone: nobody concludes from one word that another is written, so each is stored by itself and order
between them is not needed. The heartbeat is stored relaxed in every duty cycle and loaded by the supervisor a few
times a second; that it moves is all it says. The command is loaded with acquire once a cycle, inside compiled code.

An agent killed at any instruction leaves words that are whole and old: a state that it was in, a heartbeat that no
longer moves. The supervisor reaps it, then clears the words (it is their only writer while none lives), then starts
another. A supervisor killed leaves commands as they were; the agents die with it, or notice it themselves.
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
