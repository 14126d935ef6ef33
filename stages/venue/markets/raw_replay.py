"""Plays raw 29-byte messages to the stream `raw`. A trade fills our orders at its price or better.

Quotes do not say their side: the recorded market has no book, so that whoever looks before he sends finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from stages.domain.captures import raw as capture
from stages.domain.captures.raw import RawDescription
from stages.domain.codecs.raw import TRADE
from stages.domain.codecs.raw_market import symbol_name
from stages.domain.matching.orders import Fill
from stages.venue import fixed
from stages.venue.endpoints.hub import Hub
from stages.venue.exchange import Exchange
from stages.venue.instruments import Instrument
from stages.venue.markets.block_replay import BlockReplay
from stages.venue.markets.itch_replay import stock
from stages.venue.markets.queued_market import QueuedMarket

assert fixed.SCALE == 10**8, "a raw price is one of the exchange's numbers"


def listed(description: RawDescription, known: dict[str, Instrument]) -> list[Instrument]:
    """The symbols of the files: by their known definition, else with single lots and the tick of their trades."""
    return [
        known[name] if name in known else replace(stock(name), tick=_tick(description.steps.get(name, 0)))
        for name in description.symbols
    ]


def _tick(step: int) -> int:
    """The largest power of ten that divides it, one at most; a cent where there is none."""
    tick = fixed.SCALE if step else fixed.SCALE // 100
    while step % tick:
        tick //= 10
    return tick


class RawMarket(QueuedMarket):
    """Implements `stages.venue.markets.market.Market`."""

    def __init__(self, item: Instrument) -> None:
        super().__init__(item)
        self.last_price = 0

    async def depth(self, limit: int) -> bytes:
        return b'{"lastUpdateId":0,"bids":[],"asks":[]}'

    def trade(self, price: int, quantity: int) -> list[tuple[Fill, int]]:
        """Returns the fills of our orders; nothing says who was the aggressor, so it counts as a buyer."""
        self.last_price = price
        return self._number(self._model.trade(price, quantity * fixed.SCALE, buyer_is_maker=False))


class RawReplay(BlockReplay):
    """The player and the markets of all symbols."""

    stream = "raw"

    def __init__(
        self,
        exchange: Exchange,
        hub: Hub,
        description: RawDescription,
        *,
        speed: str,
        notify: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(exchange, hub, description, speed=speed, notify=notify)
        self._markets: dict[str, RawMarket] = {}
        for symbol, item in exchange.instruments.items():
            self._markets[symbol] = exchange.markets[symbol] = RawMarket(item)

    def messages(self) -> Iterator[bytes]:
        return capture.played(self._description.files)

    def time_ns(self, message: bytes) -> int:
        return capture.time_ns(message)

    def joined(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)

    def play(self, message: bytes) -> None:
        kind, symbol_id, price, quantity, _ = capture.unpack(message)
        if kind == TRADE and price > 0 and quantity > 0:
            symbol = symbol_name(symbol_id)
            if fills := self._markets[symbol].trade(price, quantity):
                self._exchange.apply_fills(symbol, fills)
