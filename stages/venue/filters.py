"""The filters of binance-spot-api-docs filters.md that the venue lists: -1013 `Filter failure: <NAME>`."""

from __future__ import annotations

from stages.venue.errors import BinanceError, filter_failure
from stages.venue.instruments import MAX_OPEN_ORDERS, MAX_PRICE, MIN_PRICE_TICKS, Instrument

MAX_NOTIONAL = 9_000_000 * 10**8


def check_price(item: Instrument, price: int) -> None:
    """PRICE_FILTER: minPrice <= price <= maxPrice, on the tick grid."""
    if price == 0:
        raise BinanceError(-1013, "Invalid price.")
    if not MIN_PRICE_TICKS * item.tick <= price <= MAX_PRICE or price % item.tick:
        raise filter_failure("PRICE_FILTER")


def check_quantity(item: Instrument, quantity: int) -> None:
    """LOT_SIZE: minQty <= quantity <= maxQty, on the lot grid counted from 0."""
    if quantity == 0:
        raise BinanceError(-1013, "Invalid quantity.")
    if not item.min_quantity <= quantity <= item.max_quantity or quantity % item.lot:
        raise filter_failure("LOT_SIZE")


def check_notional(item: Instrument, price: int, quantity: int, *, is_market: bool) -> None:
    """NOTIONAL: minNotional <= price x quantity <= maxNotional (the maximum not for market orders)."""
    notional = price * quantity
    if notional < item.min_notional * 10**8 or (not is_market and notional > MAX_NOTIONAL * 10**8):
        raise filter_failure("NOTIONAL")


def check_open_orders(open_count: int) -> None:
    """MAX_NUM_ORDERS: open orders of the account in one symbol."""
    if open_count >= MAX_OPEN_ORDERS:
        raise filter_failure("MAX_NUM_ORDERS")
