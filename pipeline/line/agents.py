"""The agents of a line, made from the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from stages.agent import Agent
from stages.book.agent import BookAgent
from stages.domain.captures.itch import is_itch
from stages.domain.captures.raw import is_raw
from stages.feed.agent import FeedAgent
from stages.feed.context import Format
from stages.feed.lines.agent import LinesAgent
from stages.feed.settings import FeedSettings
from stages.risk.agent import RiskAgent
from stages.router.agent import RouterAgent
from stages.router.credentials import Credentials
from stages.router.session import Living
from stages.strategy.agent import StrategyAgent
from stages.strategy.loader import Strategy

if TYPE_CHECKING:
    from pipeline.config.tree import Config

AGENT_CLASSES: dict[str, type[Agent]] = {
    "feed": FeedAgent,
    "book": BookAgent,
    "strategy": StrategyAgent,
    "risk": RiskAgent,
    "router": RouterAgent,
}


@dataclass(frozen=True)
class Endpoints:
    """Where the venue is. URLs without path for REST and streams, the whole URL for the order connection."""

    stream_url: str
    rest_url: str
    order_url: str


def stream_format_of(config: "Config") -> Format:
    """What the venue's market stream, or the lines, carry; it decides on the kind of books, too.

    Raises CaptureError when the file to be played cannot be read, UsageError when it is not what the lines are for.
    """
    replay, is_of_lines = config.venue.replay, config.feed.source == "itch"
    if not replay:
        return Format.ITCH if is_of_lines else Format.BINANCE
    if is_itch(replay[0]):
        return Format.ITCH
    if is_of_lines:
        raise UsageError(f'feed.source = "itch", but {replay[0]} is no ITCH file', 'set feed.source = "venue"')
    return Format.RAW if is_raw(replay[0]) else Format.BINANCE


def build_agents(
    config: "Config",
    instruments: NDArray[np.void],
    endpoints: Endpoints,
    credentials: Credentials,
    strategy: Strategy,
    *,
    delivery: str,
    run_start_ms: int,
    helper_cpus: Sequence[int],
    journal_folder: Path | None,
    living: Living = tuple,
    stream_format: Format = Format.BINANCE,
) -> dict[str, Agent]:
    """The five agents, in pipeline order; nothing is opened yet. Twins have no `journal_folder`.

    stream_format   what the venue's market stream, or the lines, carry; it decides on the kind of books, too
    """
    feed: Agent
    if config.feed.source == "venue":
        feed = FeedAgent(
            instruments,
            config.feed,
            endpoints.stream_url,
            endpoints.rest_url,
            delivery,
            tuple(helper_cpus),
            stream_format,
        )
    else:
        feed = LinesAgent(instruments, _of_whole_session(config.feed) if config.venue.replay else config.feed)
    return {
        "feed": feed,
        "book": BookAgent(instruments, config.book, delivery, of_orders=stream_format is Format.ITCH),
        "strategy": StrategyAgent(instruments, config.strategy, strategy, delivery),
        "risk": RiskAgent(instruments, config.risk, delivery),
        "router": RouterAgent(
            instruments,
            config.router,
            endpoints.order_url,
            credentials,
            run_start_ms,
            tuple(helper_cpus),
            journal_folder,
            living,
        ),
    }


def _of_whole_session(feed: FeedSettings) -> FeedSettings:
    """What is replayed is wanted from its first message on, should it have begun before the feed listened."""
    return feed.model_copy(update={"first_sequence": feed.first_sequence or 1})
