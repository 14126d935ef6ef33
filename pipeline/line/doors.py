"""Doors of a line whose idle processes sleep (launch.idle = "doorbell"): one for each process, and who rings there.

A process rings at those that share a ring with it. A door is written by its sleeper only and mapped read-only by its
ringers (`shm.doorbell`); a packed line has one, at which nobody rings.
"""

from collections.abc import Mapping, Sequence

from shm.doorbell import DOOR_LAYOUT, Bell
from shm.neighbour import Edge
from shm.segment import Layout, Segment
from stages.domain.edges import RING_ENDS


def door_segment(process: str) -> str:
    """Logical name of the segment with the door of `process`."""
    return f"door.{process}"


def door_layouts(processes: Sequence[str]) -> dict[str, Layout]:
    """A door for each process."""
    return {door_segment(process): DOOR_LAYOUT for process in processes}


def door_access(process: str, processes: Sequence[str]) -> dict[str, bool]:
    """The doors that `process` maps, and whether it may write to them: its own, and those where it rings."""
    neighbours = {end for ends in RING_ENDS.values() if process in ends for end in ends if end in processes}
    return {door_segment(other): other == process for other in sorted({process} | neighbours)}


class Bells:
    """The bells of a process, open for as long as this object lives."""

    def __init__(self, process: str, segments: Mapping[str, Segment]) -> None:
        """Open the bell of each door among `segments`, which are what `process` maps. Raises DoorbellError."""
        self._bells = {name: Bell(part.name, part.address) for name, part in segments.items() if _is_door(part)}
        self.own = self._bells[door_segment(process)].address
        self.edges = [
            Edge(self._bells[door_segment(other)].address, segments[name].address, process == writer)
            for name, (writer, reader) in RING_ENDS.items()
            if process in (writer, reader)
            and door_segment(other := reader if process == writer else writer) in segments
        ]


def _is_door(segment: Segment) -> bool:
    return segment.layout == DOOR_LAYOUT
