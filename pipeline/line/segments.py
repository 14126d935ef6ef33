"""The segments of a line: which there are, and which of them a process maps."""

from collections.abc import Sequence

from launch.plan import COMMAND_SEGMENT, page_segment
from pipeline.line.agents import AGENT_CLASSES
from pipeline.line.placement import STAGES
from shm import catalogue
from shm.catalogue import catalogue_layout
from shm.control import COMMAND
from shm.layout import field_offset
from shm.segment import Layout, record_layout
from stages.agent import Agent
from stages.domain.edges import edges


def segment_layouts(symbols: int) -> dict[str, Layout]:
    """Every segment of a run by logical name."""
    pages = {page_segment(stage): record_layout(AGENT_CLASSES[stage].page()) for stage in STAGES}
    rest = {COMMAND_SEGMENT: record_layout(COMMAND, len(STAGES)), catalogue.NAME: run_catalogue()}
    return edges(symbols) | pages | rest


def run_catalogue() -> Layout:
    """What every stage counts, and its log of errors, for tools that know no stage."""
    entries: list[catalogue.Entry] = []
    for stage in STAGES:
        agent, segment = AGENT_CLASSES[stage], page_segment(stage)
        for counter in agent.counters:
            offset = field_offset(agent.page(), "counters", counter.name)
            words = (counter.name, counter.unit, counter.kind, stage, segment, counter.help)
            entries.append(catalogue.Entry(len(entries), offset, *words))
        offset, help_text = field_offset(agent.page(), "errors"), "distinct errors and warnings"
        entries.append(catalogue.Entry(len(entries), offset, "errors", "errors", "errors", stage, segment, help_text))
    return catalogue_layout(entries)


def segments_of(agents: Sequence[Agent]) -> dict[str, bool]:
    """Logical names of the segments that the process hosting `agents` maps, and whether it may write to them."""
    needed = {COMMAND_SEGMENT: False} | {page_segment(agent.name): True for agent in agents}
    for agent in agents:
        for use in agent.uses():
            needed[use.name] = needed.get(use.name, False) or use.writable
    return needed
