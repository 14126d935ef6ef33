"""What ends the command line with another exit code than 0.

PipelineError            exit code, what happened, a hint
├── UsageError           2: bad usage or configuration
├── MachineRefusedError  4: the machine refused what was marked required
├── RunHeldError         5: another run holds the name
└── AnsweredError        as the run says that was asked
"""

CLEAN, DIFFERENCE, USAGE, STAGE_FAILED, REFUSED, HELD, FORCED = 0, 1, 2, 3, 4, 5, 130


class PipelineError(Exception):
    """Ends the command with `exit_code`; the text and the hint go to standard error."""

    exit_code = STAGE_FAILED

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class UsageError(PipelineError):
    """Bad usage or configuration."""

    exit_code = USAGE


class MachineRefusedError(PipelineError):
    """The machine refused what the run cannot do without."""

    exit_code = REFUSED


class RunHeldError(PipelineError):
    """Another run holds the name."""

    exit_code = HELD


class AnsweredError(PipelineError):
    """A live run refused what it was asked for, or failed at it."""

    def __init__(self, text: str, hint: str, exit_code: int) -> None:
        super().__init__(text, hint)
        self.exit_code = exit_code
