"""What can be set of the book stage."""

from pydantic import BaseModel, ConfigDict, Field


class BookSettings(BaseModel):
    """The order book builder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels_max: int = Field(
        16_384,
        ge=100,
        le=1_048_576,
        description="Price levels kept per side of a book; a deeper book forgets its deepest levels and is stale, not "
        "to be traded on, until its next snapshot. "
        "68 bytes each, allocated at start",
    )
    orders_max: int = Field(
        1_000_000,
        ge=1_000,
        le=16_777_216,
        description="Orders that live at one time in all books of single orders (ITCH), on half as many price levels; "
        "one more makes its symbol's book stale. 113 bytes each, allocated at start",
    )
    symbol_orders_max: int = Field(
        0,
        ge=0,
        le=16_777_216,
        description="Orders that live at one time in one such book; one more makes it stale. 0: a quarter of "
        "orders_max where there are several symbols, so that one alone leaves room for the others; all where there is "
        "one",
    )
