"""One symbol of a replay: the recorded book, our orders in it, and the depth requests it answers.

Recorded diffs are parsed only when somebody needs the book (a depth request, or an order of ours): without
orders, playing a file is moving bytes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from itertools import islice

from stages.domain.captures.binance import Kind, Record
from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Fill, Order
from stages.venue import fixed
from stages.venue.fixed import show
from stages.venue.instruments import Instrument
from stages.venue.markets.queued_market import QueuedMarket

log = logging.getLogger("venue.replay")
UNREAD_DIFFS_MAX = 4096
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What a recorded message raises that is not what its type says. It is played all the same: readers count it."""


class ReplayMarket(QueuedMarket):
    """Implements `stages.venue.markets.market.Market`.

    `is_synchronised` is False until the first snapshot has been played, and again after a gap in the recorded
    ids until the next one: while a snapshot is still to come, depth requests wait for it (replay rule (a)).
    """

    def __init__(self, item: Instrument, snapshot_count: int) -> None:
        super().__init__(item)
        self.is_synchronised = False
        self._snapshots_ahead = snapshot_count
        self._last_update_id = 0
        self._played_update_id = 0
        self._unread: list[Record] = []
        self._last_trade: bytes = b""
        self._waiting: list[asyncio.Future[Record]] = []
        self._requested = asyncio.Event()

    @property
    def last_price(self) -> int:
        try:
            return fixed.parse(json.loads(self._last_trade)["p"]) if self._last_trade else 0
        except _UNREADABLE:
            return 0

    def takeable(self, side: Side) -> Iterator[tuple[int, int]]:
        self._bring_up_to_date()
        return super().takeable(side)

    def submit(self, order: Order, *, rest: bool) -> list[tuple[Fill, int]]:
        self._bring_up_to_date()
        return super().submit(order, rest=rest)

    async def depth(self, limit: int) -> bytes:
        if not self.is_synchronised and self._snapshots_ahead:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            self._requested.set()
            return _limited((await waiting).raw, limit)
        self._bring_up_to_date()
        bids, asks = (_levels(islice(self._model.levels(side), limit)) for side in Side)
        return f'{{"lastUpdateId":{self._last_update_id},"bids":{bids},"asks":{asks}}}'.encode()

    def play(self, record: Record) -> list[tuple[Fill, int]]:
        """Take note of a message that goes out; returns the fills of our orders that it causes."""
        if record.kind is Kind.DIFF:
            if self.is_synchronised and record.first_id > self._played_update_id + 1:
                self.is_synchronised = self._snapshots_ahead == 0
            self._played_update_id = record.last_id
            self._unread.append(record)
            if self._model.order_count or len(self._unread) > UNREAD_DIFFS_MAX:
                return self._number(self._catch_up())
        elif record.kind is Kind.TRADE:
            self._last_trade = record.data
            if self._model.order_count:
                return self._number(self._trade(record))
        return []

    def _trade(self, record: Record) -> list[Fill]:
        try:
            trade = json.loads(record.data)
            price, quantity, buyer_is_maker = fixed.parse(trade["p"]), fixed.parse(trade["q"]), trade["m"]
        except _UNREADABLE as error:
            log.warning("line %d: a trade that cannot be read: %r", record.line, error)
            return []
        return self._model.trade(price, quantity, buyer_is_maker=buyer_is_maker)

    async def hold_at(self, snapshot: Record) -> list[tuple[Fill, int]]:
        """At the line of a recorded snapshot: wait until it has been asked for, and hand it out.

        A snapshot in the middle of an unbroken stream is passed over: nobody synchronised would fetch it.
        """
        if self.is_synchronised:
            self._snapshots_ahead -= 1
            return []
        fills = self._seed(snapshot)
        while not any(not waiting.done() for waiting in self._waiting):
            self._requested.clear()
            await self._requested.wait()
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(snapshot)
        self._waiting.clear()
        self._snapshots_ahead -= 1
        self.is_synchronised = True
        return self._number(fills)

    def end(self) -> None:
        """The files are played: whoever still waits for a snapshot gets the book as it is."""
        self._snapshots_ahead = 0

    def _seed(self, snapshot: Record) -> list[Fill]:
        value = json.loads(snapshot.raw)
        try:
            bids, asks = list(_parsed(value["bids"])), list(_parsed(value["asks"]))
        except _UNREADABLE as error:
            log.warning("line %d: a snapshot that cannot be read: %r", snapshot.line, error)
            bids, asks = [], []
        fills = self._model.seed(bids, asks)
        self._last_update_id = snapshot.last_id
        self._played_update_id = max(self._played_update_id, snapshot.last_id)
        return fills + self._read_all()

    def _catch_up(self) -> list[Fill]:
        """Apply the diffs played so far; before the first snapshot they are only kept."""
        if not self._last_update_id:
            return []
        return self._read_all()

    def _bring_up_to_date(self) -> None:
        fills = self._catch_up()
        assert not fills, f"{len(fills)} fills found late: with orders resting, play() leaves nothing unread"

    def _read_all(self) -> list[Fill]:
        fills: list[Fill] = []
        for record in self._unread:
            if record.last_id > self._last_update_id:
                self._last_update_id = record.last_id
                try:
                    diff = json.loads(record.data)
                    bids, asks = list(_parsed(diff["b"])), list(_parsed(diff["a"]))
                except _UNREADABLE as error:
                    log.warning("line %d: a diff that cannot be read: %r", record.line, error)
                    continue
                fills += self._model.apply(bids, asks)
        self._unread.clear()
        return fills


def _parsed(levels: Iterable[list[str]]) -> Iterator[tuple[int, int]]:
    for price, quantity in levels:
        yield fixed.parse(price), fixed.parse(quantity)


def _limited(raw: bytes, limit: int) -> bytes:
    """The recorded snapshot byte for byte, or its best levels when fewer were asked for."""
    value = json.loads(raw)
    if max(len(value["bids"]), len(value["asks"])) <= limit:
        return raw
    value["bids"], value["asks"] = value["bids"][:limit], value["asks"][:limit]
    return json.dumps(value, separators=(",", ":")).encode()


def _levels(levels: Iterator[tuple[int, int]]) -> str:
    return "[" + ",".join(f'["{show(price)}","{show(quantity)}"]' for price, quantity in levels) + "]"
