"""Apply settings, and take them back. What stood there is saved before the first of them is touched.

The saved values are those from before the *first* apply: a second one adds places that are new, and replaces none.
Each place is written, read back and reported by itself; whatever fails, the saved values stay until all are restored.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from launch.errors import UnreadableError
from launch.host.machine import Machine
from launch.tuning import saved
from launch.tuning.places import place_at
from launch.tuning.setting import Setting
from launch.tuning.survey import Row, survey


@dataclass(frozen=True)
class Outcome:
    """What became of one place. `fixed`: the kernel keeps it as it is, which was to be expected. `gone`: no file."""

    path: str
    before: str
    wanted: str
    state: Literal["done", "refused", "fixed", "gone"]
    note: str = ""


def apply(machine: Machine, settings: Iterable[Setting]) -> list[Outcome]:
    """Make every setting that differs. Raises MachineError when the present values cannot be saved."""
    with saved.locked(machine):
        rows = [row for row in survey(machine, settings) if row.state == "differs"]
        kept = saved.load(machine)
        values = kept | {row.path: row.current or "" for row in rows if row.path not in kept}
        if values != kept:
            saved.save(machine, values)
        return [_make(machine, row) for row in rows]


def revert(machine: Machine) -> list[Outcome]:
    """Restore what was saved, last change first. What could not be restored stays saved. Raises MachineError."""
    with saved.locked(machine):
        values = saved.load(machine)
        outcomes = [_restore(machine, path, text) for path, text in reversed(values.items())]
        failed = {outcome.path for outcome in outcomes if outcome.state == "refused"}
        saved.save(machine, {path: text for path, text in values.items() if path in failed})
        return outcomes


def _make(machine: Machine, row: Row) -> Outcome:
    note = _put(machine, row.path, row.wanted)
    state: Literal["done", "refused", "fixed"] = "done"
    if note:
        # Closed to us is a refusal; the kernel's no to a write that we may make is a property of that interrupt.
        state = "fixed" if row.setting.some_refuse and os.access(machine.path(row.path), os.W_OK) else "refused"
    return Outcome(row.path, row.current or "", row.wanted, state, note)


def _restore(machine: Machine, path: str, text: str) -> Outcome:
    place = place_at(machine, path)
    try:
        before = place.read()
    except UnreadableError as error:
        return Outcome(path, "", text, "gone" if place.lacking() else "refused", error.reason)
    note = _put(machine, path, text) if before != text else ""
    return Outcome(path, before, text, "refused" if note else "done", note)


def _put(machine: Machine, path: str, text: str) -> str:
    """Bring a place to `text`; why it is not so afterwards, or nothing."""
    place = place_at(machine, path)
    try:
        place.write(text)
        found = place.read()
    except OSError as error:
        return error.strerror or str(error)
    except UnreadableError as error:
        return error.reason
    except ValueError as error:  # a saved priority of swap that is no number
        return str(error)
    return "" if _alike(found, text) else f"the kernel made it {found or 'nothing'}"


def _alike(found: str, wanted: str) -> bool:
    """Equal, or the same mask of cores: `00000001` reads back where `1` was written."""
    return found == wanted or found.replace(",", "").lstrip("0") == wanted.replace(",", "").lstrip("0") != ""
