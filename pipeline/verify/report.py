"""What verification found in one file, and how it is written down."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Problem:
    """Something that is wrong with a file, counted; where it happened first, and what that was."""

    name: str
    what: str
    count: int
    offset: int | None
    line: int | None

    def document(self) -> dict[str, Any]:
        """As in the report."""
        return {
            "problem": self.name, "count": self.count, "offset": self.offset, "line": self.line, "what": self.what,
        }  # fmt: skip

    def __str__(self) -> str:
        places = [
            f"line {self.line:,}" if self.line is not None else "",
            f"offset {self.offset:,}" if self.offset is not None else "",
        ]
        where = ", ".join(place for place in places if place)
        many = f" ({self.count:,} times, the first" if self.count > 1 else " ("
        return f"{self.name}{many}{' ' if where and self.count > 1 else ''}{where}): {self.what}"


@dataclass
class FileReport:
    """One entry of the report's `files`. `seconds` is the time in which `events` were decoded and put into books."""

    file: str
    format: str
    messages: Counter[str] = field(default_factory=Counter)
    bytes_left: int = 0
    compared: int = 0
    matched: int = 0
    first_mismatch: dict[str, Any] | None = None
    gaps: int = 0
    resyncs: int = 0
    unknown_orders: int = 0
    symbols: int = 0
    events: int = 0
    seconds: float = 0.0
    why_not_compared: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    """What only this format has to say."""
    _problems: dict[str, Problem] = field(default_factory=dict)

    @property
    def problems(self) -> list[Problem]:
        """In the order in which they were found."""
        return list(self._problems.values())

    def first_problem(self) -> str:
        """To end a sentence with: why a file is of no use may be the damage that was found first."""
        return f"; {self.problems[0]}" if self._problems else ""

    @property
    def differs(self) -> bool:
        """Whether a comparison failed."""
        return self.matched < self.compared

    def problem(
        self, name: str, what: str, *, count: int = 1, offset: int | None = None, line: int | None = None
    ) -> None:
        """Count a problem; the first of its name is the one that is shown."""
        if count == 0:
            return
        known = self._problems.get(name)
        if known is None:
            self._problems[name] = Problem(name, what, count, offset, line)
        else:
            known.count += count

    def document(self) -> dict[str, Any]:
        """As interfaces.md has it, and what else is known."""
        return {
            "file": self.file,
            "format": self.format,
            "messages": dict(self.messages),
            "bytes_left": self.bytes_left,
            "compared": self.compared,
            "matched": self.matched,
            "first_mismatch": self.first_mismatch,
            "gaps": self.gaps,
            "resyncs": self.resyncs,
            "unknown_orders": self.unknown_orders,
            "symbols": self.symbols,
            "events_per_second": round(self.events / self.seconds) if self.seconds else None,
            "why_not_compared": self.why_not_compared or None,
            "problems": [problem.document() for problem in self.problems],
            **self.details,
        }


@dataclass
class Verification:
    """The whole report."""

    files: list[FileReport]
    books: dict[str, dict[str, Any]]

    @property
    def differs(self) -> bool:
        """Whether a comparison failed anywhere."""
        return any(report.differs for report in self.files)

    def document(self) -> dict[str, Any]:
        """As interfaces.md has it."""
        return {"files": [report.document() for report in self.files], "books": self.books}
