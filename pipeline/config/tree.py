"""The configuration: one tree, a section per layer or stage, each declared where it is used.

Read once, concluded once: after `load` nothing about the run is still to be decided by rules across sections, and the
source of every value is known.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from launch.settings import LaunchSettings
from pipeline.config.settings import MarketSettings, RecordSettings, RunSettings
from pipeline.config.sources import Tree, leaves, merge, read_assignments, read_file
from pipeline.config.words import error_lines
from pipeline.errors import UsageError
from stages.book.settings import BookSettings
from stages.domain.instrument_settings import InstrumentSettings
from stages.feed.settings import FeedSettings
from stages.risk.settings import RiskSettings
from stages.router.endpoint import EndpointError, require_loopback
from stages.router.settings import RouterSettings
from stages.strategy.settings import StrategySettings
from stages.venue.settings import VenueSettings

COMMAND_LINE = "command line"
DEFAULT = "default"


class Config(BaseModel):
    """Every setting of a run."""

    model_config = ConfigDict(extra="forbid")

    market: MarketSettings = Field(default_factory=MarketSettings, description="which market is traded")
    instruments: dict[str, InstrumentSettings] = Field(
        default_factory=dict, description="By symbol: what goes before the venue's word on its grid and limits"
    )
    feed: FeedSettings = Field(default_factory=FeedSettings, description="market data handler")
    book: BookSettings = Field(default_factory=BookSettings, description="order book builder")
    strategy: StrategySettings = Field(default_factory=StrategySettings, description="what decides on orders")
    risk: RiskSettings = Field(default_factory=RiskSettings, description="what every order must pass")
    router: RouterSettings = Field(default_factory=RouterSettings, description="order router, exchange connection")
    venue: VenueSettings = Field(default_factory=VenueSettings, description="the paper exchange")
    record: RecordSettings = Field(default_factory=RecordSettings, description="recording of market data")
    launch: LaunchSettings = Field(default_factory=LaunchSettings, description="processes, cores, deadlines")
    run: RunSettings = Field(default_factory=RunSettings, description="the run as a whole")

    @property
    def delivery(self) -> str:
        """conflate or every, concluded."""
        if self.run.delivery != "auto":
            return self.run.delivery
        return "every" if self.venue.replay and self.venue.speed == "max" else "conflate"


@dataclass(frozen=True)
class Loaded:
    """A valid configuration, and where each value that is not a default comes from (dotted key: source)."""

    config: Config
    sources: Mapping[str, str]

    def source(self, key: str) -> str:
        """Where the value of a dotted key comes from."""
        return self.sources.get(key, DEFAULT)


def load(file: Path | None = None, assignments: Sequence[str] = (), options: Tree | None = None) -> Loaded:
    """The configuration of defaults, then `file`, then `assignments` (-s), then `options` (a tree).

    Raises UsageError: one line for each thing wrong, with its source, its key and a hint.
    """
    sources: dict[str, str] = {}
    tree: Tree = {}
    if file is not None:
        tree = read_file(file)
        sources |= dict.fromkeys(leaves(tree), str(file))
    for given in (read_assignments(assignments, Config), options or {}):
        tree = merge(tree, given)
        sources |= dict.fromkeys(leaves(given), COMMAND_LINE)
    config = _validated(tree, sources)
    conclude(config)
    return Loaded(config, sources)


def _validated(tree: Tree, sources: Mapping[str, str]) -> Config:
    try:
        # Strict, so that text is no number; by way of JSON, so that lists are tuples where a model wants them.
        return Config.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        raise UsageError("\n".join(error_lines(error, Config, sources))) from None


def conclude(config: Config) -> None:
    """Rules across sections. Raises UsageError naming the knob to turn."""
    market, venue, launch = config.market, config.venue, config.launch
    paper = market.venue == "paper"
    if venue.replay and not paper:
        raise UsageError(f"venue.replay with market.venue = {market.venue!r}: only the paper exchange plays captures",
                         "set market.venue = \"paper\"")  # fmt: skip
    if venue.speed != VenueSettings.model_fields["speed"].default and not venue.replay:
        raise UsageError(f"venue.speed = {venue.speed!r} without venue.replay: nothing is played", "give --replay FILE")
    if config.run.delivery == "every" and not venue.replay:
        raise UsageError('run.delivery = "every" without venue.replay: a live market does not wait',
                         'set run.delivery = "conflate" or give --replay FILE')  # fmt: skip
    if launch.heartbeat_warning_s >= launch.heartbeat_failure_s:
        raise UsageError(
            f"launch.heartbeat_warning_s = {launch.heartbeat_warning_s:g} is not below "
            f"launch.heartbeat_failure_s = {launch.heartbeat_failure_s:g}",
            "lower launch.heartbeat_warning_s",
        )
    if len(set(market.symbols)) != len(market.symbols):
        raise UsageError("market.symbols: a symbol is there twice", "name each once")
    if paper and not venue.replay:
        listed = {item.symbol for item in venue.symbols}
        missing = [symbol for symbol in market.symbols if symbol not in listed]
        if missing:
            raise UsageError(
                f"market.symbols: {', '.join(missing)} not listed by the paper exchange ({', '.join(sorted(listed))})",
                "list it under venue.symbols",
            )
    if not paper:
        _refuse_remote_orders(market.order_url)
    if not paper and not market.symbols:
        raise UsageError("market.symbols is empty: a real venue lists thousands", "name what is to be traded")
    if not paper and config.feed.source == "venue" and not market.stream_url.startswith("ws://"):
        raise UsageError(
            f"market.stream_url = {market.stream_url!r}: TLS is not built for market streams yet",
            "give a ws:// address, such as ws://127.0.0.1:PORT",
        )
    if config.feed.source == "raw" and venue.replay:
        raise UsageError('feed.source = "raw" with venue.replay: what is replayed comes by the venue\'s stream',
                         'set feed.source = "venue" to replay, or leave --replay out')  # fmt: skip
    if venue.lines and not venue.replay:
        raise UsageError("venue.lines without venue.replay: there is nothing to send over them", "give --replay FILE")
    if bool(market.api_key_file) != bool(market.private_key_file):
        raise UsageError(
            "market.api_key_file and market.private_key_file: one is given without the other",
            "give both, or neither: a local venue that checks no keys gets one made for the run",
        )


def _refuse_remote_orders(order_url: str) -> None:
    """Orders go to this machine only, until journal, reconciliation and kill switch exist. Raises UsageError."""
    try:
        require_loopback(order_url)
    except EndpointError as error:
        raise UsageError(f"market.order_url: orders go to loopback addresses only: {error}") from None


def document(loaded: Loaded) -> dict[str, Any]:
    """The concluded configuration as JSON-ready data, sections in order."""
    return loaded.config.model_dump(mode="json")
