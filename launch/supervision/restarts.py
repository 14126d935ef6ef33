"""Whether a process that failed is started again, and when: a policy, and the memory of what happened before.

A crash (a signal, an unexpected exit), a hang (no heartbeat) and a start that takes too long say nothing about the next
try, so it is made: at once the first time, then after pauses that double, and not more often than the limit allows in a
minute. A fault is different: the stage itself said that it cannot go on (its strategy raised, its kernel found what
must not be), and would say so again with orders at the venue. It is only tried again where the policy is `always`.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Literal

WINDOW_S = 60.0

When = Literal["limited", "always", "never"]


class Failure(Enum):
    """How a process failed, as the supervisor tells it apart."""

    CRASH = "crash"
    """Ended by a signal, or with an exit code that nobody chose."""
    HANG = "hang"
    """Lives, but its duty cycle stands still; killed."""
    FAULT = "fault"
    """Said itself that it cannot go on."""
    LATE = "late"
    """Not ready within the start deadline; killed."""
    REFUSED = "refused"
    """The machine refused a privilege that is marked required."""


@dataclass(frozen=True)
class RestartPolicy:
    """When a failed process is started again."""

    when: When
    per_minute_max: int
    backoff_s_min: float
    backoff_s_max: float


class Restarts:
    """The restarts of one process."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._failed_s: deque[float] = deque()

    def pause_s(self, failure: Failure, now_s: float) -> float | str:
        """Seconds until it is started again, or why it is not."""
        policy = self._policy
        while self._failed_s and now_s - self._failed_s[0] >= WINDOW_S:
            self._failed_s.popleft()
        if policy.when == "never" or failure is Failure.REFUSED:
            return "it is not started again"
        if policy.when == "limited" and failure is Failure.FAULT:
            return "it said itself that it cannot go on"
        before = len(self._failed_s)
        if policy.when == "limited" and before >= policy.per_minute_max:
            return f"it was restarted {before} times within a minute already"
        self._failed_s.append(now_s)
        return 0.0 if before == 0 else min(policy.backoff_s_min * 2 ** min(before - 1, 30), policy.backoff_s_max)
