"""Plays ITCH files to the stream `itch`: blocks of messages, each behind its length, one binary frame a block.

Play starts when the stream has a subscriber, goes by the messages' own times, and drops nothing. Over lines of
MoldUDP64 packets, to which nobody subscribes, it starts when somebody is there to send orders and somebody receives.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from stages.domain.captures import itch as capture
from stages.domain.captures.itch import ItchDescription
from stages.venue import fixed
from stages.venue.exchange import Exchange
from stages.venue.hub import Hub
from stages.venue.instruments import Instrument
from stages.venue.itch_market import ItchMarket
from stages.venue.moldudp64 import MoldServer
from stages.venue.params import SYMBOL
from stages.venue.wire import BINARY, Connection, frame

log = logging.getLogger("venue.replay")
STREAM = "itch"
BLOCK_MESSAGES_MAX = 128
YIELD_BLOCKS = 8
"""So many blocks are written before requests have their turn, however fast the sockets take them."""
CONNECTED_POLL_S = 0.02
QUOTE_ASSET = "USD"
MONEY, SHARES = 10_000_000 * fixed.SCALE, 10_000 * fixed.SCALE
_PLAYED = frozenset(b"AFECXDUP")


def listed(description: ItchDescription, known: dict[str, Instrument]) -> list[Instrument]:
    """The securities of the files: by their known definition, else in cents and single shares.

    One whose name is no symbol of this venue's interface is played, but cannot be traded.
    """
    names = [name for name in description.symbols if SYMBOL.match(name)]
    return [known[name] if name in known else _stock(name) for name in names]


def balances(securities: Iterable[Instrument]) -> dict[str, int]:
    """What the account has at the start where its settings say nothing."""
    return {QUOTE_ASSET: MONEY} | {item.base_asset: SHARES for item in securities}


def _stock(symbol: str) -> Instrument:
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


class ItchReplay:
    """The player and the markets of all securities."""

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
        self._exchange, self._hub, self._description, self._notify = exchange, hub, description, notify
        self._server, self._is_connected = server, is_connected
        self._speed = None if speed == "max" else float(speed)  # pacing only
        self._markets: dict[str, ItchMarket] = {}
        self._by_locate: dict[int, ItchMarket | None] = {}
        self._served: dict[Connection, None] = {}
        self._block: list[bytes] = []
        self._blocks = 0
        for symbol, item in exchange.instruments.items():
            self._markets[symbol] = exchange.markets[symbol] = ItchMarket(item)

    async def run(self) -> None:
        if self._server is None:
            await self._play_all()
            return
        serving = asyncio.create_task(self._server.run())
        try:
            await self._play_all()
            self._server.end()
            await serving  # until it is cancelled: requests for the last messages are still to come
        finally:
            serving.cancel()
            self._server.close()

    async def _wait_for_listeners(self) -> None:
        if self._server is not None:
            while not (self._is_connected() and self._server.is_heard()):
                await asyncio.sleep(CONNECTED_POLL_S)
        while self._server is None and not self._hub.is_wanted(STREAM):
            log.info("replay waits for a subscriber of %s", STREAM)
            self._hub.changed.clear()
            await self._hub.changed.wait()

    async def _play_all(self) -> None:
        await self._wait_for_listeners()
        start_ns = time.monotonic_ns()
        for message in capture.played(self._description.files):
            await self._wait_for(message, start_ns)
            self._block.append(message)
            self._play(message)
            if len(self._block) == BLOCK_MESSAGES_MAX:
                await self._send()
        await self._send()
        for connection in self._served:
            await connection.drain_all()
        self._finish(start_ns)

    async def _wait_for(self, message: bytes, start_ns: int) -> None:
        """Until the message is due; what came before it goes out first."""
        if self._speed is None:
            return
        due_ns = int((capture.time_ns(message) - self._description.first_ns) / self._speed)
        if (wait_ns := start_ns + due_ns - time.monotonic_ns()) > 0:
            await self._send()
            await asyncio.sleep(wait_ns / 1e9)

    def _play(self, message: bytes) -> None:
        number = capture.locate(message)
        market = self._by_locate.get(number)
        if market is None and number not in self._by_locate and (name := capture.stock(message)):
            market = self._by_locate[number] = self._markets.get(name)
        if market is None or message[0] not in _PLAYED:
            return
        fills = market.play(chr(message[0]), capture.fields(message))
        if fills:
            self._exchange.apply_fills(market.instrument.symbol, fills)

    async def _send(self) -> None:
        """The block, then the executions that it caused; then wait for the sockets, then let requests in."""
        if not self._block:
            return
        if self._server is not None:
            self._server.send(self._block)
        data = frame(_joined(self._block), BINARY)
        self._block.clear()
        subscribers = list(self._hub.subscribers(STREAM))
        for connection in subscribers:
            connection.stream_messages += 1
            connection.write(data)
            self._served[connection] = None
        self._exchange.flush()
        for connection in subscribers:
            await connection.drain()
        self._blocks += 1
        if self._speed is not None or self._blocks % YIELD_BLOCKS == 0:
            await asyncio.sleep(0)

    def _finish(self, start_ns: int) -> None:
        counts = {connection: connection.stream_messages for connection in self._served}
        sent = sum(counts.values()) if self._server is None else self._server.next_sequence - 1
        self._notify(
            {
                "event": "replay_finished",
                "stream_messages": sent,
                "per_connection": [
                    {"connection": each.number, "streams": list(each.streams), "stream_messages": count}
                    for each, count in counts.items()
                ],
                "recorded_messages": self._description.message_count,
                "damage": self._description.damage,
                "duration_ns": time.monotonic_ns() - start_ns,
                "held_ns": 0,
            }
        )


def _joined(messages: Iterable[bytes]) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)
