"""The life of a supervised process: one table of states and allowed moves.

planned ──▶ starting ──▶ ready ──▶ stopping ──▶ ended        ended ──▶ starting: an operator started it again
               └────────────┴────▶ failed ──▶ waiting        waiting ──▶ starting: by its restart policy
"""

from enum import Enum


class ProcessState(Enum):
    """Where a supervised process is, as the supervisor sees it."""

    PLANNED = "planned"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    ENDED = "ended"
    """Gone, having been told to leave."""
    FAILED = "failed"
    """Ended, or was given up, without having been told to stop."""
    WAITING = "waiting"
    """Failed, and will be started again when its pause is over."""


ALLOWED: dict[ProcessState, frozenset[ProcessState]] = {
    ProcessState.PLANNED: frozenset({ProcessState.STARTING}),
    ProcessState.STARTING: frozenset({ProcessState.READY, ProcessState.STOPPING, ProcessState.FAILED}),
    ProcessState.READY: frozenset({ProcessState.STOPPING, ProcessState.FAILED}),
    ProcessState.STOPPING: frozenset({ProcessState.ENDED, ProcessState.FAILED}),
    ProcessState.ENDED: frozenset({ProcessState.STARTING}),
    ProcessState.FAILED: frozenset({ProcessState.WAITING}),
    ProcessState.WAITING: frozenset({ProcessState.STARTING, ProcessState.ENDED}),
}


def moved(process: str, current: ProcessState, following: ProcessState) -> ProcessState:
    """`following`, when the table allows the move; a move it does not allow is a bug of the supervisor's."""
    assert following in ALLOWED[current], f"process={process}: {current.value} to {following.value} is not allowed"
    return following
