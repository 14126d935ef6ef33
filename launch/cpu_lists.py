"""The kernel's list format for cores: "0-3,7"."""

from collections.abc import Iterable
from pathlib import Path


def parse_cpu_list(text: str) -> frozenset[int]:
    """ "0-3,7" is {0, 1, 2, 3, 7}. Raises ValueError for what is no list, such as the "(null)" of older kernels."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


def read_cpu_list(path: Path) -> frozenset[int]:
    """The list in a file; empty when there is no such file, or no list in it."""
    try:
        return parse_cpu_list(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return frozenset()


def cpu_list(cores: Iterable[int]) -> str:
    """{0, 1, 2, 3, 7} is "0-3,7"."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
