"""Feed and book turned by hand, in one thread, over private memory: no process, no socket, no shared segment."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shm import ring, seqlock
from shm.clock import calibrate
from shm.kernel import kernel
from shm.segment import Layout, ring_layout
from stages.agent import Agent, Poll
from stages.book.agent import BookAgent
from stages.book.kernel import poll as poll_book
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE, FEED_TO_BOOK, edges
from stages.domain.instruments import INSTRUMENT
from stages.domain.messages import BBO, DEPTH, MARKET, NOTICE
from stages.feed.agent import FeedAgent
from stages.feed.kernel import poll as poll_feed
from stages.feed.settings import FeedSettings

CLOCK = calibrate(0.02)


def instruments(*symbols: str) -> np.ndarray:
    """A table of `symbols` on Binance's BTCUSDT grid: ticks of 0.01, lots of 0.00001."""
    table = np.zeros(len(symbols), INSTRUMENT)
    table["symbol"] = [symbol.encode() for symbol in symbols]
    table["tick"], table["lot"] = 1_000_000, 1_000
    table["price_exponent"] = table["quantity_exponent"] = -8
    return table


@dataclass
class MemorySegment:
    """What agents use of a segment, in private memory."""

    memory: np.ndarray
    address: int


def memory_segment(layout: Layout) -> MemorySegment:
    memory = np.zeros(layout.payload_bytes // 8 + 16, np.int64)
    address = -(-memory.ctypes.data // 128) * 128
    layout.format(address)
    return MemorySegment(memory, address)


def small_ring(dtype: np.dtype, capacity: int) -> MemorySegment:
    return memory_segment(ring_layout(dtype, capacity))


@kernel
def pop(base: int, record: int) -> bool:
    return ring.try_pop(base, record)


@kernel
def push(base: int, record: int) -> bool:
    return ring.try_push(base, record)


@kernel
def read_row(row: int, target: int, size: int) -> int:
    return seqlock.read(row, target, size)


def popped(segment: MemorySegment, dtype: np.dtype, limit: int = 1 << 30) -> np.ndarray:
    """Take up to `limit` records off a ring."""
    found = []
    scratch = np.zeros(1, dtype)
    while len(found) < limit and pop(segment.address, scratch.ctypes.data):
        found.append(scratch[0].copy())
    return np.array(found, dtype)


class Stepped:
    """A feed and a book between memory and memory. `step` turns the crank once."""

    def __init__(
        self,
        *symbols: str,
        delivery: str = "every",
        feed_ring: int | None = None,
        notice_ring: int | None = None,
        **settings: Any,
    ) -> None:
        table = instruments(*(symbols or ("BTCUSDT",)))
        self.symbols = len(table)
        self.segments = {name: memory_segment(layout) for name, layout in edges(self.symbols).items()}
        if feed_ring:
            self.segments[FEED_TO_BOOK] = small_ring(MARKET, feed_ring)
        if notice_ring:
            self.segments[BOOK_TO_STRATEGY] = small_ring(NOTICE, notice_ring)
        self.feed = FeedAgent(table, FeedSettings(**settings), "ws://127.0.0.1:1", "http://127.0.0.1:1", delivery)
        self.book = BookAgent(table, BookSettings(), delivery)
        self.pages = {}
        for agent in (self.feed, self.book):
            self._attach(agent)
        self.feed.use_memory()
        self.now_ns = 0
        self.services = 0

    def _attach(self, agent: Agent) -> None:
        page = np.zeros(1, agent.page())
        self.pages[agent.name] = page
        agent.attach(self.segments, page, CLOCK)

    def counters(self, stage: str) -> np.void:
        return self.pages[stage]["counters"][0]

    def step_feed(self) -> int:
        handled = int(poll_feed(self.feed.context, self.now_ns))
        if handled == Poll.SERVICE:
            self.services += 1
            self.feed.service(self.now_ns)
        return handled

    def step_book(self) -> int:
        return int(poll_book(self.book.context, self.now_ns))

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

    def row(self, table: str, symbol: int = 0) -> tuple[int, np.void]:
        """(version, newest value) of a seqlock row."""
        dtype = BBO if table == BBO_TABLE else DEPTH
        target = np.zeros(1, dtype)
        row = self.segments[table].address + symbol * seqlock.row_bytes(dtype.itemsize)
        return int(read_row(row, target.ctypes.data, dtype.itemsize)), target[0]

    def bbo(self, symbol: int = 0) -> np.void:
        return self.row(BBO_TABLE, symbol)[1]

    def depth(self, symbol: int = 0) -> np.void:
        return self.row(DEPTH_TABLE, symbol)[1]


_scratch = np.zeros(1, NOTICE)


def frame(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """One unmasked WebSocket frame, as a server sends it."""
    head = bytes([(0x80 if final else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + len(payload).to_bytes(2, "big") + payload
    return head + b"\x7f" + len(payload).to_bytes(8, "big") + payload


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
