"""The distinct-error log: an entry is made, then counted in, while somebody reads it; its writer is killed anywhere."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from shm import errorlog
from tests.shm.interleavings.operations import Operation, Outcome, WrongError
from tests.shm.interleavings.scenarios import BASE, RECORD, content, names, prepared, read_content
from tests.shm.interleavings.search import Scenario

TEXT_BYTES = 16
SEVERITY, NOW_NS = 40, 7


@dataclass(frozen=True)
class Observing:
    """Observes one error `total` times. The state is (observations, or None: look what is there; life)."""

    total: int
    name: str = "writer"
    start: Hashable = (0, 0)
    restarts: bool = True

    def operation(self, state: Any) -> Operation | None:
        count, life = state
        if count is None:
            return Operation("shm.errorlog", "copy_entry", (BASE, RECORD))
        if count >= self.total:
            return None
        if count > 0:
            return Operation("shm.errorlog", "repeat", (BASE, NOW_NS + count))
        words = tuple((RECORD + 8 * word, content(0, word, life)) for word in (0, 1))
        return Operation("shm.errorlog", "append", (BASE, RECORD, TEXT_BYTES, SEVERITY, NOW_NS), words)

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        count, life = state
        if count is not None:
            return count + 1, life
        return (outcome.private.get(RECORD + errorlog.COUNT, 0) if outcome.result else 0), life

    def restart(self, state: Any) -> Hashable:
        return None, state[1] + 1


@dataclass(frozen=True)
class Reading:
    """Looks `tries` times. The state is (tries left, the text's life once it is known, count, newest time)."""

    tries: int
    most: int
    name: str = "reader"
    restarts: bool = False

    @property
    def start(self) -> Hashable:
        return self.tries, None, 0, 0

    def operation(self, state: Any) -> Operation | None:
        return Operation("shm.errorlog", "copy_entry", (BASE, RECORD)) if state[0] else None

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        left, known, count, last_ns = state
        if not outcome.result:
            if known is not None:
                raise WrongError("an entry is gone")
            return left - 1, None, 0, 0
        word = {name: outcome.private.get(RECORD + getattr(errorlog, name), 0) for name in ("SEVERITY", "FIRST_NS")}
        if (outcome.result, word) != (TEXT_BYTES, {"SEVERITY": SEVERITY, "FIRST_NS": NOW_NS}):
            raise WrongError(f"an entry is not whole: length {outcome.result}, {word}")
        text = RECORD + errorlog.TEXT
        _, life = read_content((outcome.private.get(text, 0), outcome.private.get(text + 8, 0)), "a text")
        now, now_ns = (outcome.private.get(RECORD + at, 0) for at in (errorlog.COUNT, errorlog.LAST_NS))
        if known not in (None, life):
            raise WrongError("a text has changed")
        if not max(1, count) <= now <= self.most or now_ns < max(NOW_NS, last_ns):
            raise WrongError(f"count={now} after {count}, last_ns={now_ns} after {last_ns}")
        return left - 1, life, now, now_ns

    def restart(self, state: Any) -> Hashable:
        raise AssertionError("it has no successor")


def error_scenario(total: int, *, reads: int = 2, kills: int = 1) -> Scenario:
    """One entry, observed `total` times."""
    return Scenario(
        f"error log, {total} observations, {reads} reads", (Observing(total), Reading(reads, total)), prepared(),
        names(
            BASE, length=errorlog.LENGTH, severity=errorlog.SEVERITY, first=errorlog.FIRST_NS, last=errorlog.LAST_NS,
            count=errorlog.COUNT, text=errorlog.TEXT,
        ),
        kills,
    )  # fmt: skip
