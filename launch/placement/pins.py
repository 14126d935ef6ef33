"""Cores that the configuration demands: what contradicts itself or the machine is an error with a hint."""

from collections.abc import Mapping, Sequence

from launch.errors import PlacementError
from launch.host.cpu_lists import cpu_list
from launch.host.topology import Topology


def check_pins(pollers: Sequence[str], topology: Topology, pins: Mapping[str, int], housekeeping: int | None) -> None:
    """`pins` is {process: core}; None for a housekeeping core that is free to be chosen. Raises PlacementError."""
    for name in pins:
        if name not in pollers:
            raise PlacementError(
                f"launch.cores.{name}: this run has no such process", f"its processes are {', '.join(pollers)}"
            )
    wanted = {f"launch.cores.{name}": core for name, core in pins.items()}
    if housekeeping is not None:
        wanted["launch.housekeeping_core"] = housekeeping
    for key, core in wanted.items():
        if core not in topology.usable:
            raise PlacementError(
                f"{key} = {core}: core {core} is not usable by this process",
                f"usable: {cpu_list(topology.usable)} (online, and allowed by affinity and control group)",
            )
    if topology.core_limit < len(topology.usable):
        _check_limit(topology, pins, housekeeping)
    if pins and topology.core_limit > 1:
        _check_housekeeping(topology, pins, housekeeping)
        _check_shared(pollers, topology, pins)


def _check_housekeeping(topology: Topology, pins: Mapping[str, int], housekeeping: int | None) -> None:
    for name, core in pins.items():
        if core == housekeeping:
            raise PlacementError(
                f"launch.cores.{name} = {core} is also launch.housekeeping_core",
                "one busy neighbour costs a stage milliseconds: give one of them another core of "
                f"{cpu_list(topology.usable)}",
            )
    if housekeeping is None and set(pins.values()) == set(topology.usable):
        raise PlacementError(
            f"launch.cores takes all usable cores ({cpu_list(topology.usable)}): none is left for the housekeeping",
            "pin two processes to one core, or leave some unpinned",
        )


def _check_limit(topology: Topology, pins: Mapping[str, int], housekeeping: int | None) -> None:
    # With one core, the housekeeping is on it too.
    pinned = len(set(pins.values()) | ({housekeeping} if housekeeping is not None else set()))
    used = pinned + (housekeeping is None and topology.core_limit > 1)
    if used > topology.core_limit:
        raise PlacementError(
            f"launch.cores and the housekeeping take {used} cores, the CPU quota of the control group grants "
            f"{topology.quota_cores:g}: all would stop together when it is used up",
            f"use at most {topology.core_limit} cores, or raise the quota",
        )


def _check_shared(pollers: Sequence[str], topology: Topology, pins: Mapping[str, int]) -> None:
    unpinned = [name for name in pollers if name not in pins]
    left = topology.core_limit - 1 - len(set(pins.values()))
    if unpinned and left <= 0:
        raise PlacementError(
            f"launch.cores leaves no core for {', '.join(unpinned)}",
            f"{topology.core_limit} cores may be used, one of them for the housekeeping: pin these as well, to a core "
            "they share",
        )
    by_core: dict[int, list[str]] = {}
    for name, core in pins.items():
        by_core.setdefault(core, []).append(name)
    for core, names in by_core.items():
        if len(names) > 1 and left > len(unpinned):
            raise PlacementError(
                f"launch.cores pins {' and '.join(names)} to core {core}, and {left - len(unpinned)} usable core"
                f"{'s stay' if left - len(unpinned) > 1 else ' stays'} empty",
                f"give each its own core of {cpu_list(topology.usable)}",
            )
