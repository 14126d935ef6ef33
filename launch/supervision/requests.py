"""What an operator asks of a running supervisor: restart, stop or start one stage. Answered when it has happened."""

from dataclasses import dataclass, field
from typing import Any, Literal

Action = Literal["restart", "stop", "start"]
ACTIONS: tuple[Action, ...] = ("restart", "stop", "start")


@dataclass
class Request:
    """One request. `done` turns True with either a `result` or a `problem`."""

    action: Action
    stage: str
    done: bool = False
    problem: str | None = None
    result: dict[str, Any] = field(default_factory=dict)

    def succeed(self, **result: Any) -> None:
        """It has happened."""
        self.result, self.done = {"action": self.action, "stage": self.stage, **result}, True

    def fail(self, problem: str) -> None:
        """It will not happen."""
        self.problem, self.done = problem, True
