"""The instrument table: what is traded, on which grid, within which limits of the venue.

Built once, before the stages start, from the venue's exchangeInfo, or for symbols of which only the name is known with
default exponents and no grid; settings of a symbol go before either. Every stage holds a private copy. A symbol is
named by its index in the table everywhere on the hot path.

Market data is exact mantissas, on the grid or off it; tick, lot and the limits are those of orders.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.layout import record_dtype
from stages.domain.instrument_settings import InstrumentSettings
from stages.domain.messages import PRICE_EXPONENT

SYMBOL_BYTES = 16
MAXIMUM_SYMBOLS = 10_000
"""Of those that are traded."""
LISTED_MAX = 20
LARGEST = 2**62
"""No limit is larger; what a venue says beyond it changes nothing real."""

INSTRUMENT = record_dtype(
    [
        ("symbol", "S16"),  # ASCII, zero padded; kernels compare it as two words
        ("base_asset", "S16"),
        ("quote_asset", "S16"),
        ("price_exponent", "<i8"),  # value = mantissa * 10**exponent, of market data
        ("quantity_exponent", "<i8"),
        ("tick", "<i8"),  # price mantissa of one tick
        ("lot", "<i8"),  # quantity mantissa of one lot
        ("minimum_lots", "<i8"),
        ("maximum_lots", "<i8"),
        ("minimum_notional", "<i8"),  # in ticks x lots, rounded up
        ("maximum_price_ticks", "<i8"),
        ("price_decimals", "<i8"),  # of one tick, to write prices
        ("quantity_decimals", "<i8"),
        ("venue", "S8"),
    ],
    192,
)


class InstrumentError(Exception):
    """The venue's description of a symbol cannot be used; says which symbol and which field."""


def mantissa(text: str, exponent: int = PRICE_EXPONENT) -> int:
    """The integer m with m * 10**exponent == text. Raises ValueError when there is none or it overflows int64."""
    try:
        scaled = Decimal(text).scaleb(-exponent)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a decimal number") from error
    value = int(scaled)
    if value != scaled:
        raise ValueError(f"{text!r} has more than {-exponent} decimals")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{text!r} does not fit 64 bits at exponent {exponent}")
    return value


def decimal_string(value: int, exponent: int = PRICE_EXPONENT) -> str:
    """`value * 10**exponent` as a plain decimal string without superfluous zeros."""
    if exponent >= 0:
        return str(value * 10**exponent)
    digits = str(abs(value)).zfill(1 - exponent)
    fraction = digits[exponent:].rstrip("0")
    return f"{'-' if value < 0 else ''}{digits[:exponent]}{'.' if fraction else ''}{fraction}"


def _decimals(step: int, exponent: int) -> int:
    """Decimals needed to write multiples of the mantissa `step`."""
    decimals = -exponent
    while decimals > 0 and step % 10 == 0:
        step //= 10
        decimals -= 1
    return decimals


@dataclass(frozen=True)
class Description:
    """An instrument in decimal strings, as venues and users write it; a step of None is one mantissa: no grid."""

    symbol: str
    venue: str
    base_asset: str = ""
    quote_asset: str = ""
    price_exponent: int = PRICE_EXPONENT
    quantity_exponent: int = PRICE_EXPONENT
    tick_size: str | None = None
    lot_size: str | None = None
    price_max: str | None = None
    quantity_min: str | None = None
    quantity_max: str | None = None
    notional_min: str = "0"


def check_count(symbols: int) -> None:
    """Raises InstrumentError for more symbols than a line can have, or none."""
    if not 0 < symbols <= MAXIMUM_SYMBOLS:
        raise InstrumentError(
            f"{symbols:,} symbols: between 1 and {MAXIMUM_SYMBOLS:,} can be traded; choose them with market.symbols"
        )


def listing(names: Sequence[str], most: int = LISTED_MAX) -> str:
    """The names one behind the other, the first `most` of them where they are more."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


Settings = Mapping[str, InstrumentSettings]


def default_instruments(
    symbols: Iterable[str],
    venue: str,
    price_exponent: int = PRICE_EXPONENT,
    quantity_exponent: int = PRICE_EXPONENT,
    settings: Settings | None = None,
) -> NDArray[np.void]:
    """An INSTRUMENT array for `symbols` of which nothing else is known, of any number: no grid and no limits.

    Raises InstrumentError when a symbol's name or its settings cannot be represented.
    """
    known = [
        Description(symbol, venue, price_exponent=price_exponent, quantity_exponent=quantity_exponent)
        for symbol in symbols
    ]
    return _table([_adapted(item, settings or {}, may_scale=True) for item in known])


def instruments_from_exchange_info(
    exchange_info: Mapping[str, Any], symbols: Iterable[str], settings: Settings | None = None
) -> NDArray[np.void]:
    """An INSTRUMENT array for `symbols`, in their order, from a Binance exchangeInfo document.

    Raises InstrumentError when a symbol is unknown, not trading, or what is said of it cannot be represented.
    """
    known = {entry["symbol"]: entry for entry in exchange_info.get("symbols", ())}
    wanted = list(symbols)
    check_count(len(wanted))
    descriptions = []
    for symbol in wanted:
        entry = known.get(symbol)
        if entry is None:
            raise InstrumentError(f"symbol {symbol}: the venue does not list it; it lists {listing(sorted(known))}")
        if entry.get("status", "TRADING") != "TRADING":
            raise InstrumentError(f"symbol {symbol}: status={entry['status']} at the venue, TRADING needed")
        try:
            found = _described(entry)
        except KeyError as error:
            raise InstrumentError(f"symbol {symbol}: the venue's description lacks {error}") from error
        descriptions.append(_adapted(found, settings or {}, may_scale=False))
    return _table(descriptions)


def _described(entry: Mapping[str, Any]) -> Description:
    """Of an entry of exchangeInfo. A step or a greatest price of 0 switches its filter off."""
    filters = {item["filterType"]: item for item in entry["filters"]}
    price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {"minNotional": "0"}
    return Description(
        entry["symbol"], "BINANCE", entry["baseAsset"], entry["quoteAsset"],
        tick_size=_unless_0(price["tickSize"]), price_max=_unless_0(price.get("maxPrice", "0")),
        lot_size=_unless_0(lot["stepSize"]), quantity_min=_unless_0(lot["minQty"]), quantity_max=lot["maxQty"],
        notional_min=notional["minNotional"],
    )  # fmt: skip


def _unless_0(text: str) -> str | None:
    return text if text.strip("0.") else None


def _adapted(found: Description, settings: Settings, *, may_scale: bool) -> Description:
    own = settings.get(found.symbol)
    given = {} if own is None else own.model_dump(exclude_none=True)
    if not may_scale and any(given.get(name, PRICE_EXPONENT) != PRICE_EXPONENT for name in EXPONENTS):
        raise InstrumentError(f"instruments.{found.symbol}: exponents of {found.venue} are {PRICE_EXPONENT}")
    return replace(found, **given)


EXPONENTS = ("price_exponent", "quantity_exponent")


def _table(descriptions: list[Description]) -> NDArray[np.void]:
    table = np.zeros(len(descriptions), INSTRUMENT)
    for row, item in zip(table, descriptions, strict=True):
        try:
            _fill(row, item)
        except ValueError as error:
            raise InstrumentError(f"symbol {item.symbol}: {error}") from error
    return table


def _fill(row: np.void, item: Description) -> None:
    for name in ("symbol", "venue", "base_asset", "quote_asset"):
        text, size = getattr(item, name).encode("ascii"), INSTRUMENT[name].itemsize
        if len(text) > size:
            raise ValueError(f"{name} {getattr(item, name)!r} of {len(text)} bytes, at most {size} fit")
        row[name] = text
    tick = mantissa(item.tick_size, item.price_exponent) if item.tick_size else 1
    lot = mantissa(item.lot_size, item.quantity_exponent) if item.lot_size else 1
    unit = Decimal(tick * lot).scaleb(item.price_exponent + item.quantity_exponent)
    row["price_exponent"], row["quantity_exponent"] = item.price_exponent, item.quantity_exponent
    row["tick"], row["lot"] = tick, lot
    row["minimum_lots"] = _lots(item.quantity_min or "0", item, lot, ROUND_CEILING)
    row["maximum_lots"] = _lots(item.quantity_max, item, lot, ROUND_FLOOR) if item.quantity_max else LARGEST
    row["maximum_price_ticks"] = LARGEST // tick
    if item.price_max:
        ticks = (Decimal(item.price_max).scaleb(-item.price_exponent) / tick).to_integral_value(ROUND_FLOOR)
        row["maximum_price_ticks"] = min(int(ticks), LARGEST // tick)
    row["minimum_notional"] = min(int((Decimal(item.notional_min) / unit).to_integral_value(ROUND_CEILING)), LARGEST)
    row["price_decimals"] = _decimals(tick, item.price_exponent)
    row["quantity_decimals"] = _decimals(lot, item.quantity_exponent)


def _lots(text: str, item: Description, lot: int, rounding: str) -> int:
    return min(int((Decimal(text).scaleb(-item.quantity_exponent) / lot).to_integral_value(rounding)), LARGEST)
