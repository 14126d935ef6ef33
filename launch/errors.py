"""What can go wrong between a plan and a running line.

LaunchError
├── MachineError             the machine cannot give what the plan needs (memory, a required privilege)
├── PlacementError           pinned cores contradict each other or the machine
├── UnreadableError          a fact of the machine cannot be read here
└── ProcessFailedError       a supervised process ended, failed or did not become ready
"""


class LaunchError(Exception):
    """The line cannot start or go on. `hint` says what to do next."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class MachineError(LaunchError):
    """The machine cannot give what the plan needs."""


class PlacementError(LaunchError):
    """Pinned cores contradict each other or the machine."""


class UnreadableError(LaunchError):
    """A fact of the machine cannot be read: `path` is absent, closed to us, or says what nobody expects."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class ProcessFailedError(LaunchError):
    """A supervised process ended, reported a failure, or missed a deadline."""

    def __init__(self, process: str, how: str, log_tail: str = "", hint: str = "", *, refused: bool = False) -> None:
        super().__init__(f"{process} {how}", hint)
        self.process, self.how, self.log_tail = process, how, log_tail
        self.refused = refused
        """True when the process ended because the machine refused a privilege marked required."""
