"""What each setting is now and would become. Reads only."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from launch.errors import UnreadableError
from launch.host.machine import Machine
from launch.tuning.setting import SWAPS, Setting, goal, normal

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


def read(machine: Machine, path: str) -> str:
    """What stands there, in the form in which it is compared and kept. Raises UnreadableError."""
    text = machine.text(path)
    return swap_areas(text) if path == SWAPS else normal(text)


def swap_areas(text: str) -> str:
    """/proc/swaps as one line: `/dev/vda2@-2 /swapfile@5`, the numbers are priorities."""
    fields = [line.split() for line in text.splitlines()[1:]]
    return " ".join(f"{words[0]}@{words[-1]}" for words in fields if len(words) >= 5)


def _row(machine: Machine, setting: Setting, path: str) -> Row:
    if not machine.path(path).exists():
        return _skipped(setting, path, None, "lacking: this kernel has no such file")
    try:
        current = read(machine, path)
    except UnreadableError as error:
        return _skipped(setting, path, None, f"unreadable: {error.reason}")
    wanted = goal(setting, current)
    if wanted == current:
        return Row(setting, path, current, wanted, "same")
    if setting.reserves_huge_pages and (refusal := _too_many_pages(machine, wanted)):
        return _skipped(setting, path, current, refusal)
    if setting.is_swap and "(deleted)" in current:
        return _skipped(setting, path, current, "a swap file was deleted while in use: given back, it could not return")
    return Row(setting, path, current, wanted, "differs")


def _skipped(setting: Setting, path: str, current: str | None, note: str) -> Row:
    return Row(setting, path, current, setting.wanted, "skipped", note)


def _too_many_pages(machine: Machine, pages: str) -> str:
    facts = {name: int(kb) for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", machine.text_or("/proc/meminfo"), re.M)}
    total_kb, page_kb = facts.get("MemTotal", 0), facts.get("Hugepagesize", 0)
    if not total_kb or not page_kb:
        return "the size of memory and of a huge page cannot be read"
    if int(pages) * page_kb > total_kb // HUGE_PAGES_SHARE:
        return f"would take {int(pages) * page_kb >> 10} of {total_kb >> 10} MB of memory, over a quarter"
    return ""
