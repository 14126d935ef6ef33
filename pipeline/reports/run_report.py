"""The run report: one JSON document made from the stages' pages, the shared tables and what the supervisor saw."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launch.plan import Plan, page_segment
from launch.supervision.facts import ProcessFacts
from launch.supervision.supervised import Restart
from pipeline.reports.books import documents
from pipeline.reports.catalogue import log_rows
from pipeline.reports.hops import hop_lines
from pipeline.reports.seqlock_rows import read_rows
from shm.atomics import peek
from shm.errorlog import dropped, observed
from shm.ring import READER_EPOCH, WRITER_EPOCH
from shm.segment import Segment
from stages.agent import Agent
from stages.domain.edges import DEPTH_TABLE, POSITION_TABLE, RINGS
from stages.domain.messages import DEPTH, POSITION

Page = np.ndarray[Any, Any] | np.void
Counters = dict[str, dict[str, int]]

MARKET_DATA = {
    "messages": ("feed", "messages_in"),
    "events": ("feed", "events"),
    "gaps": ("feed", "gaps"),
    "resyncs": ("feed", "resyncs"),
    "dropped": ("feed", "dropped"),
    "conflated": ("book", "conflated"),
    "trades_missed": ("book", "trades_missed"),
    "backpressure": ("feed", "backpressure"),
    "off_grid": ("book", "off_grid"),
    "bbo_checked": ("book", "bbo_checked"),
    "bbo_mismatches": ("book", "bbo_mismatches"),
    "bbo_beyond_snapshot": ("book", "bbo_beyond_snapshot"),
}
ORDERS = {
    "submitted": ("strategy", "submitted"),
    "denied_by_risk": ("risk", "denied_by_risk"),
    "refused_by_router": ("router", "refused"),
    "sent": ("router", "sent"),
    "acked": ("router", "acked"),
    "filled": ("router", "filled"),
    "cancelled": ("router", "cancelled"),
    "rejected_by_venue": ("router", "rejected_by_venue"),
    "unknown": ("router", "unknown"),
}
"""Line of the report: the stage and the counter it is."""


@dataclass(frozen=True)
class Snapshot:
    """What the shared memory of a run holds at one moment, copied."""

    pages: Mapping[str, Page]
    books: dict[str, Any]
    positions: dict[str, Any]
    rings: dict[str, dict[str, int]]
    """Ring: how many processes have held each end, one after the other."""

    @property
    def counters(self) -> Counters:
        """Stage: {counter: value}."""
        return {
            stage: {name: int(page["counters"][name]) for name in page["counters"].dtype.names or ()}
            for stage, page in self.pages.items()
        }


def stage_counters(segments: Mapping[str, Segment], agent: type[Agent]) -> dict[str, int]:
    """The counters of one stage, live."""
    counters = segments[page_segment(agent.name)].view(agent.page())[0]["counters"]
    return {name: int(counters[name]) for name in counters.dtype.names or ()}


def take_snapshot(
    segments: Mapping[str, Segment], agents: Sequence[type[Agent]], instruments: NDArray[np.void]
) -> Snapshot:
    """Copy the pages of a run, live or ended, and what its tables have of `instruments`, the first of its symbols."""
    pages = {agent.name: segments[page_segment(agent.name)].view(agent.page())[0].copy() for agent in agents}
    depths = read_rows(segments[DEPTH_TABLE], DEPTH, len(instruments))
    positions = read_rows(segments[POSITION_TABLE], POSITION, len(instruments))
    books, held = documents(instruments, depths, positions)
    rings = {
        name: {
            "writer_epoch": peek(segments[name].address + WRITER_EPOCH),
            "reader_epoch": peek(segments[name].address + READER_EPOCH),
        }
        for name in RINGS
    }
    return Snapshot(pages, books, held, rings)


def build_report(
    *,
    run: str,
    placement: str,
    exit_word: str,
    plan: Plan,
    facts: Mapping[str, ProcessFacts],
    agents: Sequence[type[Agent]],
    snapshot: Snapshot,
    restarts: Sequence[Restart],
    extras: Mapping[str, Any],
) -> dict[str, Any]:
    """The document of interfaces.md; `extras` (machine, findings, ...) follow the fixed names."""
    counters = snapshot.counters
    return {
        "run": run,
        "placement": placement,
        "exit": exit_word,
        "stages": {
            agent.name: _stage(agent.name, plan, facts, counters[agent.name])
            | _process_words(snapshot.pages[agent.name], plan.process_of(agent.name).name, restarts)
            for agent in agents
        },
        "hops": hop_lines(agents, snapshot.pages),
        "market_data": {name: counters[stage].get(counter, 0) for name, (stage, counter) in MARKET_DATA.items()},
        "orders": {name: counters[stage].get(counter, 0) for name, (stage, counter) in ORDERS.items()},
        "books": snapshot.books,
        "positions": snapshot.positions,
        "restarts": [asdict(restart) for restart in restarts],
        "rings": snapshot.rings,
        **extras,
        "errors": [row for stage, page in snapshot.pages.items() for row in _errors(stage, page)],
        "counters": counters,
    }


def _errors(stage: str, page: Page) -> list[dict[str, Any]]:
    words = np.array(page["errors"]["words"])
    return log_rows(stage, observed(words.ctypes.data), dropped(words.ctypes.data))


def _stage(agent: str, plan: Plan, facts: Mapping[str, ProcessFacts], counters: Mapping[str, int]) -> dict[str, Any]:
    process = plan.process_of(agent)
    seen = facts.get(process.name)
    return {
        "pid": seen.pid if seen else None,
        "cpu": seen.cpus[0] if seen and len(seen.cpus) == 1 else None,
        "policy": seen.policy if seen else None,
        "priority": seen.priority if seen else None,
        "idle": process.idle,
        "messages_in": counters.get("messages_in", 0),
        "messages_out": counters.get("messages_out", 0),
        "rss_bytes": seen.rss_bytes if seen else None,
        "nice": seen.nice if seen else None,
        "timer_slack_ns": seen.timer_slack_ns if seen else None,
        "locked_bytes": seen.locked_bytes if seen else None,
        "why": process.why,
        "not_taken": process.schedule.document()["not_taken"],
    }


def _process_words(page: Page, process: str, restarts: Sequence[Restart]) -> dict[str, int]:
    """What the stage's processes, one after the other, have in common."""
    return {
        "restarts": sum(restart.process == process for restart in restarts),
        "cycle_ns_max": int(page["status"]["cycle_ns_max"]),
        "stalls": int(page["status"]["stalls"]),
    }
