"""The instrument table: what is traded, on which grid, within which limits of the venue.

Built once, before the stages start, from the venue's exchangeInfo; every stage holds a private copy. A symbol is named
by its index in the table everywhere on the hot path.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.layout import record_dtype
from stages.domain.messages import PRICE_EXPONENT

SYMBOL_BYTES = 16
MAXIMUM_SYMBOLS = 64

INSTRUMENT = record_dtype(
    [
        ("symbol", "S16"),  # ASCII, zero padded; kernels compare it as two words
        ("base_asset", "S8"),
        ("quote_asset", "S8"),
        ("price_exponent", "<i8"),  # value = mantissa * 10**exponent, of market data
        ("quantity_exponent", "<i8"),
        ("tick", "<i8"),  # price mantissa of one tick
        ("lot", "<i8"),  # quantity mantissa of one lot
        ("minimum_lots", "<i8"),
        ("maximum_lots", "<i8"),
        ("minimum_notional", "<i8"),  # in ticks x lots, rounded up
        ("price_decimals", "<i8"),  # of one tick, to write prices
        ("quantity_decimals", "<i8"),
    ],
    128,
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
    text = format(Decimal(int(value)).scaleb(exponent), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _decimals(step: int, exponent: int) -> int:
    """Decimals needed to write multiples of the mantissa `step`."""
    decimals = -exponent
    while decimals > 0 and step % 10 == 0:
        step //= 10
        decimals -= 1
    return decimals


def instruments_from_exchange_info(exchange_info: Mapping[str, Any], symbols: Iterable[str]) -> NDArray[np.void]:
    """An INSTRUMENT array for `symbols`, in their order, from a Binance exchangeInfo document.

    Raises InstrumentError when a symbol is unknown, not trading, or its filters cannot be represented.
    """
    known = {entry["symbol"]: entry for entry in exchange_info.get("symbols", ())}
    wanted = list(symbols)
    if not 0 < len(wanted) <= MAXIMUM_SYMBOLS:
        raise InstrumentError(f"symbols={len(wanted)}, between 1 and {MAXIMUM_SYMBOLS} can be traded")
    table = np.zeros(len(wanted), INSTRUMENT)
    for row, symbol in zip(table, wanted, strict=True):
        entry = known.get(symbol)
        if entry is None:
            raise InstrumentError(
                f"symbol {symbol}: the venue does not list it; it lists {', '.join(sorted(known)[:20])}"
            )
        if entry.get("status", "TRADING") != "TRADING":
            raise InstrumentError(f"symbol {symbol}: status={entry['status']} at the venue, TRADING needed")
        try:
            _fill(row, entry)
        except (KeyError, ValueError) as error:
            raise InstrumentError(f"symbol {symbol}: {error}") from error
    return table


def _fill(row: np.void, entry: Mapping[str, Any]) -> None:
    filters = {item["filterType"]: item for item in entry["filters"]}
    symbol = entry["symbol"].encode("ascii")
    if len(symbol) > SYMBOL_BYTES:
        raise ValueError(f"name of {len(symbol)} bytes, at most {SYMBOL_BYTES} fit")
    row["symbol"] = symbol
    row["base_asset"] = entry["baseAsset"].encode("ascii")
    row["quote_asset"] = entry["quoteAsset"].encode("ascii")
    row["price_exponent"] = row["quantity_exponent"] = PRICE_EXPONENT
    tick = mantissa(filters["PRICE_FILTER"]["tickSize"]) or 1  # 0 switches the filter off: any mantissa is a price
    lot = mantissa(filters["LOT_SIZE"]["stepSize"]) or 1
    row["tick"], row["lot"] = tick, lot
    row["minimum_lots"] = -(-mantissa(filters["LOT_SIZE"]["minQty"]) // lot)
    # Binance gives quantities beyond what a mantissa of int64 holds for a few symbols; the cap changes nothing real.
    row["maximum_lots"] = min(int(Decimal(filters["LOT_SIZE"]["maxQty"]).scaleb(8)) // lot, 2**62)
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {"minNotional": "0"}
    row["minimum_notional"] = -(-int(Decimal(notional["minNotional"]).scaleb(16)) // (tick * lot))
    row["price_decimals"] = _decimals(tick, PRICE_EXPONENT)
    row["quantity_decimals"] = _decimals(lot, PRICE_EXPONENT)
