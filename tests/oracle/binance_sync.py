"""Binance's book synchronisation as its documentation tells it (binance.md 1.5), for one symbol."""

from dataclasses import dataclass, field

from tests.oracle.orderbook import NaiveBook


@dataclass(frozen=True)
class Diff:
    first: int
    last: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


@dataclass
class NaiveSync:
    """Buffers diffs until a snapshot fits, then applies; on a gap it starts over."""

    book: NaiveBook = field(default_factory=NaiveBook)
    book_id: int | None = None
    buffer: list[Diff] = field(default_factory=list)
    gaps: int = 0
    stale: int = 0

    def on_diff(self, diff: Diff) -> None:
        if self.book_id is None:
            self.buffer.append(diff)
        else:
            self._take([diff])

    def on_snapshot(self, last: int, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> bool:
        """False when the snapshot is older than what is buffered (or not wanted): fetch again."""
        if self.book_id is not None or (self.buffer and last < self.buffer[0].first - 1):
            return False
        self.book.clear()
        for price, quantity in bids:
            self.book.set_bid(price, quantity)
        for price, quantity in asks:
            self.book.set_ask(price, quantity)
        self.book_id = last
        buffer, self.buffer = self.buffer, []
        self._take(buffer)
        return True

    def _take(self, diffs: list[Diff]) -> None:
        for number, diff in enumerate(diffs):
            assert self.book_id is not None
            if diff.last <= self.book_id:
                self.stale += 1
            elif diff.first > self.book_id + 1:
                self.gaps += 1
                self.book.clear()
                self.book_id, self.buffer = None, diffs[number:]
                return
            else:
                self._apply(diff)

    def _apply(self, diff: Diff) -> None:
        for price, quantity in diff.bids:
            self.book.set_bid(price, quantity)
        for price, quantity in diff.asks:
            self.book.set_ask(price, quantity)
        self.book_id = diff.last
