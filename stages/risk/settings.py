"""What risk allows: one set of limits for every symbol, and exceptions by symbol."""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_QUOTE_MAX = 10**9


def _quantity(text: str) -> str:
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text!r} is not a decimal number") from None
    if not (value.is_finite() and 0 < value < 10**10):
        raise ValueError(f"{text!r} must be above 0 and below 10000000000")
    return text


Quantity = Annotated[str, AfterValidator(_quantity)]


class SymbolLimits(BaseModel):
    """Limits of one symbol that differ from the defaults; what is not given here comes from there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    order_quantity_min: Quantity | None = Field(
        None, description="Smallest order, in the base asset; by default the venue's"
    )
    order_quantity_max: Quantity | None = Field(
        None, description="Largest order, in the base asset; by default the venue's"
    )
    order_notional_quote_min: int | None = Field(
        None, ge=0, le=_QUOTE_MAX, description="Smallest order value (price x quantity), in whole quote units"
    )
    order_notional_quote_max: int | None = Field(
        None, ge=1, le=_QUOTE_MAX, description="Largest order value (price x quantity), in whole quote units"
    )
    position_notional_quote_max: int | None = Field(
        None, ge=1, le=_QUOTE_MAX, description="Largest position, working orders counted as filled, in quote units"
    )
    collar_bps: int | None = Field(
        None, ge=1, le=10_000, description="How far below the bid or above the ask a price may be, in basis points"
    )
    open_orders_max: int | None = Field(
        None, ge=1, le=1_000, description="Orders of the symbol at the venue at one time, in orders"
    )


class RiskSettings(BaseModel):
    """Pre-trade limits. They bind the strategy; no strategy can change them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use_defaults: bool = Field(
        True, description="Symbols not listed under `symbols` trade within the defaults below; false: they do not trade"
    )
    order_notional_quote_min: int = Field(
        0, ge=0, le=_QUOTE_MAX, description="Smallest order value in whole quote units; the venue's minimum binds too"
    )
    order_notional_quote_max: int = Field(
        25_000, ge=1, le=_QUOTE_MAX, description="Largest order value (price x quantity), in whole quote units"
    )
    position_notional_quote_max: int = Field(
        100_000, ge=1, le=_QUOTE_MAX, description="Largest position, working orders counted as filled, in quote units"
    )
    collar_bps: int = Field(
        100, ge=1, le=10_000, description="How far below the bid or above the ask a price may be, in basis points"
    )
    market_data_age_ms_max: int = Field(
        5_000, ge=1, le=3_600_000, description="Oldest best bid and ask an order may be judged by, in milliseconds"
    )
    open_orders_max: int = Field(
        32, ge=1, le=1_000, description="Orders of a symbol at the venue at one time, in orders"
    )
    order_rate_max: int = Field(
        500, ge=1, le=10_000, description="New orders of all symbols within any order_rate_window_ms, in orders"
    )
    order_rate_window_ms: int = Field(1_000, ge=1, le=3_600_000, description="Window of order_rate_max, milliseconds")
    symbols: dict[str, SymbolLimits] = Field(default_factory=dict, description="Symbol: its own limits")
