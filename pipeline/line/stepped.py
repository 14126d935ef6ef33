"""Feed and book turned by hand, in one thread, over private memory: no process, no socket, no shared segment.

The same agents and kernels as in a line, on a clock that stands still. `step_feed` and `step_book` turn the crank
once; `play` turns it in compiled code, frame by frame, as long as nothing happens that somebody may want to know of.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm import ring, seqlock
from shm.atomics import load_word
from shm.clock import calibrate
from shm.kernel import kernel, routine
from shm.segment import Layout, ring_layout
from stages.agent import Agent, Poll
from stages.book.agent import BookAgent
from stages.book.context import Context as BookContext
from stages.book.kernel import poll as poll_book
from stages.book.kernel import poll_once as poll_book_once
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, FEED_TO_BOOK, edges
from stages.domain.messages import BBO, DEPTH, MARKET, NOTICE
from stages.feed.agent import FeedAgent
from stages.feed.context import Context as FeedContext
from stages.feed.context import Format
from stages.feed.kernel import poll as poll_feed
from stages.feed.kernel import poll_once as poll_feed_once
from stages.feed.settings import FeedSettings

SERVICE = int(Poll.SERVICE)
NEVER_NS = 2**62

PLAYED, NEEDS_SERVICE, MISMATCH, BEYOND, NOTED = 0, 1, 2, 3, 4
"""Why `play` came back: all frames are played; the feed's cold side is wanted; the book differs from the ticker, or
cannot be compared with it, and the notice says how; a counter of `watched` moved. Only after the last is the frame
done with."""

_CLOCK: list[NDArray[np.int64]] = []


def _clock() -> NDArray[np.int64]:
    if not _CLOCK:
        _CLOCK.append(calibrate(0.02))
    return _CLOCK[0]


@dataclass
class MemorySegment:
    """What agents use of a segment, in private memory."""

    memory: NDArray[np.int64]
    address: int


def memory_segment(layout: Layout) -> MemorySegment:
    """A fresh, formatted one."""
    memory = np.zeros(layout.payload_bytes // 8 + 16, np.int64)
    address = -(-memory.ctypes.data // 128) * 128
    layout.format(address)
    return MemorySegment(memory, address)


def small_ring(dtype: np.dtype, capacity: int) -> MemorySegment:
    """A ring in private memory."""
    return memory_segment(ring_layout(dtype, capacity))


@kernel
def pop(base: int, record: int) -> bool:
    """Take a record off a ring."""
    return ring.try_pop(base, record)


@kernel
def _read_row(row: int, target: int, size: int) -> int:
    return seqlock.read(row, target, size)


@routine
def watched(feed: FeedContext) -> int:
    """Sum of the counters whose every change is worth a look at its cause."""
    counters = feed.counters[0]
    return (
        counters["gaps"]
        + counters["malformed"]
        + counters["overflowed"]
        + counters["too_many_decimals"]
        + counters["unknown_symbol"]
        + counters["oversized"]
        + counters["other_messages"]
        + counters["dropped"]
    )


@routine
def _settle(feed: FeedContext, book: BookContext, notices: int, notice: int) -> int:
    """Turn the crank until nothing moves. The ring of notices has one slot, so each is seen."""
    while True:
        mismatches, beyond = book.counters[0]["bbo_mismatches"], book.counters[0]["bbo_beyond_snapshot"]
        handled = poll_feed(feed, 0)
        moved = poll_book(book, 0)
        popped = ring.try_pop(notices, notice)
        if book.counters[0]["bbo_mismatches"] != mismatches:
            return MISMATCH
        if book.counters[0]["bbo_beyond_snapshot"] != beyond:
            return BEYOND
        if handled == SERVICE:
            return NEEDS_SERVICE
        if handled == 0 and moved == 0 and not popped:
            return PLAYED


@kernel
def play_frames(
    feed: FeedContext, book: BookContext, ends: int, begin: int, count: int, notices: int, notice: int
) -> tuple[int, int]:
    """(frame, why) after playing frames `begin` to `count` - 1, whose ends are addresses in the array at `ends`."""
    state = feed.state[0]
    before = watched(feed)
    for frame in range(begin, count):
        state["source_end"] = load_word(ends + 8 * frame)
        code = _settle(feed, book, notices, notice)
        if code != PLAYED:
            return frame, code
        if watched(feed) != before:
            return frame, NOTED
    return count, PLAYED


class SteppedLine:
    """A feed and a book of `instruments` between memory and memory, with every event delivered by default."""

    def __init__(
        self,
        instruments: NDArray[np.void],
        *,
        delivery: str = "every",
        feed_ring: int | None = None,
        notice_ring: int | None = None,
        feed: FeedSettings | None = None,
        book: BookSettings | None = None,
        stream_format: Format = Format.BINANCE,
    ) -> None:
        self.symbols = len(instruments)
        self.segments = {name: memory_segment(layout) for name, layout in edges(self.symbols).items()}
        if feed_ring:
            self.segments[FEED_TO_BOOK] = small_ring(MARKET, feed_ring)
        if notice_ring:
            self.segments[BOOK_TO_STRATEGY] = small_ring(NOTICE, notice_ring)
        self.feed = self._new_feed(instruments, feed or FeedSettings(), delivery, stream_format)
        of_orders = stream_format is Format.ITCH
        self.book = BookAgent(instruments, book or BookSettings(), delivery, of_orders=of_orders)
        self.pages: dict[str, NDArray[Any]] = {}
        for agent in (self.feed, self.book):
            self._attach(agent)
        self.feed.use_memory()
        self.now_ns = 0
        self.services = 0
        self.notice = np.zeros(1, NOTICE)

    def _new_feed(
        self, instruments: NDArray[np.void], settings: FeedSettings, delivery: str, stream_format: Format
    ) -> FeedAgent:
        nowhere = "ws://127.0.0.1:1", "http://127.0.0.1:1"
        return FeedAgent(instruments, settings, *nowhere, delivery, stream_format=stream_format)

    def _attach(self, agent: Agent) -> None:
        page = self.pages.setdefault(agent.name, np.zeros(1, agent.page()))  # which outlives the agent
        agent.attach(self.segments, page, _clock())  # type: ignore[arg-type]  # the part of a segment that agents use

    def counters(self, stage: str) -> np.void:
        """The counters of feed or book."""
        return self.pages[stage]["counters"][0]

    def step_feed(self) -> int:
        """One poll of the feed, and its cold side when it asks for it."""
        handled = int(poll_feed_once(self.feed.context, self.now_ns))
        if handled == Poll.SERVICE:
            self.serve()
        return handled

    def step_book(self) -> int:
        """One poll of the book."""
        return int(poll_book_once(self.book.context, self.now_ns))

    def serve(self) -> None:
        """The feed's cold side. It may be wanted again at once: there are no other agents here to wait for."""
        self.services += 1
        self.feed.service(self.now_ns)
        self.feed.context.state[0]["was_served"] = 0

    def rest(self) -> None:
        """No rehearsals: nothing here waits for a tick."""
        for agent in (self.feed, self.book):
            agent.context.state[0]["next_rehearsal_ns"] = NEVER_NS

    def play(self, ends: NDArray[np.int64], begin: int) -> tuple[int, int]:
        """(frame, why): see `play_frames`. The frames' bytes have been offered; the ring of notices has one slot."""
        frame, why = play_frames(
            self.feed.context, self.book.context, ends.ctypes.data, begin, len(ends),
            self.segments[BOOK_TO_STRATEGY].address, self.notice.ctypes.data,
        )  # fmt: skip
        return int(frame), int(why)

    def row(self, table: str, symbol: int = 0) -> tuple[int, np.void]:
        """(version, newest value) of a seqlock row."""
        dtype = BBO if table == BBO_TABLE else DEPTH
        target = np.zeros(1, dtype)
        row = self.segments[table].address + symbol * seqlock.row_bytes(dtype.itemsize)
        return int(_read_row(row, target.ctypes.data, dtype.itemsize)), target[0]


def frame(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """One unmasked WebSocket frame, as a server sends it."""
    head = bytes([(0x80 if final else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + len(payload).to_bytes(2, "big") + payload
    return head + b"\x7f" + len(payload).to_bytes(8, "big") + payload
