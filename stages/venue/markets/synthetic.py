"""The synthetic market: a crowd whose orders, cancels and market orders come from one seeded generator.

Each symbol has a fair price that walks at random, and now and then jumps. The crowd places limit orders around
it (most within a few ticks, some far out), cancels some, and crosses the spread; when the fair price has left the
best quotes behind, somebody takes them. So the book is dense near the middle, the spread is mostly a few ticks,
and a quote a few ticks from the middle is reached again and again within seconds.

The sequence of events is a function of the seed and of the account's own orders; the wall clock only says when
each event happens. Behind schedule the venue catches up by at most CATCH_UP_MAX_NS, then time is skipped.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time

from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Fill, Order
from stages.venue.endpoints.hub import Hub
from stages.venue.exchange import Exchange
from stages.venue.instruments import Instrument
from stages.venue.markets.synthetic_market import SyntheticMarket

CATCH_UP_MAX_NS = 250_000_000
DIFF_INTERVAL_NS = 100_000_000
DIFFS_PER_SLOW_DIFF = 10
EVENTS_PER_TURN_MAX = 64
LEVELS_AT_START = 320
CROWD_ORDERS_TARGET = 1_500
SIDE_LEVELS_MIN = 40
NEWS_EVERY_EVENTS = 150  # then the fair price jumps by several ticks
FAIR_MIN = 2_000  # half ticks
_SIZE_STEPS = (1, 1, 1, 2, 2, 3, 5, 8)


class Crowd:
    """The other participants in one symbol."""

    def __init__(self, item: Instrument, market: SyntheticMarket, exchange: Exchange, rng: random.Random) -> None:
        self._item = item
        self._market = market
        self._exchange = exchange
        self._rng = rng
        self._fair = 2 * (item.initial_price // item.tick)  # in half ticks, so that spreads of 1 and 2 both occur
        self._orders: list[Order] = []

    def open_book(self) -> None:
        """Place the orders the market opens with: at least 200 levels a side."""
        for side in Side:
            for distance in range(LEVELS_AT_START):
                for _ in range(2 if distance < 40 else 1):
                    self._place(side, distance + (self._rng.randrange(distance) if distance > 60 else 0))
        self._market.open()

    def act(self) -> None:
        """One event: a limit order, a cancel, or a market order."""
        rng = self._rng
        if rng.randrange(3) == 0:
            self._fair = max(FAIR_MIN, self._fair + rng.choice((-2, -1, -1, 1, 1, 2)))
        if rng.randrange(NEWS_EVERY_EVENTS) == 0:
            self._fair = max(FAIR_MIN, self._fair + rng.choice((-1, 1)) * rng.randrange(4, 18))
        for side in Side:
            if self._market.book.level_count(side) < SIDE_LEVELS_MIN:
                self._place(side, rng.randrange(SIDE_LEVELS_MIN * 2))
                return
        if self._take_stale_quote():
            return
        kind = rng.randrange(100)
        surplus = len(self._orders) - CROWD_ORDERS_TARGET
        if kind < 12:
            self._cross(rng.choice((Side.BUY, Side.SELL)), slack_ticks=3)
        elif kind < (52 if abs(surplus) < 100 else 72 if surplus > 0 else 32):
            self._cancel()
        else:
            self._place(rng.choice((Side.BUY, Side.SELL)), self._distance())

    def _distance(self) -> int:
        """Ticks beyond the best price that the fair price allows, for a new limit order."""
        rng, kind = self._rng, self._rng.randrange(20)
        if kind < 13:
            return min(rng.randrange(10), rng.randrange(10), rng.randrange(10))
        return rng.randrange(60 if kind < 18 else 400)

    def _quantity(self) -> int:
        lots = max(1, self._item.typical_quantity // self._item.lot)
        steps = self._rng.choice(_SIZE_STEPS) * self._rng.randrange(20, 120)
        return max(self._item.min_quantity, max(1, lots * steps // 100) * self._item.lot)

    def _place(self, side: Side, distance_ticks: int) -> None:
        best = (self._fair - 1) // 2 if side is Side.BUY else self._fair // 2 + 1
        ticks = max(1, best - int(side) * distance_ticks)
        order = Order(self._exchange.next_order_id(), side, ticks * self._item.tick, self._quantity())
        self._submit(order, rest=True)
        if order.remaining:
            self._orders.append(order)

    def _cross(self, side: Side, *, slack_ticks: int) -> None:
        best = self._market.book.best_price(side.opposite)
        if best is None:
            return
        limit = max(self._item.tick, best + int(side) * slack_ticks * self._item.tick)
        self._submit(Order(self._exchange.next_order_id(), side, limit, self._quantity()), rest=False)

    def _take_stale_quote(self) -> bool:
        """Trade against a best quote that the fair price has passed."""
        for side in Side:
            best = self._market.book.best_price(side)
            if best is not None and (2 * best // self._item.tick - self._fair) * int(side) >= 0:
                self._cross(side.opposite, slack_ticks=0)
                return True
        return False

    def _cancel(self) -> None:
        """Cancel the farther of two random orders; filled ones met on the way are forgotten."""
        found: list[int] = []
        while self._orders and len(found) < 2:
            index = self._rng.randrange(len(self._orders))
            if self._orders[index].remaining:
                found.append(index)
            else:
                self._forget(index)
                found.clear()
        if not found:
            return
        tick = self._item.tick
        index = max(found, key=lambda i: abs(2 * self._orders[i].price // tick - self._fair))
        order = self._orders[index]
        self._forget(index)
        self._market.cancel(order)

    def _forget(self, index: int) -> None:
        self._orders[index] = self._orders[-1]
        self._orders.pop()

    def _submit(self, order: Order, *, rest: bool) -> None:
        fills: list[tuple[Fill, int]] = self._market.submit(order, rest=rest)
        if fills:
            self._exchange.apply_fills(self._item.symbol, fills)


class SyntheticSource:
    """Runs the crowds of all symbols."""

    def __init__(self, exchange: Exchange, hub: Hub, *, seed: int, events_per_second: int) -> None:
        self._exchange = exchange
        self._rng = random.Random(seed)
        self._mean_ns = 1_000_000_000 / events_per_second
        self._crowds: list[Crowd] = []
        self._markets: list[SyntheticMarket] = []
        for number, item in enumerate(exchange.instruments.values(), 1):
            market = SyntheticMarket(
                item, hub, first_update_id=number * 1_000_000_000, first_trade_id=number * 1_000_000
            )
            exchange.markets[item.symbol] = market
            crowd = Crowd(item, market, exchange, self._rng)
            crowd.open_book()
            self._markets.append(market)
            self._crowds.append(crowd)

    async def run(self) -> None:
        """Play events by the clock, for ever."""
        schedule = [(self._gap_ns(), index) for index in range(len(self._crowds))]
        heapq.heapify(schedule)
        start_ns = time.monotonic_ns()
        # Each symbol has its own phase, as at the venue: their diffs do not come in one burst.
        phase_ns = DIFF_INTERVAL_NS // len(self._markets)
        diffs = [(start_ns + DIFF_INTERVAL_NS + index * phase_ns, index, 1) for index in range(len(self._markets))]
        while True:
            now_ns = time.monotonic_ns()
            if now_ns - start_ns - schedule[0][0] > CATCH_UP_MAX_NS:
                start_ns = now_ns - schedule[0][0] - CATCH_UP_MAX_NS
            for _ in range(EVENTS_PER_TURN_MAX):
                due_ns, index = schedule[0]
                if start_ns + due_ns > now_ns:
                    break
                self._crowds[index].act()
                self._exchange.flush()
                heapq.heapreplace(schedule, (due_ns + self._gap_ns(), index))
            while diffs[0][0] <= now_ns:
                due_ns, index, count = diffs[0]
                self._markets[index].publish_diffs(slow=False)
                if count % DIFFS_PER_SLOW_DIFF == 0:
                    self._markets[index].publish_diffs(slow=True)
                heapq.heapreplace(diffs, (max(due_ns, now_ns - DIFF_INTERVAL_NS) + DIFF_INTERVAL_NS, index, count + 1))
            wake_ns = min(start_ns + schedule[0][0], diffs[0][0])
            await asyncio.sleep(max(0, wake_ns - time.monotonic_ns()) / 1e9)

    def _gap_ns(self) -> int:
        return int(self._rng.expovariate(1.0) * self._mean_ns)
