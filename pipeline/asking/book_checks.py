"""Integrity checks of books that a user asks for: the book stage makes them, request and answer go by shared memory."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch.control.protocol import FAILED, ControlError
from pipeline.reports.seqlock_rows import read_row
from shm.atomics import peek, poke
from shm.segment import Segment
from stages.domain.edges import CHECK_REQUESTS, CHECK_TABLE
from stages.domain.messages import BOOK_CHECK, CHECK_REQUEST
from stages.domain.orderbook.integrity import FAULTS

PATIENCE_S = 10.0
"""A million orders take a second or two beside a stage that is busy."""


class BookChecks:
    """Asks the book stage of a run. The process must be the only one that does."""

    def __init__(
        self, segments: Mapping[str, Segment], symbols: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`symbols`: names, in the order of the instrument table."""
        self._segments, self._symbols, self._clock = segments, list(symbols), clock

    def ask(self, symbol: str) -> Callable[[], Mapping[str, Any] | None] | None:
        """What returns the result, or None for not yet; None instead when the symbol is not traded.

        Raises ControlError in the end when the stage does not answer.
        """
        if symbol not in self._symbols:
            return None
        index = self._symbols.index(symbol)
        requests = self._segments[CHECK_REQUESTS].address
        own = requests + CHECK_REQUEST.itemsize * (1 + index)
        number = peek(own) + 1
        poke(own, number)
        poke(requests, peek(requests) + 1)
        end_s = self._clock() + PATIENCE_S

        def look() -> Mapping[str, Any] | None:
            row = read_row(self._segments[CHECK_TABLE], BOOK_CHECK, index)
            if row is not None and int(row[0]["request"]) >= number:
                return _document(row)
            if self._clock() > end_s:
                raise ControlError(
                    f"the book stage has not checked {symbol} within {PATIENCE_S:g} s",
                    "it may be down, or wait for the rest of an event: see `pipeline status` and `pipeline logs book`",
                    FAILED,
                )
            return None

        return look


def _document(row: Any) -> dict[str, Any]:
    check = row[0]
    return {
        "sound": not check["fault"],
        "fault": FAULTS[int(check["fault"])] if check["fault"] else None,
        "is_whole": bool(check["is_whole"]),
        **{name: int(check[name]) for name in ("levels", "orders", "checks", "violations")},
    }
