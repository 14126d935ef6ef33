"""Plays ITCH files to the stream `itch`: blocks of messages, each behind its length.

Over lines of MoldUDP64 packets, to which nobody subscribes, play starts when somebody is there to send orders and
somebody receives; what is sent is counted in messages then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from stages.domain.captures import itch as capture
from stages.domain.captures.itch import ItchDescription
from stages.venue import fixed
from stages.venue.endpoints.hub import Hub
from stages.venue.endpoints.params import SYMBOL
from stages.venue.endpoints.wire import Connection
from stages.venue.exchange import Exchange
from stages.venue.instruments import Instrument
from stages.venue.markets.block_replay import BlockReplay
from stages.venue.markets.itch_market import ItchMarket
from stages.venue.markets.moldudp64 import MoldServer

CONNECTED_POLL_S = 0.02
QUOTE_ASSET = "USD"
MONEY, SHARES = 10_000_000 * fixed.SCALE, 10_000 * fixed.SCALE
_PLAYED = frozenset(b"AFECXDUP")


def listed(description: ItchDescription, known: dict[str, Instrument]) -> list[Instrument]:
    """The securities of the files: by their known definition, else in cents and single shares.

    One whose name is no symbol of this venue's interface is played, but cannot be traded.
    """
    names = [name for name in description.symbols if SYMBOL.match(name)]
    return [known[name] if name in known else stock(name) for name in names]


def balances(securities: Iterable[Instrument]) -> dict[str, int]:
    """What the account has at the start where its settings say nothing."""
    return {QUOTE_ASSET: MONEY} | {item.base_asset: SHARES for item in securities}


def stock(symbol: str) -> Instrument:
    """A security in cents and single shares."""
    return Instrument(
        symbol=symbol,
        base_asset=symbol,
        quote_asset=QUOTE_ASSET,
        tick=fixed.SCALE // 100,
        lot=fixed.SCALE,
        min_quantity=fixed.SCALE,
        max_quantity=1_000_000 * fixed.SCALE,
        min_notional=0,
        initial_price=100 * fixed.SCALE,
        typical_quantity=100 * fixed.SCALE,
    )


class ItchReplay(BlockReplay):
    """The player and the markets of all securities."""

    stream = "itch"

    def __init__(
        self,
        exchange: Exchange,
        hub: Hub,
        description: ItchDescription,
        *,
        speed: str,
        notify: Callable[[dict[str, Any]], None],
        server: MoldServer | None = None,
        is_connected: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(exchange, hub, description, speed=speed, notify=notify)
        self._server, self._is_connected = server, is_connected
        self._markets: dict[str, ItchMarket] = {}
        self._by_locate: dict[int, ItchMarket | None] = {}
        self._before_ns = 0
        for symbol, item in exchange.instruments.items():
            self._markets[symbol] = exchange.markets[symbol] = ItchMarket(item)

    async def run(self) -> None:
        if self._server is None:
            await super().run()
            return
        serving = asyncio.create_task(self._server.run())
        try:
            await super().run()
            self._server.end()
            await serving  # until it is cancelled: requests for the last messages are still to come
        finally:
            serving.cancel()
            self._server.close()

    async def _wait_for_listeners(self) -> None:
        if self._server is None:
            await super()._wait_for_listeners()
        else:
            while not (self._is_connected() and self._server.is_heard()):
                await asyncio.sleep(CONNECTED_POLL_S)

    def messages(self) -> Iterator[bytes]:
        return capture.played(self._description.files)

    def time_ns(self, message: bytes) -> int:
        return capture.time_ns(message)

    def joined(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(len(message).to_bytes(2, "big") + message for message in messages)

    def play(self, message: bytes) -> None:
        if capture.begins_day(message, self._before_ns):
            self._begin_day()
        self._before_ns = capture.time_ns(message)
        number = capture.locate(message)
        market = self._by_locate.get(number)
        if market is None and number not in self._by_locate and (name := capture.stock(message)):
            market = self._by_locate[number] = self._markets.get(name)
        if market is None or message[0] not in _PLAYED:
            return
        fills = market.play(chr(message[0]), capture.fields(message))
        if fills:
            self._exchange.apply_fills(market.instrument.symbol, fills)

    def _begin_day(self) -> None:
        self._by_locate.clear()
        for market in self._markets.values():
            self._exchange.apply_fills(market.instrument.symbol, market.begin_day())

    def _broadcast(self, block: Sequence[bytes]) -> list[Connection]:
        if self._server is not None:
            self._server.send(block)
        return super()._broadcast(block)

    def _sent(self) -> int:
        return super()._sent() if self._server is None else self._server.next_sequence - 1
