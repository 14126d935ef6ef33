"""What can be set of the feed stage."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stages.domain.lines import AddressText, OptionalAddressText, parse_address

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
        6_000,
        ge=250,
        le=1_000_000,
        description="Request weight that snapshots may spend in any 60 s (Binance: 6000); when every event is "
        "delivered: no limit",
    )
    hold_records: int = Field(
        4_096,
        ge=64,
        le=8_192,
        description="Records of 4 levels held back per symbol until its snapshot comes; when "
        "every event is delivered: as many as come",
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

    source: Literal["venue", "itch", "raw"] = Field(
        "venue",
        description="Where market data comes from. venue: the venue's streams; itch: ITCH 5.0 in MoldUDP64 packets at "
        "feed.lines; raw: 29-byte binary messages at feed.lines, a single one",
    )
    lines: tuple[AddressText, ...] = Field(
        (),
        max_length=2,
        description="Lines of datagrams, the same stream on each (A and B): udp://HOST:PORT, or "
        "udp://GROUP:PORT?interface=IP for a multicast group",
    )
    request_server: OptionalAddressText = Field(
        "",
        description="Where missed messages are asked for (MoldUDP64 request server), udp://HOST:PORT; empty: nowhere",
    )
    request_interval_ms: float = Field(
        10.0,
        ge=0.1,
        le=10_000,
        description="How long messages may be missing before they are asked for, and asked for again, in ms",
    )
    gap_timeout_ms: float = Field(
        1_000.0,
        ge=1,
        le=600_000,
        description="Messages missing for so long, in ms, are given up: the books are stale from then on",
    )
    gap_window_messages: int = Field(
        65_536,
        ge=64,
        le=4_194_304,
        description="Messages kept behind a gap until it is filled, 128 bytes each; a power of two",
    )
    first_sequence: int = Field(
        0,
        ge=0,
        le=2**62,
        description="Sequence number expected first; 1: all of the session, what was sent before is asked for; 0: join "
        "where it is, with stale books unless that is its beginning",
    )
    socket_buffer_bytes: int = Field(
        8_388_608, ge=4_096, le=1_073_741_824, description="Receive buffer asked for per line, in bytes"
    )
    symbol_ids: tuple[int, ...] = Field(
        (), description="Raw messages only: the id of each traded symbol, in their order; empty: 0, 1, 2 and so on"
    )

    @model_validator(mode="after")
    def _source_has_its_lines(self) -> "FeedSettings":
        if self.source == "venue":
            given = [name for name in ("lines", "request_server", "symbol_ids") if getattr(self, name)]
            if given:
                raise ValueError(f'{", ".join(given)} belong to source = "itch" or "raw"; source is "venue"')
            return self
        if not self.lines:
            raise ValueError(f"source = {self.source!r} needs lines, such as udp://127.0.0.1:26400")
        if len(set(self.lines)) != len(self.lines):
            raise ValueError(f"lines={list(self.lines)} names one twice")
        if self.gap_window_messages & (self.gap_window_messages - 1):
            raise ValueError(f"gap_window_messages={self.gap_window_messages} is not a power of two")
        if self.source == "raw" and (len(self.lines) > 1 or self.request_server):
            raise ValueError("raw messages have no sequence numbers: one line only, and nothing can be asked for")
        if self.request_server and parse_address(self.request_server).is_multicast:
            raise ValueError(f"request_server={self.request_server!r} is a multicast group; requests go to one host")
        return self

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
