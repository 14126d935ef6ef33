"""The processor and its clocks, as the operating system describes them: compiled code depends on both."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CLOCK_SOURCES_FILE = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource")


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _cpuinfo(*names: str) -> set[str]:
    """The lines of these names; every core has its own, mostly all the same."""
    return {line for line in (_text(CPUINFO) or "").splitlines() if line.startswith(names)}


CPU_FLAGS = frozenset(flag for line in _cpuinfo("flags") for flag in line.partition(":")[2].split())
"""What an x86 processor says it can do; empty elsewhere, and where it is not said."""

_SOURCES = _text(CLOCK_SOURCES_FILE)
CLOCK_SOURCES = None if _SOURCES is None else tuple(_SOURCES.split())
"""The counters that the kernel thinks fit to tell the time by, the best one first; None where it does not say."""


def identity() -> str:
    """All that compiled code depends on: code for another identity may be wrong here."""
    return "|".join([*sorted(_cpuinfo("model name", "flags", "Features")), *(CLOCK_SOURCES or ())])
