"""Request weight and order counts in fixed windows of wall-clock time (binance-spot-api-docs, "Rate limits").

Counted always and shown in replies; enforced only when the settings say so. An order that takes or is filled does
not lower the count here (Binance's unfilled order count does).
"""

from __future__ import annotations

import time
from typing import Any

from stages.venue import errors
from stages.venue.settings import VenueSettings


class Window:
    """A counter that starts again at each full interval of the clock."""

    def __init__(self, kind: str, interval: str, number: int, seconds: int, limit: int) -> None:
        self.kind = kind
        self.interval = interval
        self.number = number
        self.limit = limit
        self._seconds = seconds
        self._window = 0
        self._count = 0

    def count(self) -> int:
        window = int(time.time()) // self._seconds
        if window != self._window:
            self._window, self._count = window, 0
        return self._count

    def add(self, amount: int) -> int:
        self._count = self.count() + amount
        return self._count

    def show(self) -> dict[str, Any]:
        return {
            "rateLimitType": self.kind,
            "interval": self.interval,
            "intervalNum": self.number,
            "limit": self.limit,
            "count": self.count(),
        }


class Limits:
    """The three limits of exchangeInfo."""

    def __init__(self, settings: VenueSettings) -> None:
        self._enforced = settings.enforce_rate_limits
        self.weight = Window("REQUEST_WEIGHT", "MINUTE", 1, 60, settings.request_weight_minute_max)
        self.orders_10s = Window("ORDERS", "SECOND", 10, 10, settings.order_count_10s_max)
        self.orders_day = Window("ORDERS", "DAY", 1, 86_400, settings.order_count_day_max)

    def spend_weight(self, weight: int) -> None:
        if self.weight.add(weight) > self.weight.limit and self._enforced:
            raise errors.too_much_weight(self.weight.limit)

    def spend_order(self) -> None:
        for window, name in ((self.orders_10s, "10 SECOND"), (self.orders_day, "1 DAY")):
            if self._enforced and window.count() >= window.limit:
                raise errors.too_many_orders(window.limit, name)
        self.orders_10s.add(1)
        self.orders_day.add(1)

    def show(self, *, orders: bool) -> list[dict[str, Any]]:
        """The `rateLimits` of a reply: order counts only for requests that place orders."""
        windows = [self.orders_10s, self.orders_day, self.weight] if orders else [self.weight]
        return [window.show() for window in windows]

    def headers(self, *, orders: bool) -> dict[str, str]:
        found = {
            "X-MBX-USED-WEIGHT": str(self.weight.count()),
            "X-MBX-USED-WEIGHT-1M": str(self.weight.count()),
        }
        if orders:
            found["X-MBX-ORDER-COUNT-10S"] = str(self.orders_10s.count())
            found["X-MBX-ORDER-COUNT-1D"] = str(self.orders_day.count())
        return found
