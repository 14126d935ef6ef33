"""An agent attached to private memory in place of shared segments: for stepped runs, rehearsals and tests."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.ring import format_ring
from shm.segment import Layout
from stages.agent import Agent, Array


@dataclass(frozen=True)
class PrivateSegment:
    """What agents use of a segment: where its payload is, and what it holds."""

    address: int
    layout: Layout


class PrivateSegments(dict[str, Any]):
    """Zeroed private memory for every segment that `agents` use, by logical name; rings are formatted.

    `capacities` gives rings another capacity than their layout says.
    """

    def __init__(self, agents: Iterable[Agent], capacities: dict[str, int] | None = None) -> None:
        super().__init__()
        self._blocks: list[NDArray[np.uint8]] = []
        for agent in agents:
            for use in agent.uses():
                if use.name not in self:
                    self[use.name] = self._segment(use.layout, (capacities or {}).get(use.name))

    def _segment(self, layout: Layout, capacity: int | None) -> PrivateSegment:
        block = np.zeros(layout.payload_bytes + 128, np.uint8)
        self._blocks.append(block)
        address = -(-int(block.ctypes.data) // 128) * 128
        if capacity is not None:
            format_ring(address, capacity, layout.sizes[1])
        else:
            layout.format(address)
        return PrivateSegment(address, layout)


def attach(agent: Agent, segments: PrivateSegments, clock: Array) -> Array:
    """Attach `agent`; returns its page, which is private too."""
    page = np.zeros(1, type(agent).page())
    agent.attach(segments, page, clock)
    return page
