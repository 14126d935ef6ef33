"""The kernel's list format for cores: "0-3,7"."""

from collections.abc import Iterable


def parse_cpu_list(text: str) -> frozenset[int]:
    """ "0-3,7" is {0, 1, 2, 3, 7}. Raises ValueError for what is no list, such as the "(null)" of older kernels."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


def cpu_list(cores: Iterable[int]) -> str:
    """{0, 1, 2, 3, 7} is "0-3,7"."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
