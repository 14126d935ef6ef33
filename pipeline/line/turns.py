"""Who takes turns with whom: the processes of a line that yield one core to each other, in the order of the line.

Each has a stamp, which it alone writes, and maps those of the others read-only (`shm.turns`).
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from launch.placement.affinity import CoreMap
from shm.segment import Layout, Segment
from shm.turns import ALONE, TURN_LAYOUT, words_of

_PREFIX = "turn."


def turn_access(process: str, cores: CoreMap) -> dict[str, bool]:
    """The stamps that `process` maps, and whether it may write to them; none where it has its core to itself."""
    own = cores.pollers[process]
    sharing = [name for name, core in cores.pollers.items() if (core.cpu, core.idle) == (own.cpu, "yield")]
    return {_PREFIX + name: name == process for name in sharing} if own.idle == "yield" and len(sharing) > 1 else {}


def turn_layouts(segments: Iterable[str]) -> dict[str, Layout]:
    """The layout of each stamp among these segments."""
    return {name: TURN_LAYOUT for name in segments if name.startswith(_PREFIX)}


def turn_words(process: str, line: Iterable[str], segments: Mapping[str, Segment]) -> NDArray[np.int64]:
    """The words by which `process` keeps its place; `line`: all processes in the order of the line."""
    stamps = [name for name in line if _PREFIX + name in segments]
    if process not in stamps:
        return ALONE
    place = stamps.index(process)
    others = [segments[_PREFIX + name].address for name in stamps if name != process]
    return words_of(segments[_PREFIX + process].address, others, predecessor=place - 1)
