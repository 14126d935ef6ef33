"""What `pipeline tune` would change, and what became of it, as tables and as documents."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from launch.tuning.boot import HOW, WHY_NOT, BootAdvice
from launch.tuning.change import Outcome
from launch.tuning.survey import Row
from pipeline.terminal import data_console

SECTIONS = (
    ("differs", "Would change", "bold yellow"),
    ("same", "As wanted", "bold green"),
    ("skipped", "Skipped", "bold"),
)


def plan_document(rows: Iterable[Row], advice: BootAdvice) -> dict[str, Any]:
    """For --json."""
    return {
        "settings": [
            {
                "id": row.setting.id, "path": row.path, "current": row.current, "wanted": row.wanted,
                "state": row.state, "note": row.note or None,
                "why": row.setting.why, "trade_off": row.setting.trade_off or None,
            }
            for row in rows
        ],
        "kernel_command_line": {"arguments": advice.arguments or None, "notes": list(advice.notes), "how": HOW},
    }  # fmt: skip


def outcome_document(outcome: Outcome) -> dict[str, str | None]:
    """For --json."""
    return {
        "path": outcome.path, "before": outcome.before, "wanted": outcome.wanted, "state": outcome.state,
        "note": outcome.note or None,
    }  # fmt: skip


def print_plan(rows: Sequence[Row], advice: BootAdvice, console: Console | None = None) -> None:
    """A section for each state; the places of one setting that stand alike are one line."""
    console = console or data_console()
    for state, title, style in SECTIONS:
        chosen = [row for row in rows if row.state == state]
        if not chosen:
            continue
        table = Table(title=title, title_justify="left", title_style=style, header_style="dim", box=box.SIMPLE_HEAD)
        table.add_column("setting", no_wrap=True)
        table.add_column("current → wanted", overflow="fold")
        table.add_column("why", overflow="fold", ratio=1)
        for _, group in groupby(chosen, key=lambda row: (row.setting.id, row.current, row.wanted, row.note)):
            alike = list(group)
            table.add_row(alike[0].setting.id, _values(alike), _why(alike[0]))
        console.print(table)
    _print_boot(advice, console)
    if any(row.state == "differs" for row in rows):
        console.print(
            "Nothing was changed. `pipeline tune --apply` makes these settings and keeps what was there, --skip NAME "
            "leaves one out.",
            markup=False,
        )


def _values(alike: list[Row]) -> str:
    row = alike[0]
    current = "?" if row.current is None else row.current or "none"
    text = current if row.state == "same" else f"{current} → {row.wanted or 'none'}"
    return text if len(alike) == 1 else f"{text} ({len(alike)} places)"


def _why(row: Row) -> str:
    if row.state == "skipped":
        return row.note
    return f"{row.setting.why}. Costs: {row.setting.trade_off}" if row.setting.trade_off else row.setting.why


def _print_boot(advice: BootAdvice, console: Console) -> None:
    console.print("Kernel command line, advised only", style="bold")
    if advice.arguments:
        console.print(f"  {advice.arguments}\n  {HOW}\n  {WHY_NOT}", markup=False)
    for note in advice.notes:
        console.print(f"  {note}", markup=False)


def print_outcomes(outcomes: Sequence[Outcome], *, reverting: bool, console: Console | None = None) -> None:
    """A line for each place, and what to do next."""
    console = console or data_console()
    for outcome in outcomes:
        change = f"{outcome.before or 'none'} → {outcome.wanted or 'none'}"
        text = {
            "done": change,
            "refused": f"refused: {outcome.note} ({change})",
            "fixed": f"stays {outcome.before}: {outcome.note}",
            "gone": "is gone",
        }[outcome.state]
        console.print(f"{outcome.path}  {text}", markup=False)
    if not outcomes:
        console.print("nothing to revert" if reverting else "nothing to change", markup=False)
    elif not reverting:
        console.print("`pipeline tune --revert` restores what was there", markup=False)
