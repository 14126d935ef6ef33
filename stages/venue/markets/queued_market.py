"""What markets of recorded data share: our orders queue behind the recorded ones, and change nothing for others."""

from __future__ import annotations

from collections.abc import Iterator

from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Fill, Order
from stages.domain.matching.queue_model import QueueModel
from stages.venue.instruments import Instrument


class QueuedMarket:
    """The part of `stages.venue.markets.market.Market` that is about our own orders."""

    def __init__(self, item: Instrument) -> None:
        self.instrument = item
        self._model = QueueModel()
        self._trade_id = 0

    def takeable(self, side: Side) -> Iterator[tuple[int, int]]:
        return self._model.available(side.opposite)

    def submit(self, order: Order, *, rest: bool) -> list[tuple[Fill, int]]:
        return self._number(self._model.submit(order, rest=rest))

    def cancel(self, order: Order) -> None:
        cancelled = self._model.cancel(order.order_id)
        assert cancelled is not None, f"order_id={order.order_id} is not in the book"

    def publish(self) -> None:
        """Our orders never change the published data."""

    def _number(self, fills: list[Fill]) -> list[tuple[Fill, int]]:
        numbered = []
        for fill in fills:
            self._trade_id += 1
            numbered.append((fill, self._trade_id))
        return numbered
