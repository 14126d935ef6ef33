"""What a live run answers on its control socket: verbs composed from what the session and the supervisor can do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from launch.control.path import create_socket, remove_socket
from launch.control.protocol import FAILED, ControlError
from launch.control.server import ControlServer, Handler, Pending
from launch.supervision.requests import ACTIONS, Action, Request
from launch.supervision.signals import Signals
from launch.supervision.supervisor import Outcome
from stages.domain.instruments import listing


class StageControl(Protocol):
    """Who restarts, stops and starts single stages: the supervisor."""

    def request(self, action: Action, stage: str) -> Request:
        """Begin to; it is done in the course of watching. Raises LaunchError when it is refused."""


@dataclass(frozen=True)
class Abilities:
    """What a run can be asked for."""

    report: Callable[[], Mapping[str, Any]]
    """The run report as of now."""
    book: Callable[[str], Mapping[str, Any] | None]
    """The book of a symbol with its best levels; None when the run does not trade it."""
    check: Callable[[str], Callable[[], Mapping[str, Any] | None] | None]
    """Begin an integrity check of a symbol's book: what gives its result, or None for not yet; None as above."""
    grids: tuple[Mapping[str, Any], ...]
    """What is traded, in the order of the instrument table: symbol, tick, lot and their exponents."""
    journal: Path
    """Folder of the router's journal."""
    stop: Callable[[], None]
    """Begin to stop the run in order; said again it changes nothing."""
    stages: StageControl


class Control:
    """The control socket of one run, from `open` to `close`."""

    def __init__(self, run: str, abilities: Abilities) -> None:
        self.run, self._abilities = run, abilities
        self.asked_down = False
        self._downs: list[Pending] = []
        self._server: ControlServer | None = None
        self._path: Path | None = None

    def open(self, name: str, signals: Signals) -> Path:
        """Listen; returns where. Raises LaunchError when no folder can hold the socket."""
        listener, self._path = create_socket(name)
        self._server = ControlServer(listener, signals, self.handlers())
        signals.attend(self._server.attend)
        return self._path

    def ended(self, outcome: Outcome, exit_code: int, report: Path) -> None:
        """The run is over: tell those who asked for it."""
        result = {
            "run": self.run, "exit": outcome.exit, "exit_code": exit_code, "reason": outcome.reason,
            "notes": outcome.notes, "report": str(report),
        }  # fmt: skip
        for pending in self._downs:
            pending.complete(result)

    def close(self) -> None:
        """Answer what can be answered, and remove the socket."""
        if self._server is not None and self._path is not None:
            remove_socket(self._path)
            self._server.close()

    def handlers(self) -> dict[str, Handler]:
        """By verb."""
        return {
            "status": lambda request: self._abilities.report(),
            "book": self._book,
            "check": self._check,
            "journal": self._journal,
            "down": self._down,
            **{action: self._acting(action) for action in ACTIONS},
        }

    def _book(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        symbol = _argument(request, "symbol")
        book = self._abilities.book(symbol)
        if book is None:
            raise self._not_traded(symbol)
        return {"run": self.run, "symbol": symbol, **book}

    def _check(self, request: Mapping[str, Any]) -> Pending:
        symbol = _argument(request, "symbol")
        look = self._abilities.check(symbol)
        if look is None:
            raise self._not_traded(symbol)

        def result() -> Mapping[str, Any] | None:
            found = look()
            return None if found is None else {"run": self.run, "symbol": symbol, **found}

        return Pending(result)

    def _not_traded(self, symbol: str) -> ControlError:
        traded = listing([grid["symbol"] for grid in self._abilities.grids])
        return ControlError(f"symbol {symbol!r:.40} is not traded", f"traded: {traded}")

    def _journal(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Where it is and how to read it: reading it takes a tenth of a second, in which nobody would watch."""
        return {"run": self.run, "folder": str(self._abilities.journal), "grids": list(self._abilities.grids)}

    def _down(self, request: Mapping[str, Any]) -> Pending:
        self.asked_down = True
        self._abilities.stop()
        self._downs.append(Pending())
        return self._downs[-1]

    def _acting(self, action: Action) -> Handler:
        def act(request: Mapping[str, Any]) -> Pending:
            asked = self._abilities.stages.request(action, _argument(request, "stage"))
            return Pending(lambda: self._look(asked))

        return act

    def _look(self, asked: Request) -> Mapping[str, Any] | None:
        if asked.problem is not None:
            raise ControlError(asked.problem, f"`pipeline logs --run {self.run}` shows what it wrote", FAILED)
        return {"run": self.run, **asked.result} if asked.done else None


def _argument(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise ControlError(f"{name} is missing")
    return value
