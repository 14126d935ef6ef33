"""What each setting is now and would become. Reads only."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from launch.errors import UnreadableError
from launch.host.machine import Machine
from launch.tuning.places import place_at
from launch.tuning.setting import Setting, goal

HUGE_PAGES_SHARE = 4
"""Explicit huge pages may take this part of the memory, not more: reserved pages serve nobody else."""


@dataclass(frozen=True)
class Row:
    """One place of one setting."""

    setting: Setting
    path: str
    current: str | None
    """None when it cannot be read."""
    wanted: str
    state: Literal["same", "differs", "skipped"]
    note: str = ""
    """Why it is skipped."""


def survey(machine: Machine, settings: Iterable[Setting]) -> list[Row]:
    """A row for each place; one for a setting without any."""
    rows: list[Row] = []
    for setting in settings:
        paths = machine.names(setting.path) if "*" in setting.path else [setting.path]
        rows += [_row(machine, setting, path) for path in paths]
        if not paths:
            rows.append(_skipped(setting, setting.path, None, "lacking: this machine has no such files"))
    return rows


def _row(machine: Machine, setting: Setting, path: str) -> Row:
    place = place_at(machine, path)
    if lacking := place.lacking():
        return _skipped(setting, path, None, f"lacking: {lacking}")
    try:
        current = place.read()
    except UnreadableError as error:
        return _skipped(setting, path, None, f"unreadable: {error.reason}")
    wanted = goal(setting, current)
    if wanted == current:
        return Row(setting, path, current, wanted, "same")
    if setting.reserves_huge_pages and (refusal := _too_many_pages(machine, wanted)):
        return _skipped(setting, path, current, refusal)
    if one_way := place.one_way(current):
        return _skipped(setting, path, current, one_way)
    return Row(setting, path, current, wanted, "differs")


def _skipped(setting: Setting, path: str, current: str | None, note: str) -> Row:
    return Row(setting, path, current, goal(setting, current or ""), "skipped", note)


def _too_many_pages(machine: Machine, pages: str) -> str:
    facts = {name: int(kb) for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", machine.text_or("/proc/meminfo"), re.M)}
    total_kb, page_kb = facts.get("MemTotal", 0), facts.get("Hugepagesize", 0)
    if not total_kb or not page_kb:
        return "the size of memory and of a huge page cannot be read"
    if int(pages) * page_kb > total_kb // HUGE_PAGES_SHARE:
        return f"would take {int(pages) * page_kb >> 10} of {total_kb >> 10} MB of memory, over a quarter"
    return ""
