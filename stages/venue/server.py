"""The venue as a whole: one port for REST, market streams and the WebSocket API, over one market source."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from stages.venue import fixed, instruments
from stages.venue.account import Account
from stages.venue.endpoints.authentication import Authenticator
from stages.venue.endpoints.hub import Hub
from stages.venue.endpoints.operations import Operations
from stages.venue.endpoints.rest import RestApi
from stages.venue.endpoints.streams import MarketStreams
from stages.venue.endpoints.websocket_api import WebSocketApi
from stages.venue.errors import VenueConfigurationError
from stages.venue.exchange import Exchange
from stages.venue.limits import Limits
from stages.venue.markets.synthetic import SyntheticSource
from stages.venue.settings import VenueSettings

if TYPE_CHECKING:
    from stages.venue.markets.block_replay import BlockReplay
    from stages.venue.markets.replay import ReplaySource

GOING_AWAY = 1001
SHUTDOWN_TIMEOUT_S = 1.0


class Venue:
    """Built from its settings; `start` opens the port, `run` plays the market, `stop` closes everything."""

    def __init__(self, settings: VenueSettings, notify: Callable[[dict[str, Any]], None]) -> None:
        self._settings = settings
        self._hub = Hub()
        is_replay = bool(settings.replay)
        known = {item.symbol: item for item in map(instruments.from_settings, settings.symbols)}
        listed = list(known.values())
        self.warnings: list[str] = []
        opening: dict[str, int] = {}
        if is_replay:
            from stages.venue.markets import recorded

            played = recorded.described(settings.replay, settings.replay_symbols)
            self.warnings = played.warnings
            listed = recorded.listed(played, known)
            opening = recorded.opening(played, listed)
        account = Account(opening | {asset: fixed.parse(amount) for asset, amount in settings.balances.items()})
        for item in listed:
            account.balance(item.base_asset)
            account.balance(item.quote_asset)
        exchange = Exchange(listed, account, maker_fee_bps=settings.maker_fee_bps, taker_fee_bps=settings.taker_fee_bps)
        authenticator = Authenticator(settings)
        operations = Operations(exchange, Limits(settings), settings)
        self._source: ReplaySource | BlockReplay | SyntheticSource
        if is_replay:
            self._source = recorded.player(
                played, exchange, self._hub, settings, notify, lambda: bool(self._api.connections)
            )
        else:
            self._source = SyntheticSource(
                exchange, self._hub, seed=settings.seed, events_per_second=settings.events_per_second
            )
        self._api = WebSocketApi(operations, authenticator, settings, is_replay=is_replay)
        application = web.Application(client_max_size=2**20)
        RestApi(operations, authenticator).add_routes(application.router)
        MarketStreams(self._hub, settings, is_replay=is_replay).add_routes(application.router)
        self._api.add_routes(application.router)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address."""
        await self._runner.setup()
        listener = self._listen()
        await web.SockSite(self._runner, listener, backlog=64).start()
        host, port = listener.getsockname()[:2]
        return host, port

    async def run(self) -> None:
        await self._source.run()

    async def stop(self) -> None:
        connections = [*self._hub.connections, *self._api.connections]
        closing = [connection.close(GOING_AWAY, "Server shutdown") for connection in connections]
        if closing:
            tasks = [asyncio.ensure_future(item) for item in closing]
            await asyncio.wait(tasks, timeout=SHUTDOWN_TIMEOUT_S)
        for connection in connections:
            connection.abort()
        await self._runner.cleanup()

    def _listen(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        try:
            return socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=64
            )
        except OSError as error:
            raise VenueConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                "choose another port, or 0 for a free one",
            ) from error
