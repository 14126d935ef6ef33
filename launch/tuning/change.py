"""Apply settings, and take them back. What stood there is saved before the first of them is touched.

The saved values are those from before the *first* apply: a second one adds places that are new, and replaces none.
Each place is written, read back and reported by itself; whatever fails, the saved values stay until all are restored.
"""

import ctypes
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from launch.errors import UnreadableError
from launch.host.machine import Machine
from launch.tuning import saved
from launch.tuning.setting import SWAPS, Setting
from launch.tuning.survey import Row, read, survey

SWAP_FLAG_PREFER, SWAP_PRIORITY_MASK = 0x8000, 0x7FFF
"""include/linux/swap.h"""

_libc = ctypes.CDLL(None, use_errno=True)


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
    try:
        before = read(machine, path)
    except UnreadableError as error:
        gone = not machine.path(path).exists()
        return Outcome(path, "", text, "gone" if gone else "refused", error.reason)
    note = _put(machine, path, text) if before != text else ""
    return Outcome(path, before, text, "refused" if note else "done", note)


def _put(machine: Machine, path: str, text: str) -> str:
    """Bring a place to `text`; why it is not so afterwards, or nothing."""
    try:
        if path == SWAPS:
            _swap(machine, text)
        else:
            _write(machine, path, text)
        found = read(machine, path)
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


def _write(machine: Machine, path: str, text: str) -> None:
    """One write call, which is how the kernel takes a value; never creates a file."""
    descriptor = os.open(machine.path(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


def _swap(machine: Machine, wanted: str) -> None:
    """Give areas back that are not wanted, take those that are and are missing. Raises OSError."""
    now, then = read(machine, SWAPS).split(), wanted.split()
    for area in now:
        if area not in then:
            _call_swap("swapoff", machine, area)
    for area in then:
        if area not in now:
            priority = int(area.rpartition("@")[2])
            # A negative priority is one that the kernel chose, and will choose again in this order.
            flags = SWAP_FLAG_PREFER | (priority & SWAP_PRIORITY_MASK) if priority >= 0 else 0
            _call_swap("swapon", machine, area, flags)


def _call_swap(call: str, machine: Machine, area: str, *flags: int) -> None:
    # /proc/swaps writes blanks and the like as three octal digits
    name = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), area.rpartition("@")[0])
    if getattr(_libc, call)(os.fsencode(machine.path(name)), *flags):
        number = ctypes.get_errno()
        raise OSError(number, f"{call} {name}: {os.strerror(number)}")
