"""Our orders against a recorded market that does not know them.

The recorded book shows quantities per price (no single orders), and what we do must not change it (replay rule
(b) of interfaces.md). So our fills are modelled:

- A passive order waits behind the quantity displayed at its price when it arrived (`Order.ahead`). A recorded
  trade at that price consumes what is ahead first, then fills us; what is ahead is never more than what is
  displayed, so it shrinks when the level does (others cancelled).
- A recorded trade through our price (an aggressor who would have met us first) fills us at our price, for no
  more than the quantity that traded. One trade's quantity is shared among our orders in price-time priority.
- When the recorded book comes to cross our price, we are filled at our price against the displayed quantity.
- A taking order takes the displayed levels, best first. What we took from a level is remembered until that level
  changes in the recorded data: the same liquidity is not sold to us twice, and comes back only when the
  recording says something new about it.

Our own orders do not trade with each other here. Between two diffs the book is as old as the last diff (the
recorded bookTicker is not merged into it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stages.domain.matching.ladder import Ladder, Side
from stages.domain.matching.orders import Fill, Order, reaches


class QueueModel:
    """The displayed book of one instrument, and our orders in it."""

    def __init__(self) -> None:
        self._displayed: dict[Side, Ladder[int]] = {side: Ladder(side) for side in Side}
        self._taken: dict[tuple[Side, int], int] = {}
        self._ours: dict[Side, Ladder[list[Order]]] = {side: Ladder(side) for side in Side}
        self._orders: dict[int, Order] = {}

    @property
    def order_count(self) -> int:
        return len(self._orders)

    def levels(self, side: Side) -> Iterator[tuple[int, int]]:
        """The displayed (price, quantity) of one side, best first: exactly what was recorded."""
        return self._displayed[side].best_first()

    def available(self, side: Side) -> Iterator[tuple[int, int]]:
        """Displayed levels of `side` less what we took from them since they last changed."""
        for price, quantity in self._displayed[side].best_first():
            left = quantity - self._taken.get((side, price), 0)
            if left > 0:
                yield price, left

    def seed(self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]) -> list[Fill]:
        """Replace the displayed book by a snapshot."""
        self._taken.clear()
        for side, levels in ((Side.BUY, bids), (Side.SELL, asks)):
            self._displayed[side].clear()
            for price, quantity in levels:
                if quantity:
                    self._displayed[side].put(price, quantity)
        for order in self._orders.values():
            order.ahead = min(order.ahead, self._displayed[order.side].get(order.price) or 0)
        return self._fill_crossed()

    def apply(self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]) -> list[Fill]:
        """Apply one diff (absolute quantities, 0 deletes); returns the fills of orders it came to cross."""
        for side, levels in ((Side.BUY, bids), (Side.SELL, asks)):
            displayed, ours = self._displayed[side], self._ours[side]
            for price, quantity in levels:
                if quantity:
                    displayed.put(price, quantity)
                else:
                    displayed.remove(price)
                self._taken.pop((side, price), None)
                for order in ours.get(price) or ():
                    order.ahead = min(order.ahead, quantity)
        return self._fill_crossed() if self._orders else []

    def trade(self, price: int, quantity: int, *, buyer_is_maker: bool) -> list[Fill]:
        """A recorded trade: fill our passive orders that it reaches."""
        side = Side.BUY if buyer_is_maker else Side.SELL
        fills: list[Fill] = []
        for our_price, orders in list(self._ours[side].best_first()):
            if not quantity or not reaches(side, our_price, price):
                break
            if our_price == price:
                quantity = self._trade_at(orders, quantity, fills)
            else:
                for order in list(orders):
                    quantity -= self._fill(order, quantity, fills)
        return fills

    def submit(self, order: Order, *, rest: bool) -> list[Fill]:
        """Take what the displayed book offers within the limit price; with `rest` the remainder queues."""
        assert order.remaining > 0, f"remaining={order.remaining}, must be positive"
        fills: list[Fill] = []
        side = order.side.opposite
        for price, quantity in list(self._reachable(order.side, order.price)):
            if not order.remaining:
                break
            step = min(order.remaining, quantity)
            order.remaining -= step
            self._taken[side, price] = self._taken.get((side, price), 0) + step
            fills.append(Fill(None, order, price, step))
        if order.remaining and rest:
            order.ahead = self._displayed[order.side].get(order.price) or 0
            queue = self._ours[order.side].get(order.price)
            if queue is None:
                self._ours[order.side].put(order.price, [order])
            else:
                queue.append(order)
            self._orders[order.order_id] = order
        return fills

    def cancel(self, order_id: int) -> Order | None:
        """Remove a resting order of ours; None when it is not resting."""
        order = self._orders.pop(order_id, None)
        if order is not None:
            queue = self._ours[order.side].get(order.price)
            assert queue is not None
            queue.remove(order)
            if not queue:
                self._ours[order.side].remove(order.price)
        return order

    def _reachable(self, side: Side, limit_price: int) -> Iterator[tuple[int, int]]:
        for price, quantity in self.available(side.opposite):
            if not reaches(side, limit_price, price):
                return
            yield price, quantity

    def _trade_at(self, orders: list[Order], quantity: int, fills: list[Fill]) -> int:
        """Trade `quantity` through the queue at one price: others' part ahead of each order goes first."""
        consumed = 0  # of the displayed quantity
        for order in list(orders):
            step = min(quantity, max(0, order.ahead - consumed))
            consumed += step
            quantity -= step
            if not quantity:
                break
            quantity -= self._fill(order, quantity, fills)
        for order in orders:
            order.ahead = max(0, order.ahead - consumed)
        return quantity

    def _fill_crossed(self) -> list[Fill]:
        fills: list[Fill] = []
        for side in Side:
            for our_price, orders in list(self._ours[side].best_first()):
                offered = list(self._reachable(side, our_price))
                if not offered:
                    break
                for order in list(orders):
                    for index, (price, quantity) in enumerate(offered):
                        step = self._fill(order, quantity, fills)
                        offered[index] = (price, quantity - step)
                        if step:
                            key = (side.opposite, price)
                            self._taken[key] = self._taken.get(key, 0) + step
        return fills

    def _fill(self, order: Order, quantity: int, fills: list[Fill]) -> int:
        """Fill a resting order at its own price with up to `quantity`; returns how much."""
        step = min(order.remaining, quantity)
        if step:
            order.remaining -= step
            fills.append(Fill(order, None, order.price, step))
            if not order.remaining:
                self.cancel(order.order_id)
        return step
