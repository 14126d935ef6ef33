"""The line: which agents there are, which segments join them, and the compiled loops that drive them.

A loop with the strategy in it is a small generated module, one per placement and strategy, that imports the polls by
name: a closure over kernels, or a kernel passed as an argument, is never found in Numba's disk cache by a new process,
an importing module is. Its folder is named by a hash of our sources, the versions, the strategy file and every module
that the strategy imports from outside site-packages, because Numba sees changes only in the file that holds a function
and would run an old strategy without a word. The other loops of a dedicated line are in pipeline/loops.py. A second
start with nothing changed compiles nothing.
"""

import contextlib
import importlib
import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from launch.plan import COMMAND_SEGMENT, page_segment
from launch.supervision.child import Entry
from pipeline import loops as shared_loops
from pipeline.compiler import CompileCount, Task, compile_ahead
from pipeline.doors import Bells
from pipeline.errors import UsageError
from pipeline.placement import PACKED_PROCESS, STAGES
from pipeline.turns import turn_words
from shm import catalogue, errorlog
from shm.catalogue import catalogue_layout
from shm.clock import calibrate
from shm.control import COMMAND, State
from shm.kernel import SOURCES_HASH, cache_root, hash_files, prune_caches
from shm.layout import field_offset
from shm.segment import Layout, Segment, record_layout
from stages.agent import Agent, Attention, ColdKernel
from stages.book.agent import BookAgent
from stages.book.kernel import poll_once as poll_book_once
from stages.domain.captures.itch import is_itch
from stages.domain.captures.raw import is_raw
from stages.domain.edges import edges
from stages.domain.warming import REHEARSAL_NS, SHARED_REHEARSAL_NS
from stages.duty import Runner, new_duty, with_bells
from stages.errors import PageErrors
from stages.feed.agent import FeedAgent
from stages.feed.context import Format
from stages.feed.kernel import poll_once as poll_feed_once
from stages.feed.lines.agent import LinesAgent
from stages.feed.settings import FeedSettings
from stages.prefault import fault_in
from stages.rehearsal import Twins, no_rehearsal
from stages.risk.agent import RiskAgent
from stages.router.agent import RouterAgent
from stages.router.credentials import Credentials
from stages.router.session import Living
from stages.strategy.agent import StrategyAgent
from stages.strategy.compose import poll_source
from stages.strategy.loader import Strategy

if TYPE_CHECKING:
    from pipeline.config import Config

log = logging.getLogger(__name__)

Placement = Literal["dedicated", "packed"]
AGENT_CLASSES: dict[str, type[Agent]] = {
    "feed": FeedAgent,
    "book": BookAgent,
    "strategy": StrategyAgent,
    "risk": RiskAgent,
    "router": RouterAgent,
}
POLLS_ONCE: dict[str, Any] = {"feed": poll_feed_once, "book": poll_book_once}
"""What the twins of a packed line are set up with."""

COMPILE_ORDER = ("router", "feed", "book", "strategy", "risk")
"""The costliest first: 18, 12, 12, 6 and 3 s of one core here."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Endpoints:
    """Where the venue is. URLs without path for REST and streams, the whole URL for the order connection."""

    stream_url: str
    rest_url: str
    order_url: str


@dataclass(frozen=True)
class Line:
    """The agents of a run and the compiled loop of each of its processes."""

    placement: Placement
    agents: dict[str, Agent]
    loops: dict[str, Any]
    """Process name (a stage, or PACKED_PROCESS) to its compiled loop."""
    twins: dict[str, Agent]
    """Of a packed line: a second set of agents, for rehearsals."""
    clock: NDArray[np.int64]
    compiled: int
    """Kernels that had to be compiled; 0 when all were in the cache."""

    def hosted(self, process: str) -> list[Agent]:
        """The agents that run in `process`, in pipeline order."""
        return list(self.agents.values()) if process == PACKED_PROCESS else [self.agents[process]]


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


def stream_format_of(config: "Config") -> Format:
    """What the venue's market stream, or the lines, carry; it decides on the kind of books, too.

    Raises CaptureError when the file to be played cannot be read, UsageError when it is not what the lines are for.
    """
    replay, is_of_lines = config.venue.replay, config.feed.source == "itch"
    if not replay:
        return Format.ITCH if is_of_lines else Format.BINANCE
    if is_itch(replay[0]):
        return Format.ITCH
    if is_of_lines:
        raise UsageError(f'feed.source = "itch", but {replay[0]} is no ITCH file', 'set feed.source = "venue"')
    return Format.RAW if is_raw(replay[0]) else Format.BINANCE


def build_agents(
    config: "Config",
    instruments: NDArray[np.void],
    endpoints: Endpoints,
    credentials: Credentials,
    strategy: Strategy,
    *,
    delivery: str,
    run_start_ms: int,
    helper_cpus: Sequence[int],
    journal_folder: Path | None,
    living: Living = tuple,
    stream_format: Format = Format.BINANCE,
) -> dict[str, Agent]:
    """The five agents, in pipeline order; nothing is opened yet. Twins have no `journal_folder`.

    stream_format   what the venue's market stream, or the lines, carry; it decides on the kind of books, too
    """
    feed: Agent
    if config.feed.source == "venue":
        feed = FeedAgent(
            instruments,
            config.feed,
            endpoints.stream_url,
            endpoints.rest_url,
            delivery,
            tuple(helper_cpus),
            stream_format,
        )
    else:
        feed = LinesAgent(instruments, _of_whole_session(config.feed) if config.venue.replay else config.feed)
    return {
        "feed": feed,
        "book": BookAgent(instruments, config.book, delivery, of_orders=stream_format is Format.ITCH),
        "strategy": StrategyAgent(instruments, config.strategy, strategy, delivery),
        "risk": RiskAgent(instruments, config.risk, delivery),
        "router": RouterAgent(
            instruments,
            config.router,
            endpoints.order_url,
            credentials,
            run_start_ms,
            tuple(helper_cpus),
            journal_folder,
            living,
        ),
    }


def _of_whole_session(feed: FeedSettings) -> FeedSettings:
    """What is replayed is wanted from its first message on, should it have begun before the feed listened."""
    return feed.model_copy(update={"first_sequence": feed.first_sequence or 1})


def prepare(
    agents: dict[str, Agent], twins: dict[str, Agent], strategy: Strategy, placement: Placement, progress: Progress
) -> Line:
    """Generate and import the line module and compile its loops, or load them from the cache.

    `twins` are agents as `agents` are, for the rehearsals of a packed line; empty for a dedicated one.

    Reports `progress(name, done, total)` for each part that had to be compiled. The shared clock is calibrated here as
    well, so that all processes of the run stamp on one scale.
    """
    prune_caches()
    module = _import_line(placement, strategy)
    hosted: dict[str, list[Agent]] = (
        {stage: [agents[stage]] for stage in STAGES}
        if placement == "dedicated"
        else {PACKED_PROCESS: [*agents.values()]}
    )
    loops = {name: _loop_of(name, module) for name in hosted}
    loop_kernels = {name: (loops[name], _loop_types(hosted[name], twins)) for name in hosted}
    called = {stage: _called_by(stage, agents[stage], placement) for stage in STAGES}
    if placement == "dedicated":
        ahead = {stage: Task(stage, [loop_kernels[stage], *called[stage]]) for stage in STAGES}
    else:  # the loop takes in the polls
        polls = {stage: (getattr(module, f"poll_{stage}"), _poll_types(agents[stage])) for stage in STAGES}
        ahead = {stage: Task(stage, [polls[stage], *called[stage]]) for stage in STAGES}
    complete = _completeness_mark(module, [types for _, types in loop_kernels.values()])
    compiled = 0
    if not complete.exists():
        finished: list[str] = []
        progress("", 0, len(ahead))

        def count(name: str) -> None:
            finished.append(name)
            progress(name, len(finished), len(ahead))

        compiled = compile_ahead([ahead[stage] for stage in COMPILE_ORDER], count)
    with CompileCount() as here:
        for stage in STAGES:
            Task(stage, called[stage]).compile()
        for name, (loop, types) in loop_kernels.items():
            loop.compile(types)
            loop.disable_compile()  # another signature is a context of a wrong type: fail, do not stall
            _learn_types(loop, hosted[name], twins)
        errorlog.compile_ahead()
        clock = calibrate()
    complete.touch()
    return Line(placement, agents, loops, twins, clock, compiled + here.count)


def _completeness_mark(module: ModuleType, types: Sequence[tuple[numba.types.Type, ...]]) -> Path:
    """The file beside a line module that says that its loops are compiled for contexts of these types."""
    assert module.__file__ is not None
    return Path(module.__file__).with_suffix(f".{hash_files((), str(types))}.complete")


def _loop_of(process: str, generated: ModuleType) -> Any:
    """The compiled loop of a process: only one with the strategy in it is generated."""
    name = f"run_{process}"
    return getattr(shared_loops if hasattr(shared_loops, name) else generated, name)


def _called_by(stage: str, agent: Agent, placement: Placement) -> list[ColdKernel]:
    """What ordinary Python calls of `stage`: its cold kernels, and in a packed line what sets up its twin."""
    has_twin = placement == "packed" and stage in POLLS_ONCE
    set_up = [(POLLS_ONCE[stage], _poll_types(agent))] if has_twin else []
    return [*set_up, *agent.cold_kernels()]


def _poll_types(agent: Agent) -> tuple[numba.types.Type, ...]:
    return numba.typeof(agent.context), numba.types.int64


def _learn_types(loop: Any, agents: Sequence[Agent], twins: Mapping[str, Agent]) -> None:
    """Have Numba take the arguments of `loop` apart here, once, in a table of types that forked processes inherit.

    Each would do it before its first poll, in 2 to 3 ms. The last argument fits nothing, so that nothing runs.
    """
    arguments = [agent.context for agent in (*agents, *twins.values())]
    if twins:
        arguments.append(no_rehearsal())
    with contextlib.suppress(TypeError):
        loop(*arguments, new_duty(len(agents), "spin"), 0, None)


def _loop_types(agents: Sequence[Agent], twins: Mapping[str, Agent]) -> tuple[numba.types.Type, ...]:
    contexts = [numba.typeof(agent.context) for agent in (*agents, *twins.values())]
    if twins:
        contexts.append(numba.typeof(no_rehearsal()))
    return (*contexts, numba.typeof(new_duty(len(agents), "spin")), numba.types.int64, numba.types.int64)


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


def _import_line(placement: Placement, strategy: Strategy) -> ModuleType:
    source = _line_source(placement, strategy)
    key = hash_files(strategy.files, source)
    folder = cache_root() / SOURCES_HASH / f"line-{strategy.path.stem}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tickpipe_line_{placement}.py"
    if not path.exists() or path.read_text(encoding="utf-8") != source:
        # Numba's cache compares the file's time: an unchanged module is not written again.
        path.write_text(source, encoding="utf-8")
    for used in (cache_root() / SOURCES_HASH, folder):
        used.touch()
    for stage in STAGES:
        # Before the cache moves: their compiled code is every strategy's, and stays under the hash of our sources.
        importlib.import_module(f"stages.{stage}.kernel")
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]  # the strategy's own functions are cached here too, under the same key
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # Numba finds the globals of cached functions by the module's name
    started = time.monotonic()
    spec.loader.exec_module(module)
    log.debug("imported %s in %.2f s", path, time.monotonic() - started)
    return module


_HEAD = '''"""The compiled loop of a {placement} line with strategy {strategy}. Generated; edits are lost."""

from shm.clock import now_ns
from shm.kernel import kernel
from stages.book.kernel import poll as poll_book
from stages.duty import FAULT_AGENT, FAULT_CODE, turn
from stages.feed.kernel import poll as poll_feed
from stages.rehearsal import finish, is_due
from stages.risk.kernel import poll as poll_risk
from stages.router.kernel import poll as poll_router

{poll_strategy}
'''

_LOOP = """
@kernel
def run_{process}({contexts}, duty, attention, slice_ns):
    end = now_ns(duty.clock) + slice_ns
    while True:
        now = now_ns(duty.clock)
        handled = 0
{polls}
{rehearsal}
        if turn(duty, attention, now, handled) or now >= end:
            return 0
"""

_POLL = """
        result = poll_{stage}({stage}, now)
        if result < 0:
            duty.words[FAULT_AGENT] = {index}
            duty.words[FAULT_CODE] = result
            return result
        handled += result"""


_REHEARSAL = """
        if handled == 0 and is_due(rehearsal, now):
{polls}
            finish(rehearsal)"""


def _line_source(placement: Placement, strategy: Strategy) -> str:
    source = _HEAD.format(placement=placement, strategy=strategy.path.stem, poll_strategy=poll_source(strategy))
    if placement == "dedicated":
        return source + "\n" + _loop("strategy", ("strategy",), rehearses=False)
    return source + "\n" + _loop(PACKED_PROCESS, STAGES, rehearses=True)


def _loop(process: str, stages: Sequence[str], *, rehearses: bool) -> str:
    polls = "".join(_POLL.format(stage=stage, index=index) for index, stage in enumerate(stages)).lstrip("\n")
    contexts, rehearsal = list(stages), ""
    if rehearses:
        contexts += [*(f"{stage}_twin" for stage in stages), "rehearsal"]
        rehearsal = _REHEARSAL.format(
            polls="\n".join(f"            poll_{stage}({stage}_twin, now)" for stage in stages)
        ).lstrip("\n")
    return _LOOP.format(process=process, contexts=", ".join(contexts), polls=polls, rehearsal=rehearsal)
