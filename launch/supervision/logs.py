"""How a process ended, and the end of what it wrote."""

import signal
from pathlib import Path

TAIL_LINES = 15
TAIL_BYTES = 8_192


def describe_exit(code: int) -> str:
    """Words for an exit code; a negative one is a signal."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"was ended by signal {-code} ({name})"


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log file; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
