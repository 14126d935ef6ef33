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
GAP_PATIENCE_S = 10.0
"""How long play holds for a reader to ask for a snapshot after a gap: one that cannot read the diff which shows it, or
keeps no book, never asks."""
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What a recorded message raises that is not what its type says. It is played all the same: readers count it."""


class ReplayMarket(QueuedMarket):
    """Implements `stages.venue.markets.market.Market`.

    `is_synchronised` says whether a reader that has fetched what there was to fetch has a book: not until the first
    snapshot has been played, and not after a gap in the recorded ids. Depth requests then wait for the next snapshot
    that fits what a reader holds back by then, or, when none is to come, get the replayed book as it is behind the gap
    (replay rule (a)). Either way play holds there until it has been asked for, so that what a reader gets does not
    depend on when it asks.
    """

    def __init__(self, item: Instrument, snapshot_count: int) -> None:
        super().__init__(item)
        self.is_synchronised = False
        self._snapshots_ahead = snapshot_count
        self._has_ended = False
        self._last_update_id = 0
        self._played_update_id = 0
        self._unread: list[Record] = []  # not synchronised, with snapshots ahead: the diffs that a reader holds back
        self._spare: Record | None = None  # the newest snapshot passed over, until a gap shows whether it is of use
        self._last_trade: bytes = b""
        self._waiting: list[tuple[int, asyncio.Future[bytes]]] = []
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
        if not self.is_synchronised and not self._has_ended:
            waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.append((limit, waiting))
            self._requested.set()
            return await waiting
        return self._book(limit)

    def _book(self, limit: int) -> bytes:
        """The replayed book as a depth reply."""
        self._bring_up_to_date()
        bids, asks = (_levels(islice(self._model.levels(side), limit)) for side in Side)
        return f'{{"lastUpdateId":{self._last_update_id},"bids":{bids},"asks":{asks}}}'.encode()

    def play(self, record: Record) -> list[tuple[Fill, int]]:
        """Take note of a message that goes out; returns the fills of our orders that it causes."""
        if record.kind is Kind.DIFF:
            if self.is_synchronised and record.first_id > self._played_update_id + 1:
                self._bring_up_to_date()
                self.is_synchronised = False
                self._warn_of_gap(self._played_update_id, record)
                if self._spare is not None and record.first_id > self._spare.last_id + 1:
                    self._spare = None
            self._played_update_id = max(self._played_update_id, record.last_id)
            self._unread.append(record)
            if self._model.order_count or len(self._unread) > UNREAD_DIFFS_MAX:
                return self._number(self._catch_up())
        elif record.kind is Kind.TRADE:
            self._last_trade = record.data
            if self._model.order_count:
                return self._number(self._trade(record))
        return []

    def _warn_of_gap(self, update_id: int, record: Record) -> None:
        log.warning("line %d: %s: update ids %d to %d are missing", record.line, self.instrument.symbol,
                    update_id + 1, record.first_id - 1)  # fmt: skip

    def _trade(self, record: Record) -> list[Fill]:
        try:
            trade = json.loads(record.data)
            price, quantity, buyer_is_maker = fixed.parse(trade["p"]), fixed.parse(trade["q"]), trade["m"]
        except _UNREADABLE as error:
            log.warning("line %d: a trade that cannot be read: %r", record.line, error)
            return []
        return self._model.trade(price, quantity, buyer_is_maker=buyer_is_maker)

    @property
    def holds_at_gap(self) -> bool:
        """After a gap, when the snapshot that was passed over last fits the diff behind it, or none is to come."""
        return not self.is_synchronised and (self._spare is not None or not self._snapshots_ahead)

    async def hold_at(self, snapshot: Record) -> list[tuple[Fill, int]]:
        """At the line of a recorded snapshot: wait until it has been asked for, and hand it out.

        A snapshot in the middle of an unbroken stream is passed over: nobody synchronised would fetch it, before the
        diff that shows a gap. So is one that is of no use to a reader: it would ask again at once, and what it then got
        would depend on when.
        """
        self._snapshots_ahead -= 1
        if self.is_synchronised:
            self._spare = snapshot
            return []
        return await self._offer(snapshot)

    async def hold_at_gap(self) -> list[tuple[Fill, int]]:
        """Right behind a gap: wait until a snapshot has been asked for, and hand it out, or else the book."""
        if self._spare is not None:
            spare, self._spare = self._spare, None
            return await self._offer(spare)
        await self._hand_out(None, GAP_PATIENCE_S)
        self.is_synchronised = True
        return []

    async def _offer(self, snapshot: Record) -> list[tuple[Fill, int]]:
        """Begin anew from a snapshot, and hand it out if it is of use for the diffs that a reader holds back."""
        is_first = not self._last_update_id
        seeded = self._seed(snapshot)
        joined = 0 if seeded is None else self._count_joined(snapshot.last_id)
        is_usable = seeded is not None and (joined > 0 or not self._unread)
        fills = (seeded or []) + self._read(joined)
        has_gap = len(self._unread) > 0
        if not is_usable:
            log.warning("line %d: %s: the snapshot of %d is of no use for the diffs before it", snapshot.line,
                        self.instrument.symbol, snapshot.last_id)  # fmt: skip
            return self._number(fills + self._catch_up())
        if has_gap:
            self._warn_of_gap(self._last_update_id, self._unread[0])
        fills += self._catch_up()
        await self._hand_out(snapshot, None if is_first else GAP_PATIENCE_S)
        self.is_synchronised = not has_gap
        return self._number(fills)

    async def _hand_out(self, snapshot: Record | None, patience_s: float | None) -> None:
        """Answer the depth requests that wait, at least one, with the snapshot or the replayed book."""
        try:
            async with asyncio.timeout(patience_s):
                while all(waiting.done() for _, waiting in self._waiting):
                    self._requested.clear()
                    await self._requested.wait()
        except TimeoutError:
            log.warning("%s: nobody asked for a snapshot within %d s of a gap", self.instrument.symbol, patience_s)
        self._answer(snapshot)

    def _answer(self, snapshot: Record | None) -> None:
        for limit, waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(self._book(limit) if snapshot is None else _limited(snapshot.raw, limit))
        self._waiting.clear()

    def end(self) -> None:
        """The files are played: whoever still waits for a snapshot gets the book as it is."""
        self._has_ended = True
        self._answer(None)

    def _seed(self, snapshot: Record) -> list[Fill] | None:
        """Begin anew from a snapshot, unless the book is ahead of it. None when it cannot be read."""
        value = json.loads(snapshot.raw)
        try:
            bids, asks = list(_parsed(value["bids"])), list(_parsed(value["asks"]))
        except _UNREADABLE as error:
            log.warning("line %d: a snapshot that cannot be read: %r", snapshot.line, error)
            return None
        if snapshot.last_id <= self._last_update_id:
            return []
        self._last_update_id = snapshot.last_id
        self._played_update_id = max(self._played_update_id, snapshot.last_id)
        return self._model.seed(bids, asks)

    def _count_joined(self, update_id: int) -> int:
        """How many of the unread diffs join `update_id` and one another, or are older."""
        for count, record in enumerate(self._unread):
            if record.first_id > update_id + 1:
                return count
            update_id = max(update_id, record.last_id)
        return len(self._unread)

    def _catch_up(self) -> list[Fill]:
        """Apply the diffs played so far; while they wait for a snapshot they are only kept."""
        if not self.is_synchronised and self._snapshots_ahead:
            return []
        return self._read(len(self._unread))

    def _bring_up_to_date(self) -> None:
        fills = self._catch_up()
        assert not fills, f"{len(fills)} fills found late: with orders resting, play() leaves nothing unread"

    def _read(self, count: int) -> list[Fill]:
        """Apply the oldest `count` unread diffs."""
        fills: list[Fill] = []
        for record in self._unread[:count]:
            if record.last_id > self._last_update_id:
                self._last_update_id = record.last_id
                try:
                    diff = json.loads(record.data)
                    bids, asks = list(_parsed(diff["b"])), list(_parsed(diff["a"]))
                except _UNREADABLE as error:
                    log.warning("line %d: a diff that cannot be read: %r", record.line, error)
                    continue
                fills += self._model.apply(bids, asks)
        del self._unread[:count]
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
