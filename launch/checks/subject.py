"""A subject of the doctor: what is looked at, why it costs latency, and the function that looks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from launch.errors import UnreadableError
from launch.findings import Finding
from launch.host.machine import Machine

Status = Literal["ok", "warn", "bad"]
_SEVERITY: tuple[Status, ...] = ("ok", "warn", "bad")


class Verdict(NamedTuple):
    """ok: nothing to gain. warn: costs microseconds, or cannot be told. bad: costs milliseconds, or a run fails."""

    status: Status
    what: str
    hint: str = ""


def ok(what: str) -> Verdict:
    return Verdict("ok", what)


def warn(what: str, hint: str) -> Verdict:
    return Verdict("warn", what, hint)


def bad(what: str, hint: str) -> Verdict:
    return Verdict("bad", what, hint)


def worst(verdicts: Iterable[Verdict], otherwise: Verdict) -> Verdict:
    """One verdict for several things alike: the worst status, what of all that have it, the first one's hint."""
    found = list(verdicts)
    if not found:
        return otherwise
    status = max((verdict.status for verdict in found), key=_SEVERITY.index)
    having = [verdict for verdict in found if verdict.status == status]
    return Verdict(status, "; ".join(verdict.what for verdict in having), having[0].hint)


@dataclass(frozen=True)
class Subject:
    """`look` may raise UnreadableError: that is a finding too."""

    id: str
    why: str
    look: Callable[[Machine], Verdict]

    def finding(self, machine: Machine) -> Finding:
        """What was found. Never raises."""
        try:
            verdict = self.look(machine)
        except UnreadableError as error:
            verdict = warn(f"cannot be told here: {error}", "run it on the host, where the file is, or as root")
        return Finding(self.id, verdict.what, self.why, verdict.hint, verdict.status)
