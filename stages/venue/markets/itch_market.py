"""One security of an ITCH replay: the recorded book of single orders, and our orders in it."""

from __future__ import annotations

from itertools import islice
from typing import Any

from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Fill
from stages.venue.fixed import SCALE, show
from stages.venue.instruments import Instrument
from stages.venue.markets.queued_market import QueuedMarket

PRICE_SCALE = SCALE // 10_000
"""ITCH prices have 4 decimals."""
RecordedOrder = list[int]
"""Side (a number), price, what is left."""


class ItchMarket(QueuedMarket):
    """Implements `stages.venue.markets.market.Market`.

    An execution is a trade first, which our orders at its price or better take part in, then it shrinks its order.
    """

    def __init__(self, item: Instrument) -> None:
        super().__init__(item)
        self.last_price = 0
        self._orders: dict[int, RecordedOrder] = {}
        self._levels: dict[tuple[int, int], int] = {}
        self._messages = 0

    async def depth(self, limit: int) -> bytes:
        bids, asks = (
            ",".join(f'["{show(price)}","{show(left)}"]' for price, left in islice(self._model.levels(side), limit))
            for side in Side
        )
        return f'{{"lastUpdateId":{self._messages},"bids":[{bids}],"asks":[{asks}]}}'.encode()

    def begin_day(self) -> list[tuple[Fill, int]]:
        """The orders of the day before are no more."""
        fills = [fill for reference in list(self._orders) for fill in self._shrink(reference, None)]
        return self._number(fills)

    def play(self, letter: str, message: dict[str, Any]) -> list[tuple[Fill, int]]:
        """Take note of a message that goes out; returns the fills of our orders that it causes."""
        self._messages += 1
        fills: list[Fill] = []
        if letter in "AF":
            side = Side.BUY if message["side"] == b"B" else Side.SELL
            fills = self._add(message["order_reference"], side, message["price"], message["shares"])
        elif letter in "EC":
            fills = self._execute(message)
        elif letter == "X":
            fills = self._shrink(message["order_reference"], message["cancelled_shares"])
        elif letter == "D":
            fills = self._shrink(message["order_reference"], None)
        elif letter == "U":
            order = self._orders.get(message["order_reference"])
            if order is not None:
                fills = self._shrink(message["order_reference"], None)
                fills += self._add(message["new_order_reference"], Side(order[0]), message["price"], message["shares"])
        elif letter == "P":
            self.last_price = message["price"] * PRICE_SCALE
        return self._number(fills)

    def _add(self, reference: int, side: Side, price: int, shares: int) -> list[Fill]:
        if reference in self._orders or not shares:
            return []
        self._orders[reference] = [int(side), price, shares]
        return self._change(side, price, shares)

    def _execute(self, message: dict[str, Any]) -> list[Fill]:
        order = self._orders.get(message["order_reference"])
        if order is None:
            return []
        side, shares = Side(order[0]), message["executed_shares"]
        self.last_price = message.get("execution_price", order[1]) * PRICE_SCALE
        fills = self._model.trade(self.last_price, shares * SCALE, buyer_is_maker=side is Side.BUY)
        return fills + self._shrink(message["order_reference"], shares)

    def _shrink(self, reference: int, shares: int | None) -> list[Fill]:
        """So much less of an order, None: all of it."""
        order = self._orders.get(reference)
        if order is None:
            return []
        gone = order[2] if shares is None else min(shares, order[2])
        order[2] -= gone
        if not order[2]:
            del self._orders[reference]
        return self._change(Side(order[0]), order[1], -gone)

    def _change(self, side: Side, price: int, shares: int) -> list[Fill]:
        level = int(side), price
        left = self._levels[level] = self._levels.get(level, 0) + shares
        if not left:
            del self._levels[level]
        changed = [(price * PRICE_SCALE, left * SCALE)]
        return self._model.apply(changed, ()) if side is Side.BUY else self._model.apply((), changed)
