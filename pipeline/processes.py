"""From configuration to plan: what the line looks like, in the launcher's terms."""

from collections.abc import Mapping

from launch.affinity import CoreMap, place
from launch.plan import COMMAND_SEGMENT, Plan, build_plan
from launch.plan import Line as LineShape
from launch.topology import Topology
from pipeline.config import Config
from pipeline.doors import door_access, door_layouts
from pipeline.errors import MachineRefusedError
from pipeline.line import PACKED_PROCESS, STAGES, segment_layouts, segments_of
from stages.agent import Agent

CORE_ORDER = ("feed", "router", "book", "strategy", "risk")
"""Who gets a core of its own first: the stages that make system calls stall their neighbours most."""

START_ORDER = ("router", "risk", "strategy", "book", "feed")
"""A reader before its writer."""

VENUE_PROCESS = "venue"


def core_map(config: Config, topology: Topology) -> CoreMap:
    """Cores of the run's processes. Raises MachineRefusedError when FIFO is required and no process is alone."""
    packed = config.launch.placement == "packed"
    cores = place((PACKED_PROCESS,) if packed else CORE_ORDER, topology, config.launch.idle)
    sharing = [name for name, core in cores.pollers.items() if not core.alone]
    if config.launch.fifo == "required" and sharing:
        raise MachineRefusedError(
            f'launch.fifo = "required", but {", ".join(sharing)} would have no core of their own '
            f"({len(topology.usable)} usable)",
            'launch.placement = "packed" needs 2 cores, "dedicated" 6; or set launch.fifo = "auto"',
        )
    return cores


def make_plan(run: str, config: Config, agents: Mapping[str, Agent], symbols: int, cores: CoreMap) -> Plan:
    """The plan of a run that trades `symbols` instruments."""
    packed = config.launch.placement == "packed"
    hosted = {PACKED_PROCESS: STAGES} if packed else {stage: (stage,) for stage in STAGES}
    layouts = segment_layouts(symbols)
    assert COMMAND_SEGMENT in layouts
    access = {name: segments_of([agents[stage] for stage in stages]) for name, stages in hosted.items()}
    if config.launch.idle == "doorbell":
        access = {name: segments | door_access(name, list(hosted)) for name, segments in access.items()}
        layouts |= door_layouts(list(hosted))
    shape = LineShape(
        hosted=hosted,
        agents=STAGES,
        start_order=(PACKED_PROCESS,) if packed else START_ORDER,
        segments=layouts,
        access=access,
        # The strategy asks for nothing new at once; the router is quiet when nothing of ours is at the venue, and the
        # strategy when it has heard the end of every order that it ever asked for.
        quiesce_order=(("strategy", False), ("router", True), ("strategy", True)),
        source="feed",
        stop_order=("book", "strategy", "risk", "router"),
        outlives=frozenset({"router"}),
        services=(VENUE_PROCESS,) if config.market.venue == "paper" else (),
    )
    return build_plan(run, shape, cores, config.launch)
