"""Instruments of the venue: the trading grid in scaled integers, and its exchangeInfo entry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stages.venue import fixed
from stages.venue.settings import InstrumentSettings, VenueSettings

ORDER_TYPES = ["LIMIT", "LIMIT_MAKER", "MARKET"]
MAX_OPEN_ORDERS = 200
MIN_PRICE_TICKS = 1
MAX_PRICE = 10_000_000 * fixed.SCALE
_QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD1", "DAI", "EUR", "TRY", "BRL", "BTC", "ETH", "BNB")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One symbol; every number scaled by 10^8."""

    symbol: str
    base_asset: str
    quote_asset: str
    tick: int
    lot: int
    min_quantity: int
    max_quantity: int
    min_notional: int
    initial_price: int
    typical_quantity: int


def from_settings(settings: InstrumentSettings) -> Instrument:
    return Instrument(
        symbol=settings.symbol,
        base_asset=settings.base_asset,
        quote_asset=settings.quote_asset,
        tick=fixed.parse(settings.tick_size),
        lot=fixed.parse(settings.step_size),
        min_quantity=fixed.parse(settings.min_qty),
        max_quantity=fixed.parse(settings.max_qty),
        min_notional=fixed.parse(settings.min_notional),
        initial_price=fixed.parse(settings.initial_price),
        typical_quantity=fixed.parse(settings.typical_qty),
    )


def infer(symbol: str, prices: Iterable[str], quantities: Iterable[str]) -> Instrument:
    """An instrument for a replayed symbol that the settings do not define.

    Rule: tick and lot are the largest powers of ten of which all recorded trade prices and quantities are
    multiples (old resting orders may lie off a later grid, trades do not); the quote asset is the longest known
    one the name ends with (else its last 4 characters); smallest quantity one lot, smallest notional 5.
    """
    quote = max((name for name in _QUOTES if symbol.endswith(name) and symbol != name), key=len, default="")
    quote = quote or symbol[-4:]
    lot = _largest_step(quantities)
    return Instrument(
        symbol=symbol,
        base_asset=symbol.removesuffix(quote) or symbol,
        quote_asset=quote,
        tick=_largest_step(prices),
        lot=lot,
        min_quantity=lot,
        max_quantity=9000 * fixed.SCALE,
        min_notional=5 * fixed.SCALE,
        initial_price=100 * fixed.SCALE,
        typical_quantity=fixed.SCALE,
    )


def exchange_info(instruments: Iterable[Instrument], settings: VenueSettings, now_ms: int) -> dict[str, Any]:
    """The result of GET /api/v3/exchangeInfo."""
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, settings.request_weight_minute_max),
            _rate_limit("ORDERS", "SECOND", 10, settings.order_count_10s_max),
            _rate_limit("ORDERS", "DAY", 1, settings.order_count_day_max),
        ],
        "exchangeFilters": [],
        "symbols": [_entry(item) for item in instruments],
    }


def _rate_limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _entry(item: Instrument) -> dict[str, Any]:
    show = fixed.show
    return {
        "symbol": item.symbol,
        "status": "TRADING",
        "baseAsset": item.base_asset,
        "baseAssetPrecision": 8,
        "quoteAsset": item.quote_asset,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ORDER_TYPES,
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": show(MIN_PRICE_TICKS * item.tick),
                "maxPrice": show(MAX_PRICE),
                "tickSize": show(item.tick),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": show(item.min_quantity),
                "maxQty": show(item.max_quantity),
                "stepSize": show(item.lot),
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": show(item.min_notional),
                "applyMinToMarket": True,
                "maxNotional": show(9_000_000 * fixed.SCALE),
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MAX_OPEN_ORDERS},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }


def _largest_step(texts: Iterable[str]) -> int:
    step = fixed.SCALE
    for text in texts:
        value = fixed.parse(text)
        while value % step:
            step //= 10
    return step
