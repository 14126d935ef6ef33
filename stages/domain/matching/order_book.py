"""Order-by-order matching with price-time priority.

The best price trades first; at one price the oldest order trades first, whole or in part; a partly filled order
keeps its place. A trade happens at the resting order's price. Every change of a level raises `update_id` by one
and is noted in `changes`, from which the publisher makes depth diffs whose ids join (binance.md 1.5).
"""

from __future__ import annotations

from collections.abc import Iterator

from stages.domain.matching.ladder import Ladder, Side
from stages.domain.matching.orders import Fill, Order, reaches


class Level:
    """The queue at one price, oldest first (a dict keeps insertion order and removes in O(1))."""

    __slots__ = ("orders", "quantity")

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.quantity = 0


class OrderBook:
    """One instrument's book of single orders."""

    def __init__(self, first_update_id: int = 0) -> None:
        self.update_id = first_update_id
        self.changes: list[tuple[Side, int]] = []
        self._sides: dict[Side, Ladder[Level]] = {side: Ladder(side) for side in Side}
        self._orders: dict[int, Order] = {}

    def __contains__(self, order_id: int) -> bool:
        return order_id in self._orders

    def order(self, order_id: int) -> Order | None:
        return self._orders.get(order_id)

    def quantity_at(self, side: Side, price: int) -> int:
        level = self._sides[side].get(price)
        return level.quantity if level is not None else 0

    def best_price(self, side: Side) -> int | None:
        return self._sides[side].best_price()

    def level_count(self, side: Side) -> int:
        return len(self._sides[side])

    def levels(self, side: Side) -> Iterator[tuple[int, int]]:
        """(price, quantity) of one side, best first."""
        for price, level in self._sides[side].best_first():
            yield price, level.quantity

    def queue(self, side: Side, price: int) -> list[Order]:
        """The orders at one price, oldest first."""
        level = self._sides[side].get(price)
        return list(level.orders.values()) if level is not None else []

    def submit(self, order: Order, *, rest: bool) -> list[Fill]:
        """Match `order` as far as its price reaches; with `rest` the remainder joins the book, else it is
        dropped (`order.remaining` says how much). Fill-or-kill and post-only are the caller's check before."""
        assert order.remaining > 0, f"remaining={order.remaining}, must be positive"
        assert order.order_id not in self._orders, f"order_id={order.order_id} is in the book already"
        fills: list[Fill] = []
        against = self._sides[order.side.opposite]
        while order.remaining:
            price = against.best_price()
            if price is None or not reaches(order.side, order.price, price):
                break
            level = against.get(price)
            assert level is not None
            self._take(order, price, level, fills)
        if order.remaining and rest:
            self._rest(order)
        return fills

    def cancel(self, order_id: int) -> Order | None:
        """Remove a resting order; None when it is not in the book."""
        order = self._orders.pop(order_id, None)
        if order is None:
            return None
        side = self._sides[order.side]
        level = side.get(order.price)
        assert level is not None
        del level.orders[order_id]
        level.quantity -= order.remaining
        if not level.orders:
            side.remove(order.price)
        self._changed(order.side, order.price)
        return order

    def _take(self, taker: Order, price: int, level: Level, fills: list[Fill]) -> None:
        side = taker.side.opposite
        while taker.remaining and level.orders:
            maker = next(iter(level.orders.values()))
            quantity = min(taker.remaining, maker.remaining)
            taker.remaining -= quantity
            maker.remaining -= quantity
            level.quantity -= quantity
            if not maker.remaining:
                del level.orders[maker.order_id]
                del self._orders[maker.order_id]
            fills.append(Fill(maker, taker, price, quantity))
            self._changed(side, price)
        if not level.orders:
            self._sides[side].remove(price)

    def _rest(self, order: Order) -> None:
        side = self._sides[order.side]
        level = side.get(order.price)
        if level is None:
            level = Level()
            side.put(order.price, level)
        level.orders[order.order_id] = order
        level.quantity += order.remaining
        self._orders[order.order_id] = order
        self._changed(order.side, order.price)

    def _changed(self, side: Side, price: int) -> None:
        self.update_id += 1
        self.changes.append((side, price))
