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
        "75 bytes each, allocated at start",
    )
