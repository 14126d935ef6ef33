"""What is played from files, by their format. Decoders of binary messages are compiled code: a market of the exchange's
own, on which most runs trade, starts without this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stages.domain.captures import itch as itch_capture
from stages.domain.captures import raw as raw_capture
from stages.domain.captures.binance_description import Description, describe
from stages.domain.captures.itch import ItchDescription
from stages.domain.captures.raw import RawDescription
from stages.venue.endpoints.hub import Hub
from stages.venue.exchange import Exchange
from stages.venue.instruments import Instrument
from stages.venue.markets import itch_replay, raw_replay
from stages.venue.markets.block_replay import BlockReplay
from stages.venue.markets.moldudp64 import MoldServer
from stages.venue.markets.replay import ReplaySource, replayed_instruments
from stages.venue.settings import VenueSettings

Played = Description | ItchDescription | RawDescription


def described(files: Sequence[str], chosen: Sequence[str] = ()) -> Played:
    """What the files hold, by the first one's format. Raises CaptureError when they cannot be read.

    chosen   of Binance streams only these symbols are played; by default all
    """
    if itch_capture.is_itch(files[0]):
        return itch_capture.describe(files)
    return raw_capture.describe(files) if raw_capture.is_raw(files[0]) else describe(files, chosen)


def listed(played: Played, known: dict[str, Instrument]) -> list[Instrument]:
    """The instruments of the files: by their known definition, else by a rule of the format."""
    if isinstance(played, Description):
        return replayed_instruments(played, known)
    return (
        itch_replay.listed(played, known) if isinstance(played, ItchDescription) else raw_replay.listed(played, known)
    )


def opening(played: Played, instruments: Sequence[Instrument]) -> dict[str, int]:
    """What the account has at the start where its settings say nothing."""
    return {} if isinstance(played, Description) else itch_replay.balances(instruments)


def player(
    played: Played,
    exchange: Exchange,
    hub: Hub,
    settings: VenueSettings,
    notify: Callable[[dict[str, Any]], None],
    is_connected: Callable[[], bool],
) -> ReplaySource | BlockReplay:
    """What plays them."""
    if isinstance(played, Description):
        return ReplaySource(exchange, hub, played, speed=settings.speed, notify=notify)
    if isinstance(played, RawDescription):
        return raw_replay.RawReplay(exchange, hub, played, speed=settings.speed, notify=notify)
    server = None
    if settings.lines:
        server = MoldServer(
            settings.lines, settings.request_server, loss_permille=settings.line_loss_permille, seed=settings.seed
        )
    return itch_replay.ItchReplay(
        exchange, hub, played, speed=settings.speed, notify=notify, server=server, is_connected=is_connected
    )
