"""What the process of a stage runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from launch.plan import COMMAND_SEGMENT, page_segment
from launch.supervision.child import Entry
from pipeline.line.compiled import POLLS_ONCE, Line
from pipeline.line.doors import Bells
from pipeline.line.placement import STAGES
from pipeline.line.turns import turn_words
from shm.control import COMMAND, State
from shm.segment import Segment
from stages.agent import Agent, Attention
from stages.domain.warming import REHEARSAL_NS, SHARED_REHEARSAL_NS
from stages.duty import Runner, new_duty, with_bells
from stages.errors import PageErrors
from stages.prefault import fault_in
from stages.rehearsal import Twins, no_rehearsal


def process_entry(line: Line, process: str, idle: str) -> Entry:
    """What the forked child of `process` runs once its segments are attached; returns the exit code."""

    def entry(segments: Mapping[str, Segment], supervisor_pid: int) -> int:
        agents = line.hosted(process)
        attention = Attention(supervisor_pid)
        order = turn_words(process, line.loops, segments)
        duty = new_duty(len(agents), idle)._replace(clock=line.clock.copy(), order=order)
        if idle == "doorbell":
            bells = Bells(process, segments)  # kept here for as long as the loop runs
            duty = with_bells(duty, bells.own, bells.edges, min(agent.sleep_ns_max for agent in agents))
        pages = {}
        commands = {}
        for agent in agents:
            page = segments[page_segment(agent.name)].view(agent.page())
            page["status"]["state"] = State.STARTING
            pages[agent.name] = page
            commands[agent.name] = segments[COMMAND_SEGMENT].address + COMMAND.itemsize * STAGES.index(agent.name)
            agent.attach(segments, page, duty.clock)
        for agent in agents:
            agent.start(attention)
        has_own_core = idle == "spin"
        extra: tuple[Any, ...] = ()
        if line.twins:
            rehearsal = no_rehearsal()
            if has_own_core:  # on a shared one idle time belongs to the neighbours
                twins = Twins(line.twins, POLLS_ONCE, duty.clock)
                rehearsal = twins.rehearsal
            extra = (*(twin.context for twin in line.twins.values()), rehearsal)
        interval_ns = REHEARSAL_NS if has_own_core else SHARED_REHEARSAL_NS
        for agent in agents:
            agent.rehearse_every(interval_ns, has_twin=bool(line.twins) and has_own_core)
        for agent in (*agents, *(line.twins.values() if has_own_core else ())):
            fault_in(agent)
        attention.call()  # the first slice is over at once: the supervisor waits for the states it leads to
        return Runner(agents, line.loops[process], duty, attention, pages, commands, extra).run()

    return recording_errors(line.hosted(process), entry)


def recording_errors(agents: Sequence[Agent], entry: Entry) -> Entry:
    """`entry` with every warning and error, and what it raises itself, in the error logs of its agents' pages."""

    def recorded(segments: Mapping[str, Segment], supervisor_pid: int) -> int:
        pages = {agent.name: segments[page_segment(agent.name)].view(agent.page()) for agent in agents}
        with PageErrors(pages):
            return entry(segments, supervisor_pid)

    return recorded
