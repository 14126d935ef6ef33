"""How the router connects, and what it does when it is left alone."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RouterSettings(BaseModel):
    """The order connection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect_timeout_ms: int = Field(
        5_000, ge=10, le=60_000, description="Longest wait for each answer while connecting, in milliseconds"
    )
    backoff_ms_min: int = Field(
        100, ge=1, le=60_000, description="Wait before the first reconnection, in milliseconds; doubled each time"
    )
    backoff_ms_max: int = Field(
        10_000, ge=1, le=600_000, description="Longest wait between two connection attempts, in milliseconds"
    )
    ask_again_ms: int = Field(
        1_000, ge=10, le=60_000, description="Interval of order.status for an order whose fate is unknown, milliseconds"
    )
    answer_wait_ms: int = Field(
        3_000, ge=10, le=60_000, description="Longest wait for an answer before order.status is asked, in milliseconds"
    )
    not_found_wait_ms: int = Field(
        15_000,
        ge=0,
        le=600_000,
        description="How long after its sending an order that the venue does not know may still arrive, milliseconds",
    )
    cancel_again_ms: int = Field(
        50, ge=1, le=60_000, description="Interval of cancels for orders still working when trading stops, milliseconds"
    )
    on_leftovers: Literal["cancel", "leave"] = Field(
        "cancel", description="At the start: cancel what runs that died left at the venue, or leave it there"
    )
    on_supervisor_loss: Literal["cancel", "leave"] = Field(
        "cancel", description="When the supervisor dies: cancel all working orders, or leave them at the venue"
    )
    supervisor_loss_wait_ms: int = Field(
        3_000, ge=0, le=60_000, description="Longest wait for the answers to those cancels, in milliseconds"
    )

    @model_validator(mode="after")
    def _backoff_grows(self) -> "RouterSettings":
        if self.backoff_ms_min > self.backoff_ms_max:
            raise ValueError(
                f"backoff_ms_min={self.backoff_ms_min} is above backoff_ms_max={self.backoff_ms_max}; raise the latter"
            )
        return self
