"""Which processes a placement has, and the cores they get. Import-light: a run needs it before the compiler."""

from collections.abc import Sequence

from launch.errors import PlacementError
from launch.findings import Finding
from launch.host.topology import Topology
from launch.knobs.schedule import lacks
from launch.placement.affinity import CoreMap, place
from pipeline.config.tree import Config
from pipeline.errors import MachineRefusedError, UsageError

STAGES = ("feed", "book", "strategy", "risk", "router")
"""Pipeline order: the order of polls in a packed line, and of the command words."""

PACKED_PROCESS = "line"

CORE_ORDER = ("feed", "router", "book", "strategy", "risk")
"""Who gets a core of its own first: the stages that make system calls stall their neighbours most."""


def core_map(config: Config, topology: Topology) -> CoreMap:
    """Cores of the run's processes, where what is marked required will be granted.

    Raises UsageError for pins that contradict each other or the machine, MachineRefusedError.
    """
    cores = placed(config, topology)
    for lack in lacks(cores, config.launch):
        if lack.required:
            raise MachineRefusedError(
                f'launch.{lack.knob} = "required", but {lack.finding.what}', lack.refusal.hint or "set it to auto"
            )
    return cores


def placed(config: Config, topology: Topology) -> CoreMap:
    """Cores of the run's processes, whatever this process may do. Raises UsageError."""
    settings = config.launch
    packed = settings.placement == "packed"
    processes = (PACKED_PROCESS,) if packed else STAGES
    unknown = sorted(settings.restart_of.keys() - set(processes))
    if unknown:
        raise UsageError(
            f"launch.restart_of.{unknown[0]}: this run has no such process", f"it has {', '.join(processes)}"
        )
    try:
        return place(
            processes, topology, settings.idle, pins=settings.cores,
            housekeeping=settings.housekeeping_core if settings.housekeeping_core >= 0 else None,
            own_first=(PACKED_PROCESS,) if packed else CORE_ORDER,
        )  # fmt: skip
    except PlacementError as error:
        raise UsageError(str(error), error.hint) from None


def core_findings(cores: CoreMap, config: Config) -> Sequence[Finding]:
    """What the cores and the kernel cost this run, said once."""
    found = [
        lack.finding for lack in lacks(cores, config.launch)
        if lack.by_rule and any(cores.pollers[name].alone for name in lack.processes)
    ]  # fmt: skip
    sharing = [name for name, core in cores.pollers.items() if not core.alone]
    if sharing:
        topology = cores.topology
        quota = f" (the control group grants {topology.quota_cores:g})" if topology.quota_cores is not None else ""
        shared = ", ".join(str(cpu) for cpu in sorted({cores.pollers[name].cpu for name in sharing}))
        found.append(
            Finding(
                "cores",
                f"{topology.core_limit} usable cores{quota}: {', '.join(sharing)} share core {shared}",
                "a stage waits for its neighbours' turns, and has no SCHED_FIFO",
                f"{len(cores.pollers) + 1} cores give each its own"
                + ("; --placement packed needs 2" if len(cores.pollers) > 1 else ""),
            )
        )
    return found
