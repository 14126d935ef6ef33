"""Doors of a line whose idle processes sleep (launch.idle = "doorbell"): one for each process, and who rings there.

Who has handled something rings at all processes that share a ring with it: for the records that it published, and for
the room that it made. A door is written by its sleeper only and mapped read-only by its ringers (`shm.doorbell`).
"""

from collections.abc import Mapping

from shm.doorbell import DOOR_LAYOUT, Bell
from shm.segment import Layout, Segment

Access = dict[str, dict[str, bool]]
"""Process: the segments it maps, and whether it may write to them."""


def door_segment(process: str) -> str:
    """Logical name of the segment with the door of `process`."""
    return f"door.{process}"


def door_layouts(access: Access) -> dict[str, Layout]:
    """A door for each process."""
    return {door_segment(process): DOOR_LAYOUT for process in access}


def with_doors(access: Access, layouts: Mapping[str, Layout]) -> Access:
    """`access` with each process's own door, and the doors of the processes that share a ring with it."""
    rings = {
        process: {name for name in segments if layouts[name].kind == "ring"} for process, segments in access.items()
    }
    return {
        process: segments | {door_segment(other): other == process for other in access if rings[process] & rings[other]}
        for process, segments in access.items()
    }


def open_bells(process: str, segments: Mapping[str, Segment]) -> tuple[Bell, list[Bell]] | None:
    """(own bell, the neighbours' bells) for the doors among the segments of `process`; None when it has none."""
    own = door_segment(process)
    if own not in segments:
        return None
    bells = {name: Bell(part.name, part.address) for name, part in segments.items() if part.layout == DOOR_LAYOUT}
    return bells.pop(own), list(bells.values())
