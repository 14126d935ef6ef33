"""What can be set of the feed stage."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

StreamName = Literal["depth", "trade", "bookTicker", "aggTrade"]


class FeedSettings(BaseModel):
    """The market data handler."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    streams: tuple[StreamName, ...] = Field(
        ("depth", "trade", "bookTicker"),
        description="Streams taken per symbol: depth (diffs every 100 ms, needed), trade, bookTicker (checks the "
        "book), aggTrade (needs trade, which counts the volume)",
    )
    snapshot_levels: int = Field(
        5_000,
        ge=5,
        le=5_000,
        description="Levels per side asked for in a depth snapshot; 5000 weighs 250, 100 weighs 5",
    )
    snapshot_timeout_s: float = Field(
        10.0, ge=0.1, le=300, description="How long a snapshot may take, in s; when every event is delivered: no limit"
    )
    rest_weight_per_minute: int = Field(
        6_000, ge=250, le=1_000_000, description="Request weight that snapshots may spend in any 60 s (Binance: 6000)"
    )
    hold_records: int = Field(
        4_096, ge=64, le=8_192, description="Records of 4 levels held back per symbol until its snapshot comes"
    )
    backlog_limit_ms: int = Field(
        1_000,
        ge=10,
        le=600_000,
        description="Unread data older than this, in ms, is skipped and a gap marked (live only; a replay waits)",
    )
    frame_bytes_max: int = Field(
        1_048_576, ge=4_096, le=16_777_216, description="Longest message accepted from the venue, in bytes"
    )
    connect_timeout_s: float = Field(10.0, ge=0.1, le=120, description="How long connecting may take, in s")
    reconnect_min_ms: int = Field(250, ge=10, le=60_000, description="First pause before connecting again, in ms")
    reconnect_max_ms: int = Field(
        30_000, ge=10, le=600_000, description="Longest pause before connecting again, in ms; each is twice the last"
    )

    @field_validator("streams")
    @classmethod
    def _streams_fit_together(cls, streams: tuple[StreamName, ...]) -> tuple[StreamName, ...]:
        if len(set(streams)) != len(streams):
            raise ValueError(f"streams={list(streams)} names one twice")
        if "depth" not in streams:
            raise ValueError(f"streams={list(streams)} lacks depth, of which the book is built")
        if "aggTrade" in streams and "trade" not in streams:
            raise ValueError(f"streams={list(streams)}: aggTrade repeats trades and needs trade beside it")
        return streams
