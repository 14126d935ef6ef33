"""Limits as kernels compare them: settings in quote and base units become ticks and lots, once, in exact integers.

Conversions round towards the stricter side: a maximum down, a minimum up.
"""

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
from numpy.typing import NDArray

from shm.layout import record_dtype
from stages.agent import AgentError
from stages.domain.instruments import listing
from stages.risk.settings import RiskSettings, SymbolLimits

LARGEST = 2**62
"""No limit is larger, so that the kernel's product test is exact; see `check.exceeds`."""

LIMITS = record_dtype(
    [
        ("is_configured", "<i8"),
        ("tick", "<i8"),  # price mantissa of one tick
        ("maximum_price_ticks", "<i8"),  # of the venue, and of what fits: 2**62 // tick
        ("minimum_lots", "<i8"),
        ("maximum_lots", "<i8"),
        ("minimum_notional", "<i8"),  # ticks x lots, as the two below
        ("maximum_notional", "<i8"),
        ("maximum_position_notional", "<i8"),
        ("collar_bps", "<i8"),
        ("maximum_open_orders", "<i8"),
    ],
    128,
)


class LimitError(AgentError):
    """A limit cannot hold on a symbol's grid; says which setting and why."""


def limits_table(instruments: NDArray[np.void], settings: RiskSettings) -> NDArray[np.void]:
    """A LIMITS array, one row per instrument. Raises LimitError naming symbol and setting."""
    table = np.zeros(len(instruments), LIMITS)
    names = [row["symbol"].decode("ascii") for row in instruments]
    _refuse_unknown(settings.symbols, names)
    for row, instrument, name in zip(table, instruments, names, strict=True):
        own = settings.symbols.get(name)
        if own is not None or settings.use_defaults:
            _fill(row, instrument, name, settings, own or SymbolLimits())
    return table


def _refuse_unknown(listed: Iterable[str], traded: list[str]) -> None:
    for name in listed:
        if name not in traded:
            raise LimitError(f"risk.symbols.{name}: not traded; this run trades {listing(traded)}")


def _fill(row: np.void, instrument: np.void, name: str, settings: RiskSettings, own: SymbolLimits) -> None:
    tick, lot = int(instrument["tick"]), int(instrument["lot"])
    unit = Decimal(tick * lot).scaleb(int(instrument["price_exponent"] + instrument["quantity_exponent"]))
    lot_size = Decimal(lot).scaleb(int(instrument["quantity_exponent"]))
    minimum_lots, maximum_lots = int(instrument["minimum_lots"]), int(instrument["maximum_lots"])
    if own.order_quantity_min is not None:
        minimum_lots = max(minimum_lots, _up(Decimal(own.order_quantity_min), lot_size))
    if own.order_quantity_max is not None:
        maximum_lots = min(maximum_lots, _down(Decimal(own.order_quantity_max), lot_size))
    if minimum_lots > maximum_lots:
        raise LimitError(
            f"risk.symbols.{name}: order_quantity_max={own.order_quantity_max} is {maximum_lots} lots of {lot_size}, "
            f"below the minimum of {minimum_lots}"
        )
    notional_min = _choose(own.order_notional_quote_min, settings.order_notional_quote_min)
    notional_max = _choose(own.order_notional_quote_max, settings.order_notional_quote_max)
    position_max = _choose(own.position_notional_quote_max, settings.position_notional_quote_max)
    row["is_configured"] = 1
    row["tick"] = tick
    row["maximum_price_ticks"] = int(instrument["maximum_price_ticks"]) or LARGEST // tick
    row["minimum_lots"] = max(1, minimum_lots)
    row["maximum_lots"] = min(LARGEST, maximum_lots)
    row["minimum_notional"] = max(int(instrument["minimum_notional"]), _up(Decimal(notional_min), unit))
    row["maximum_notional"] = min(LARGEST, _down(Decimal(notional_max), unit))
    row["maximum_position_notional"] = min(LARGEST, _down(Decimal(position_max), unit))
    row["collar_bps"] = _choose(own.collar_bps, settings.collar_bps)
    row["maximum_open_orders"] = _choose(own.open_orders_max, settings.open_orders_max)
    if row["minimum_notional"] > row["maximum_notional"]:
        raise LimitError(
            f"risk: order_notional_quote_max={notional_max} of {name} is below the least value of an order, "
            f"{int(row['minimum_notional']) * unit}"
        )


def _choose(own: int | None, default: int) -> int:
    return default if own is None else own


def _up(value: Decimal, unit: Decimal) -> int:
    return int((value / unit).to_integral_value(ROUND_CEILING))


def _down(value: Decimal, unit: Decimal) -> int:
    return int((value / unit).to_integral_value(ROUND_FLOOR))
