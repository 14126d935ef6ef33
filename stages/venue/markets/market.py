"""The one interface of the two market sources (synthetic, replay), per symbol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Fill, Order


class Market(Protocol):
    """One symbol's market as the exchange needs it to execute the account's orders."""

    @property
    def last_price(self) -> int:
        """Price of the last trade; 0 when there was none yet."""

    def takeable(self, side: Side) -> Iterator[tuple[int, int]]:
        """(price, quantity) levels that a taking order of `side` would meet, best first."""

    def submit(self, order: Order, *, rest: bool) -> list[tuple[Fill, int]]:
        """Execute; each fill comes with its trade id."""

    def cancel(self, order: Order) -> None:
        """Remove a resting order."""

    def publish(self) -> None:
        """Send the market data that the last operations caused."""

    async def depth(self, limit: int) -> bytes:
        """The reply to a depth request: JSON of lastUpdateId, bids, asks."""
