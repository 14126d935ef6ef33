"""From configuration to plan: what the line looks like, in the launcher's terms."""

from collections.abc import Mapping

from launch.placement.affinity import CoreMap
from launch.plan import COMMAND_SEGMENT, Plan, build_plan
from launch.plan import Line as LineShape
from pipeline.config.tree import Config
from pipeline.line.doors import door_access, door_layouts
from pipeline.line.placement import PACKED_PROCESS, STAGES
from pipeline.line.segments import segment_layouts, segments_of
from pipeline.line.turns import turn_access, turn_layouts
from stages.agent import Agent

START_ORDER = ("router", "risk", "strategy", "book", "feed")
"""A reader before its writer."""

VENUE_PROCESS = "venue"


def make_plan(run: str, config: Config, agents: Mapping[str, Agent], symbols: int, cores: CoreMap) -> Plan:
    """The plan of a run that trades `symbols` instruments."""
    packed = config.launch.placement == "packed"
    hosted = {PACKED_PROCESS: STAGES} if packed else {stage: (stage,) for stage in STAGES}
    layouts = segment_layouts(symbols)
    assert COMMAND_SEGMENT in layouts
    access = {name: segments_of([agents[stage] for stage in stages]) for name, stages in hosted.items()}
    access = {name: segments | turn_access(name, cores) for name, segments in access.items()}
    layouts |= turn_layouts(name for segments in access.values() for name in segments)
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
    settings = config.launch
    if config.delivery == "every":
        # A replay must come out right or fail: a restarted stage goes on, but not with every event.
        settings = settings.model_copy(update={"restart": "never", "restart_of": {}})
    return build_plan(run, shape, cores, settings)
