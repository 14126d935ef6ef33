"""Feed and book turned by hand, in one thread, over private memory: no process, no socket, no shared segment."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from pipeline.line.stepped import SteppedLine, frame, memory_segment, pop, small_ring
from shm import ring
from shm.kernel import kernel
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE
from stages.domain.instruments import INSTRUMENT
from stages.domain.messages import NOTICE
from stages.domain.tap import TAP, FrameReader
from stages.feed.settings import FeedSettings

__all__ = ["Stepped", "diff", "frame", "instruments", "memory_segment", "observed", "popped", "push", "small_ring",
           "snapshot"]  # fmt: skip


def instruments(*symbols: str) -> np.ndarray:
    """A table of `symbols` on Binance's BTCUSDT grid: ticks of 0.01, lots of 0.00001."""
    table = np.zeros(len(symbols), INSTRUMENT)
    table["symbol"] = [symbol.encode() for symbol in symbols]
    table["tick"], table["lot"] = 1_000_000, 1_000
    table["price_exponent"] = table["quantity_exponent"] = -8
    return table


@kernel
def push(base: int, record: int) -> bool:
    return ring.try_push(base, record)


def popped(segment: Any, dtype: np.dtype, limit: int = 1 << 30) -> np.ndarray:
    """Take up to `limit` records off a ring."""
    found = []
    scratch = np.zeros(1, dtype)
    while len(found) < limit and pop(segment.address, scratch.ctypes.data):
        found.append(scratch[0].copy())
    return np.array(found, dtype)


class _Somebody:
    def is_observed(self) -> bool:
        return True


def observed(line: SteppedLine) -> FrameReader:
    """What the feed of `line` shows from now on."""
    line.feed.tap.watch = _Somebody()
    line.feed.tap.look()
    return FrameReader(line.segments[TAP].address)


class Stepped(SteppedLine):
    """A feed and a book between memory and memory. `step` turns the crank once."""

    def __init__(
        self,
        *symbols: str,
        delivery: str = "every",
        feed_ring: int | None = None,
        notice_ring: int | None = None,
        book: BookSettings | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            instruments(*(symbols or ("BTCUSDT",))),
            delivery=delivery,
            feed_ring=feed_ring,
            notice_ring=notice_ring,
            feed=FeedSettings(**settings),
            book=book,
        )

    def run(self, limit: int = 20_000) -> None:
        """Until nothing moves any more; fails the test when that never happens."""
        idle = 0
        for _ in range(limit):
            moved = [self.step_feed(), self.step_book()]
            self.drain_notices()
            idle = 0 if any(moved) else idle + 1
            if idle == 4:
                return
        raise AssertionError(f"still moving after {limit} steps")

    def drain_notices(self) -> None:
        segment = self.segments[BOOK_TO_STRATEGY]
        while pop(segment.address, _scratch.ctypes.data):
            self.on_notice(_scratch[0])

    def on_notice(self, notice: np.void) -> None:
        """Overridden by who looks at notices."""

    def bbo(self, symbol: int = 0) -> np.void:
        return self.row(BBO_TABLE, symbol)[1]

    def depth(self, symbol: int = 0) -> np.void:
        return self.row(DEPTH_TABLE, symbol)[1]


_scratch = np.zeros(1, NOTICE)


def levels(pairs: Iterable[tuple[str, str]]) -> str:
    return "[" + ",".join(f'["{price}","{quantity}"]' for price, quantity in pairs) + "]"


def diff(
    first: int,
    last: int,
    bids: Iterable[tuple[str, str]] = (),
    asks: Iterable[tuple[str, str]] = (),
    symbol: str = "BTCUSDT",
) -> bytes:
    return (
        f'{{"stream":"{symbol.lower()}@depth@100ms","data":{{"e":"depthUpdate","E":1723161255208,"s":"{symbol}",'
        f'"U":{first},"u":{last},"b":{levels(bids)},"a":{levels(asks)}}}}}'
    ).encode()


def ticker(last: int, bid: tuple[str, str], ask: tuple[str, str], symbol: str = "BTCUSDT") -> bytes:
    return (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{last},"s":"{symbol}","b":"{bid[0]}","B":"{bid[1]}",'
        f'"a":"{ask[0]}","A":"{ask[1]}"}}}}'
    ).encode()


def trade(
    trade_id: int, price: str, quantity: str, *, seller: bool = True, symbol: str = "BTCUSDT", kind: str = "trade"
) -> bytes:
    key = "t" if kind == "trade" else "a"
    return (
        f'{{"stream":"{symbol.lower()}@{kind}","data":{{"e":"{kind}","E":1723161255343,"s":"{symbol}",'
        f'"{key}":{trade_id},"p":"{price}","q":"{quantity}","T":1723161255342,'
        f'"m":{"true" if seller else "false"},"M":true}}}}'
    ).encode()


def snapshot(last: int, bids: Iterable[tuple[str, str]], asks: Iterable[tuple[str, str]]) -> bytes:
    return f'{{"lastUpdateId":{last},"bids":{levels(bids)},"asks":{levels(asks)}}}'.encode()
