"""The catalogue of a line: each counter of each stage found where its stage counts, and the tables made of it."""

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from launch.plan import page_segment
from pipeline.line.agents import AGENT_CLASSES
from pipeline.line.segments import run_catalogue
from pipeline.reports.catalogue import counter_rows, counter_table, error_rows, error_table
from shm import catalogue
from shm.errorlog import ENTRY_COUNT, ErrorLog
from shm.segment import Segment, record_layout, unlink


@pytest.fixture
def run() -> Iterator[str]:
    prefix = f"tickpipe.test-{os.getpid()}-line."
    yield prefix
    for name in (catalogue.NAME, *(page_segment(stage) for stage in AGENT_CLASSES)):
        unlink(prefix + name)


@pytest.fixture
def pages(run: str) -> dict[str, Any]:
    """The catalogue of a run, and its pages, in which the n-th counter of a stage is 1,000 n."""
    Segment.create(f"{run}{catalogue.NAME}", run_catalogue())
    made = {}
    for stage, agent in AGENT_CLASSES.items():
        page = Segment.create(f"{run}{page_segment(stage)}", record_layout(agent.page())).view(agent.page())
        for number, counter in enumerate(agent.counters):
            page["counters"][counter.name] = 1000 * number
        made[stage] = page
    return made


def _text(table: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_every_counter_of_every_stage_is_found_by_the_catalogue_alone(run: str, pages: dict[str, Any]) -> None:
    rows = counter_rows(catalogue.read(f"{run}{catalogue.NAME}"))
    expected = [
        (stage, counter.name, 1000 * number, counter.unit, counter.kind, counter.help)
        for stage, agent in AGENT_CLASSES.items()
        for number, counter in enumerate(agent.counters)
    ]
    assert [tuple(row[key] for key in ("writer", "name", "value", "unit", "kind", "help")) for row in rows] == expected
    assert not [row["name"] for row in rows if row["unit"] == "1"], "a counter says what it counts"
    shown = _text(counter_table("Run x", rows))
    assert all(name in shown and f"{value:,}" in shown for _, name, value, *_ in expected)


def test_every_stages_errors_are_found_and_those_without_room_are_told(run: str, pages: dict[str, Any]) -> None:
    for stage, page in pages.items():
        ErrorLog(page["errors"].ctypes.data).observe(f"{stage} [red]is[/red] unwell", 40)
    log = ErrorLog(pages["risk"]["errors"].ctypes.data)
    for index in range(ENTRY_COUNT + 1):
        log.observe("x" * (index + 1), 30)
    rows = error_rows(catalogue.read(f"{run}{catalogue.NAME}"))
    firsts = {row["writer"]: row for row in rows[::-1]}
    assert {stage: (row["text"], row["severity"], row["count"]) for stage, row in firsts.items()} == {
        stage: (f"{stage} [red]is[/red] unwell", "error", 1) for stage in AGENT_CLASSES
    }
    (full,) = [row for row in rows if row["severity"] is None]
    assert (full["writer"], full["count"], full["last_ns"]) == ("risk", 2, None)
    shown = _text(error_table("Run x", rows))
    assert "feed [red]is[/red] unwell" in shown
    assert "found the log full" in shown


def test_a_page_that_is_gone_has_no_values(run: str, pages: dict[str, Any]) -> None:
    unlink(f"{run}{page_segment('feed')}")
    rows = counter_rows(catalogue.read(f"{run}{catalogue.NAME}"))
    assert {row["value"] for row in rows if row["writer"] == "feed"} == {None}
    assert np.all([row["value"] is not None for row in rows if row["writer"] != "feed"])
    assert " - " in _text(counter_table("Run x", rows))
