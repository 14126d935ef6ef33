"""What a matching book takes in and gives out. Prices and quantities are integers (mantissas); no floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from stages.domain.matching.ladder import Side

MARKET_BUY_PRICE = 2**62
"""Limit price of a market buy: above every price."""
MARKET_SELL_PRICE = 0
"""Limit price of a market sell: below every price."""


@dataclass(slots=True, eq=False)
class Order:
    """An order as the book sees it. `remaining` is what is still to be filled; `ahead` is used by the queue
    model only: the displayed quantity that must trade at this price before this order does."""

    order_id: int
    side: Side
    price: int
    remaining: int
    ahead: int = 0


class Fill(NamedTuple):
    """One trade. A side that is None is the recorded market (replay), which has no order of its own here."""

    maker: Order | None
    taker: Order | None
    price: int
    quantity: int


def reaches(side: Side, limit_price: int, price: int) -> bool:
    """True when an order of `side` limited at `limit_price` may trade at `price`."""
    return price <= limit_price if side is Side.BUY else price >= limit_price
