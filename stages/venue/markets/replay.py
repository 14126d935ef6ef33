"""Plays captures to the market streams, by the replay rules (a) to (f) of the project's interfaces page.

Play starts when every stream that occurs in the files has a subscriber, holds at a recorded snapshot until it has
been fetched, and drops nothing: after each batch the player waits until every socket has taken it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from stages.domain.captures import binance as capture
from stages.domain.captures.binance import Kind, Record
from stages.domain.captures.binance_description import Description
from stages.domain.matching.orders import Fill
from stages.venue import instruments
from stages.venue.endpoints.hub import Hub
from stages.venue.endpoints.wire import Connection, frame
from stages.venue.exchange import Exchange
from stages.venue.instruments import Instrument
from stages.venue.markets.replay_market import ReplayMarket

log = logging.getLogger("venue.replay")
BATCH_MESSAGES_MAX = 256
BATCH_BYTES_MAX = 128 * 1024


def replayed_instruments(description: Description, known: dict[str, Instrument]) -> list[Instrument]:
    """Only the replayed symbols: by their known definition, else inferred from the recorded trades."""
    traded: dict[str, tuple[set[str], set[str]]] = {
        symbol: (set(), set()) for symbol in description.symbols if symbol not in known
    }
    for file in description.files if traded else ():  # once for all symbols
        for symbol, price, quantity in capture.trades(file, traded):
            traded[symbol][0].add(price)
            traded[symbol][1].add(quantity)
    return [known[symbol] if symbol in known else instruments.infer(symbol, *traded[symbol])
            for symbol in description.symbols]  # fmt: skip


class Batch:
    """Frames gathered per connection, to go out in one write each."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._frames: dict[Connection, list[bytes]] = {}
        self.message_count = 0
        self.byte_count = 0

    @property
    def is_full(self) -> bool:
        return self.message_count >= BATCH_MESSAGES_MAX or self.byte_count >= BATCH_BYTES_MAX

    def add(self, record: Record, stream: str) -> None:
        """A message of `stream` more."""
        for connection in self._hub.subscribers(stream):
            payload = record.raw if connection.combined else record.data
            self._frames.setdefault(connection, []).append(frame(payload))
        self.message_count += 1
        self.byte_count += len(record.raw)

    def write(self) -> list[Connection]:
        """Hand everything to the sockets; returns who was written to."""
        for connection, frames in self._frames.items():
            connection.stream_messages += len(frames)
            connection.write(b"".join(frames))
        written = list(self._frames)
        self._frames.clear()
        self.message_count = self.byte_count = 0
        return written


class ReplaySource:
    """The player and the markets of all replayed symbols."""

    def __init__(
        self,
        exchange: Exchange,
        hub: Hub,
        description: Description,
        *,
        speed: str,
        notify: Callable[[dict[str, Any]], None],
    ) -> None:
        self._exchange = exchange
        self._hub = hub
        self._description = description
        self._speed = None if speed == "max" else float(speed)  # pacing only
        self._notify = notify
        self._markets: dict[str, ReplayMarket] = {}
        self._served: dict[Connection, None] = {}
        self._hold_ns = 0
        self._played_as: dict[str, str] = {}
        for symbol, item in exchange.instruments.items():
            market = ReplayMarket(item, len(description.symbols[symbol].snapshot_ids))
            self._markets[symbol] = exchange.markets[symbol] = market

    async def run(self) -> None:
        await self._all_streams_subscribed()
        start_ns = time.monotonic_ns()
        batch = Batch(self._hub)
        for file, record in self._records():
            if self._owner(file, record) not in self._markets:
                continue
            if self._speed is not None:
                due_ns = int((record.receive_ns - self._description.first_receive_ns) / self._speed)
                wait_ns = start_ns + self._hold_ns + due_ns - time.monotonic_ns()
                if wait_ns > 0:
                    await self._send(batch)
                    await asyncio.sleep(wait_ns / 1e9)
            if record.kind is Kind.SNAPSHOT:
                await self._send(batch)
                held = self._markets[self._owner(file, record)]
                await self._hold(held, held.hold_at(record))
                continue
            batch.add(record, self._played_as.get(record.stream, record.stream))
            market = self._markets.get(capture.symbol_of(record.stream))
            if market is not None and (fills := market.play(record)):
                self._exchange.apply_fills(capture.symbol_of(record.stream), fills)
            if batch.is_full:
                await self._send(batch)
            if market is not None and record.kind is Kind.DIFF and market.holds_at_gap:
                await self._send(batch)
                await self._hold(market, market.hold_at_gap())
        await self._send(batch)
        for market in self._markets.values():
            market.end()
        await self._finish(start_ns)

    def _records(self) -> Iterator[tuple[str, Record]]:
        for file in self._description.files:
            for record in capture.records(file, lambda damage: None):
                yield file, record

    def _owner(self, file: str, record: Record) -> str:
        if record.kind is Kind.SNAPSHOT:
            return self._description.snapshot_symbols[file, record.line]
        return capture.symbol_of(record.stream)

    async def _all_streams_subscribed(self) -> None:
        """Wait for them. A stream that nobody wants by its own name goes out by that by which readers take it."""
        needed = self._description.needed_streams
        while missing := [
            name for name, other in needed.items() if not (self._hub.is_wanted(name) or self._hub.is_wanted(other))
        ]:
            log.info("replay waits for subscribers of %s", " ".join(missing))
            self._hub.changed.clear()
            await self._hub.changed.wait()
        self._played_as = {name: other for name, other in needed.items() if not self._hub.is_wanted(name)}

    async def _hold(self, market: ReplayMarket, held: Awaitable[list[tuple[Fill, int]]]) -> None:
        before_ns = time.monotonic_ns()
        log.info("replay holds until a depth snapshot of %s has been fetched", market.instrument.symbol)
        fills = await held
        self._hold_ns += time.monotonic_ns() - before_ns
        self._exchange.apply_fills(market.instrument.symbol, fills)
        self._exchange.flush()

    async def _send(self, batch: Batch) -> None:
        """Market data first, then the executions it caused; then wait for the sockets, then let requests in."""
        written = batch.write()
        self._exchange.flush()
        for connection in written:
            self._served[connection] = None
            await connection.drain()
        await asyncio.sleep(0)

    async def _finish(self, start_ns: int) -> None:
        for connection in self._served:
            await connection.drain_all()
        counts = [connection.stream_messages for connection in self._served]
        self._notify(
            {
                "event": "replay_finished",
                "stream_messages": sum(counts),
                "per_connection": [
                    {
                        "connection": connection.number,
                        "streams": list(connection.streams),
                        "stream_messages": connection.stream_messages,
                    }
                    for connection in self._served
                ],
                "recorded_messages": self._description.stream_messages,
                "duration_ns": time.monotonic_ns() - start_ns - self._hold_ns,
                "held_ns": self._hold_ns,
                "damage": self._description.warnings,
            }
        )
