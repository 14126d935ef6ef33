"""Settings of the paper exchange: one JSON document on its standard input.

Only pydantic, the standard library and what needs no more are imported here, so that the composition root can build
the user's configuration file from these models without loading a server.
"""

from __future__ import annotations

import ipaddress
from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from stages.domain.lines import AddressText, OptionalAddressText

DECIMALS = 8


def _decimal(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a decimal number") from None
    if not value.is_finite() or value < 0:
        raise ValueError(f"{text!r} must be a number >= 0")
    if value >= 10**10:
        raise ValueError(f"{text!r} must be below 10000000000")
    if value != round(value, DECIMALS):
        raise ValueError(f"{text!r} has more than {DECIMALS} decimals")
    return text


def _positive_decimal(text: str) -> str:
    if Decimal(_decimal(text)) == 0:
        raise ValueError(f"{text!r} must be above 0")
    return text


def _loopback(host: str) -> str:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise ValueError(f"{host!r} is not a loopback address; the paper exchange serves this machine only")
    return host


def _speed(text: str) -> str:
    if text == "max":
        return text
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is neither a number nor 'max'") from None
    if not value.is_finite() or not Decimal("0.001") <= value <= 100_000:
        raise ValueError(f"{text!r} must lie between 0.001 and 100000, or be 'max'")
    return text


DecimalString = Annotated[str, AfterValidator(_decimal)]
PositiveDecimalString = Annotated[str, AfterValidator(_positive_decimal)]


class InstrumentSettings(BaseModel):
    """One symbol: its assets and its trading grid (Binance's filters PRICE_FILTER, LOT_SIZE, NOTIONAL)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: str = Field(pattern=r"^[A-Z0-9]{2,20}$", description="Name of the symbol, upper case")
    base_asset: str = Field(pattern=r"^[A-Z0-9]{1,10}$", description="Asset bought and sold")
    quote_asset: str = Field(pattern=r"^[A-Z0-9]{1,10}$", description="Asset prices are in")
    tick_size: PositiveDecimalString = Field(description="Price step, in quote asset")
    step_size: PositiveDecimalString = Field(description="Quantity step (lot), in base asset")
    min_qty: PositiveDecimalString = Field(description="Smallest order quantity, in base asset")
    max_qty: PositiveDecimalString = Field(default="9000", description="Largest order quantity, in base asset")
    min_notional: DecimalString = Field(
        default="5", description="Smallest price x quantity of an order, in quote asset"
    )
    initial_price: PositiveDecimalString = Field(
        default="100",
        description="Price at which the synthetic market opens, in quote asset; a replay ignores it",
    )
    typical_qty: PositiveDecimalString = Field(
        default="1",
        description="Typical size of the synthetic market's orders, in base asset; a replay ignores it",
    )


def default_instruments() -> list[InstrumentSettings]:
    """BTCUSDT and ETHUSDT on Binance's grids."""
    return [
        InstrumentSettings(
            symbol="BTCUSDT",
            base_asset="BTC",
            quote_asset="USDT",
            tick_size="0.01",
            step_size="0.00001",
            min_qty="0.00001",
            initial_price="60000",
            typical_qty="0.02",
        ),
        InstrumentSettings(
            symbol="ETHUSDT",
            base_asset="ETH",
            quote_asset="USDT",
            tick_size="0.01",
            step_size="0.0001",
            min_qty="0.0001",
            initial_price="2500",
            typical_qty="0.5",
        ),
    ]


class VenueSettings(BaseModel):
    """The paper exchange."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, AfterValidator(_loopback)] = Field(
        default="127.0.0.1", description="Loopback address to listen on"
    )
    port: int = Field(default=0, ge=0, le=65535, description="TCP port to listen on; 0 chooses a free one")
    symbols: list[InstrumentSettings] = Field(
        default_factory=default_instruments,
        min_length=1,
        max_length=64,
        description="Instruments listed; in a replay the definitions of the symbols replayed",
    )
    seed: int = Field(default=1, ge=0, lt=2**63, description="Seed of the synthetic market; one seed is one market")
    api_key: str = Field(
        default="paper",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="API key of the one account at the venue",
    )
    ed25519_public_key: str = Field(
        default="", description="The account's public key: base64 of 32 raw bytes, or PEM; empty for none"
    )
    hmac_secret: str = Field(
        default="", max_length=128, description="Secret for HMAC-SHA256 signatures; empty for none"
    )
    balances: dict[str, DecimalString] = Field(
        default_factory=lambda: {"USDT": "10000000", "BTC": "100", "ETH": "2000"},
        description="Asset: amount free at the start, in that asset; a replay of ITCH or raw messages gives "
        "10,000,000 USD and 10,000 shares of each security besides",
    )
    maker_fee_bps: int = Field(default=10, ge=0, le=1000, description="Commission of a passive fill, basis points")
    taker_fee_bps: int = Field(default=10, ge=0, le=1000, description="Commission of a taking fill, basis points")
    events_per_second: int = Field(
        default=200,
        ge=1,
        le=20_000,
        description="Synthetic orders, cancels and market orders per symbol per second",
    )
    replay: list[str] = Field(
        default_factory=list,
        description="Captures to play, in order: Binance streams, ITCH 5.0 or raw 29-byte messages; empty for the "
        "synthetic market",
    )
    replay_symbols: list[str] = Field(
        default_factory=list,
        description="Symbols of Binance captures that are played; empty: market.symbols, or all that there are",
    )
    speed: Annotated[str, AfterValidator(_speed)] = Field(
        default="1", description="Replay speed: multiple of the recorded pace (0.001 to 100000), or 'max'"
    )
    lines: list[AddressText] = Field(
        default_factory=list,
        max_length=2,
        description="Where a replay of ITCH is sent as MoldUDP64 packets, in the place of the WebSocket stream; empty: "
        "feed.lines, if the feed takes ITCH from lines",
    )
    request_server: OptionalAddressText = Field(
        default="",
        description="Where the MoldUDP64 request server listens; empty: feed.request_server, if venue.lines is empty",
    )
    line_loss_permille: int = Field(
        default=0, ge=0, le=1000, description="Packets of 1000 that each line loses on purpose, at random"
    )
    ping_interval_s: float = Field(
        default=20.0, ge=0.05, le=3600, description="Seconds between WebSocket pings to each client"
    )
    pong_timeout_s: float = Field(
        default=60.0, ge=0.05, le=3600, description="Seconds a ping may stay unanswered before disconnection"
    )
    max_stream_messages_per_second_in: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Messages per second a market stream client may send (Binance: 5)",
    )
    enforce_rate_limits: bool = Field(
        default=False, description="Refuse what exceeds the limits below with 429, as Binance does"
    )
    order_count_10s_max: int = Field(
        default=100, ge=1, le=10_000_000, description="Orders per 10 seconds (ORDERS limit in exchangeInfo)"
    )
    order_count_day_max: int = Field(
        default=200_000, ge=1, le=1_000_000_000, description="Orders per day (ORDERS limit in exchangeInfo)"
    )
    request_weight_minute_max: int = Field(
        default=6_000, ge=1, le=1_000_000_000, description="Request weight per minute (REQUEST_WEIGHT limit)"
    )
    parent_grace_s: float = Field(
        default=5.0,
        ge=0,
        le=60,
        description="Seconds the venue outlives its parent, so that orders can be cancelled",
    )

    @model_validator(mode="after")
    def _symbols_are_unique(self) -> VenueSettings:
        names = [item.symbol for item in self.symbols]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"symbols: {', '.join(double)} defined more than once")
        return self
