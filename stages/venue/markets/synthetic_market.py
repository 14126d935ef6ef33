"""One symbol of the synthetic market: an order-by-order book, published as Binance publishes its own.

Every change of the book raises its update id. Depth diffs gather the changes of 100 ms (and, for `@depth`, of
1 s) with U = previous u + 1. bookTicker goes out whenever the best price or quantity has changed, with the id of
the book; trades go out at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from stages.domain.matching.ladder import Side
from stages.domain.matching.order_book import OrderBook
from stages.domain.matching.orders import Fill, Order
from stages.venue.endpoints.hub import Hub
from stages.venue.exchange import now_ms
from stages.venue.fixed import show
from stages.venue.instruments import Instrument

Best = tuple[int, int, int, int]  # bid, bid quantity, ask, ask quantity


class DiffStream:
    """Changes gathered for one diff stream."""

    def __init__(self, stream: str, last_update_id: int) -> None:
        self.stream = stream
        self.last_update_id = last_update_id
        self.changed: dict[tuple[Side, int], None] = {}


class SyntheticMarket:
    """Implements `stages.venue.markets.market.Market`."""

    def __init__(self, item: Instrument, hub: Hub, *, first_update_id: int, first_trade_id: int) -> None:
        self.instrument = item
        self.book = OrderBook(first_update_id)
        self._hub = hub
        self._name = item.symbol.lower()
        self._trade_id = first_trade_id
        self._aggregate_id = first_trade_id
        self._last_price = 0
        self._trades: list[tuple[Fill, int]] = []
        self._best: Best = (0, 0, 0, 0)
        self._fast = DiffStream(f"{self._name}@depth@100ms", first_update_id)
        self._slow = DiffStream(f"{self._name}@depth", first_update_id)

    @property
    def last_price(self) -> int:
        return self._last_price

    def takeable(self, side: Side) -> Iterator[tuple[int, int]]:
        return self.book.levels(side.opposite)

    def submit(self, order: Order, *, rest: bool) -> list[tuple[Fill, int]]:
        numbered = []
        for fill in self.book.submit(order, rest=rest):
            self._trade_id += 1
            self._last_price = fill.price
            numbered.append((fill, self._trade_id))
        self._trades += numbered
        return numbered

    def cancel(self, order: Order) -> None:
        cancelled = self.book.cancel(order.order_id)
        assert cancelled is not None, f"order_id={order.order_id} is not in the book"

    async def depth(self, limit: int) -> bytes:
        bids, asks = (_levels(islice(self.book.levels(side), limit)) for side in Side)
        return f'{{"lastUpdateId":{self.book.update_id},"bids":{bids},"asks":{asks}}}'.encode()

    def open(self) -> None:
        """Take the book as it stands for the opening state, which no diff reports."""
        self.book.changes.clear()
        self._trades.clear()
        self._best = self._read_best()
        self._fast.last_update_id = self._slow.last_update_id = self.book.update_id

    def publish(self) -> None:
        if self._trades:
            self._publish_trades()
        changes = self.book.changes
        if not changes:
            return
        for change in changes:
            self._fast.changed[change] = None
            self._slow.changed[change] = None
        changes.clear()
        best = self._read_best()
        if best != self._best:
            self._best = best
            stream = f"{self._name}@bookTicker"
            if self._hub.is_wanted(stream):
                bid, bid_quantity, ask, ask_quantity = map(show, best)
                self._hub.publish(
                    stream,
                    f'{{"u":{self.book.update_id},"s":"{self.instrument.symbol}","b":"{bid}",'
                    f'"B":"{bid_quantity}","a":"{ask}","A":"{ask_quantity}"}}'.encode(),
                )

    def publish_diffs(self, *, slow: bool) -> None:
        """Send the diff of the last 100 ms (slow: of the last second), when there was any change."""
        self.publish()
        diff = self._slow if slow else self._fast
        if not diff.changed:
            return
        if self._hub.is_wanted(diff.stream):
            self._hub.publish(diff.stream, self._diff(diff))
        diff.last_update_id = self.book.update_id
        diff.changed.clear()

    def _diff(self, diff: DiffStream) -> bytes:
        prices: dict[Side, list[int]] = {side: [] for side in Side}
        for side, price in diff.changed:
            prices[side].append(price)
        bids, asks = (
            _levels(
                (price, self.book.quantity_at(side, price)) for price in sorted(prices[side], reverse=side is Side.BUY)
            )
            for side in Side
        )
        return (
            f'{{"e":"depthUpdate","E":{now_ms()},"s":"{self.instrument.symbol}",'
            f'"U":{diff.last_update_id + 1},"u":{self.book.update_id},"b":{bids},"a":{asks}}}'
        ).encode()

    def _read_best(self) -> Best:
        bid, ask = self.book.best_price(Side.BUY), self.book.best_price(Side.SELL)
        return (
            bid or 0,
            self.book.quantity_at(Side.BUY, bid) if bid is not None else 0,
            ask or 0,
            self.book.quantity_at(Side.SELL, ask) if ask is not None else 0,
        )

    def _publish_trades(self) -> None:
        trades, self._trades = self._trades, []
        symbol, now = self.instrument.symbol, now_ms()
        single, aggregated = f"{self._name}@trade", f"{self._name}@aggTrade"
        if self._hub.is_wanted(single):
            for fill, trade_id in trades:
                self._hub.publish(
                    single,
                    f'{{"e":"trade","E":{now},"s":"{symbol}","t":{trade_id},"p":"{show(fill.price)}",'
                    f'"q":"{show(fill.quantity)}","T":{now},"m":{_maker_buys(fill)},"M":true}}'.encode(),
                )
        for price, quantity, first, last, maker_buys in _aggregate(trades):
            self._aggregate_id += 1
            if self._hub.is_wanted(aggregated):
                self._hub.publish(
                    aggregated,
                    f'{{"e":"aggTrade","E":{now},"s":"{symbol}","a":{self._aggregate_id},"p":"{show(price)}",'
                    f'"q":"{show(quantity)}","f":{first},"l":{last},"T":{now},"m":{maker_buys},"M":true}}'.encode(),
                )


def _maker_buys(fill: Fill) -> str:
    assert fill.maker is not None
    return "true" if fill.maker.side is Side.BUY else "false"


def _aggregate(trades: list[tuple[Fill, int]]) -> Iterator[tuple[int, int, int, int, str]]:
    """Trades of one taking order at one price, added up: (price, quantity, first id, last id, buyer is maker)."""
    start = 0
    while start < len(trades):
        fill, first = trades[start]
        end = start
        while end < len(trades) and trades[end][0].taker is fill.taker and trades[end][0].price == fill.price:
            end += 1
        quantity = sum(item.quantity for item, _ in trades[start:end])
        yield fill.price, quantity, first, trades[end - 1][1], _maker_buys(fill)
        start = end


def _levels(levels: Iterator[tuple[int, int]]) -> str:
    return "[" + ",".join(f'["{show(price)}","{show(quantity)}"]' for price, quantity in levels) + "]"
