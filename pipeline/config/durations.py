"""Durations as users write them: 500ms, 10s, 2m, 1h; a bare number is seconds."""

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)")


def parse_duration_s(text: str) -> float:
    """Seconds. Raises ValueError for what is not a duration or is 0."""
    match = _PATTERN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write 500ms, 10s, 2m or 1h")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds <= 0:
        raise ValueError(f"{text!r} must be above 0")
    return seconds
