"""Settings that belong to no stage: which market is traded, and the run itself."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9._-]{1,16}$")]


class MarketSettings(BaseModel):
    """Which venue and what is traded there."""

    model_config = ConfigDict(extra="forbid")

    venue: Literal["paper", "binance"] = Field(
        "paper", description="paper: the exchange of the [venue] section, started with the run; binance: the URLs below"
    )
    symbols: list[Symbol] = Field(
        default_factory=list,
        max_length=10_000,
        description="symbols traded, upper case; empty: all that the paper venue lists",
    )
    stream_url: str = Field(
        "wss://stream.binance.com:9443",
        pattern=r"^wss?://",
        description="market streams, URL without path (binance only)",
    )
    rest_url: str = Field(
        "https://api.binance.com", pattern=r"^https?://", description="REST interface, URL without path (binance only)"
    )
    order_url: str = Field(
        "wss://ws-api.binance.com:443/ws-api/v3",
        pattern=r"^wss?://",
        description="WebSocket API for orders, whole URL (binance only)",
    )
    api_key_file: str = Field("", description="file with the API key (binance only); empty: a key made for the run")
    private_key_file: str = Field(
        "", description="file with the Ed25519 private key, PEM (binance only); empty: made for the run"
    )
    connect_deadline_s: float = Field(
        300.0, ge=0.1, le=86_400, description="seconds to go on trying to reach a venue that is not there yet"
    )


class RecordSettings(BaseModel):
    """Recording the market data of a run, by a process that observes the feed."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(False, description="record the run from its first frame; `pipeline record` records one later")
    folder: str = Field("", description="where the files go; empty: `recording` in the run directory")
    rotate_mb: int = Field(256, ge=1, le=65_536, description="a file larger than this is followed by another, in MB")


class RunSettings(BaseModel):
    """The run as a whole."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        "default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="name of the run; one run at a time holds a name"
    )
    duration_s: float = Field(0.0, ge=0, le=31_536_000, description="seconds until the run stops; 0: until stopped")
    delivery: Literal["auto", "conflate", "every"] = Field(
        "auto",
        description="conflate: newest state when a stage falls behind; every: each event, by back-pressure (replays "
        "only); auto: every in a replay at max speed",
    )
