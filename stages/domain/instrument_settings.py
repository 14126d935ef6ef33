"""What a user can say of an instrument where the venue says nothing, or something else."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _positive(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a decimal number") from None
    if not value.is_finite() or value <= 0:
        raise ValueError(f"{text!r} must be above 0")
    return text


PositiveDecimal = Annotated[str, AfterValidator(_positive)]


class InstrumentSettings(BaseModel):
    """One symbol; what is not given is as the venue says, and where it says nothing, as in the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    venue: str | None = Field(None, pattern=r"^[A-Z0-9]{1,8}$", description="Market it is traded on")
    price_exponent: int | None = Field(
        None, ge=-12, le=0, description="Power of ten of a price mantissa; only where the venue's format leaves it open"
    )
    quantity_exponent: int | None = Field(
        None, ge=-12, le=0, description="Power of ten of a quantity mantissa; as above"
    )
    tick_size: PositiveDecimal | None = Field(None, description="Price step of orders, in quote asset")
    lot_size: PositiveDecimal | None = Field(None, description="Quantity step of orders, in base asset")
    price_max: PositiveDecimal | None = Field(None, description="Highest price of an order, in quote asset")
    quantity_min: PositiveDecimal | None = Field(None, description="Smallest order, in base asset")
    quantity_max: PositiveDecimal | None = Field(None, description="Largest order, in base asset")
    notional_min: PositiveDecimal | None = Field(None, description="Smallest price x quantity, in quote asset")
