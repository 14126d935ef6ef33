"""What all feeds have, whatever brings their bytes: where events go, what is counted, what observers are shown.

Events are made in a private ring, `staging`, and go from there into the book's.
"""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm import ring
from shm.atomics import peek
from shm.clock import CLOCK_WORDS
from shm.control import State
from shm.counters import Counter
from shm.histogram import HISTOGRAM_BYTES
from shm.layout import record_at
from shm.segment import Segment
from stages.agent import BYTES_SLEEP_NS_MAX, Agent, Array, Hop, SegmentUse
from stages.domain.codecs import itch_frames
from stages.domain.codecs.itch import MESSAGES
from stages.domain.codecs.raw import TRUNCATED, UNKNOWN_TYPE, new_reader
from stages.domain.codecs.raw_market import SymbolTable
from stages.domain.edges import FEED_TO_BOOK, RINGS
from stages.domain.instruments import MAXIMUM_SYMBOLS
from stages.domain.messages import MARKET
from stages.domain.samples import new_samples
from stages.domain.tap import LAYOUT, TAP, Tap
from stages.feed.context import NO_DESCRIPTOR, RAW, STATE, SYNC, Context

log = logging.getLogger(__name__)

STAGING_RECORDS = 16_384
"""Room for the largest snapshot (5000 levels a side: 2500 records) and a full hold behind it.

And for an event of every symbol, with the message behind it.
"""
assert STAGING_RECORDS > MAXIMUM_SYMBOLS

_TYPES = np.frombuffer("".join(MESSAGES).encode(), np.uint8)
_TYPE_COUNTERS = tuple(Counter(f"itch_{letter}", f"ITCH messages of type {letter}", "messages") for letter in MESSAGES)


class FeedBase(Agent):
    """The cold side that feeds share. `context` lacks what is particular to one: its constructor adds that."""

    name = "feed"
    sleep_ns_max = BYTES_SLEEP_NS_MAX
    counters = (
        Counter("messages_in", "stream messages understood", "messages"),
        Counter("messages_out", "events published to the book", "events"),
        Counter("frames", "data frames that carried a stream payload, understood or not", "frames"),
        Counter("events", "events accepted for publication", "events"),
        Counter("gaps", "places where update ids did not join", "gaps"),
        Counter("resyncs", "snapshots that made a book valid again", "resyncs"),
        Counter("dropped", "messages given up: skipped as too old, or held back for too long", "messages"),
        Counter("backpressure", "events that had to wait for room in the book's ring", "events"),
        Counter("stale", "diffs ignored because the snapshot contains them", "messages"),
        Counter("held", "messages held back until their symbol's snapshot came", "messages"),
        Counter("holding", "messages held back at present", "messages", "gauge"),
        Counter("hold_overflows", "times a symbol's hold was full and started anew", "overflows"),
        Counter("snapshots", "snapshots asked for", "requests"),
        Counter("snapshots_too_old", "snapshots older than the first diff held, fetched again", "snapshots"),
        Counter("snapshot_failures", "snapshot requests that failed", "requests"),
        Counter("unrecognised", "messages that the compiled parser left to the patient one", "messages"),
        Counter("malformed", "messages that nobody could read", "messages"),
        Counter("overflowed", "messages with a number that does not fit 64 bits", "messages"),
        Counter("too_many_decimals", "messages with more decimals than a mantissa has", "messages"),
        Counter("unknown_symbol", "messages of symbols that are not traded here", "messages"),
        Counter("oversized", "messages longer than the limit", "messages"),
        Counter("other_messages", "well-formed messages that are no market events", "messages"),
        Counter("protocol_errors", "connections ended for a violation of the WebSocket protocol", "connections"),
        Counter("connects", "connections made", "connections"),
        Counter("disconnects", "connections lost", "connections"),
        Counter("datagrams", "datagrams read, of all lines and of answers to requests", "datagrams"),
        Counter("socket_drops", "datagrams that found a socket's buffer full", "datagrams"),
        Counter("duplicates", "messages that another line had brought already", "messages"),
        Counter("requests", "times that missing messages were asked for", "requests"),
        Counter("lost", "messages that were missing for too long and given up", "messages"),
        Counter("sessions", "sessions of the stream that have begun", "sessions"),
        Counter("bad_packets", "packets without a whole header, or with fewer messages than they say", "packets"),
        Counter("short_datagrams", "datagrams, or ends of them, shorter than a raw message", "datagrams"),
        Counter("unknown_types", "raw messages of a type that is not known", "messages"),
        *_TYPE_COUNTERS,
    )
    hops = (Hop("feed.queue"), Hop("feed.parse", 1_000))

    def __init__(self, symbols: int) -> None:
        self.context = Context(
            np.zeros(1, STATE),
            np.zeros(CLOCK_WORDS, np.int64),
            np.zeros(1, self.page())["counters"],
            np.zeros(symbols, SYNC),
            None,
            new_samples(),
        )
        self._staging_memory, self._staging = _new_staging()
        self.tap = Tap()
        self._has_opened = False
        self._framer = itch_frames.new_framer()
        self._counted = np.zeros(len(_TYPES), np.int64)
        state = self.context.state[0]
        state["staging"], state["tap"], state["descriptor"] = self._staging, self.tap.address, NO_DESCRIPTOR
        state["framer"] = self._framer.ctypes.data

    def _allocate_raw(self, instruments: NDArray[np.void], ids: Sequence[int] = ()) -> None:
        """What it takes to read raw messages. Raises ValueError for ids that are not as many as symbols."""
        self._raw_reader, self._raw_table = new_reader(), SymbolTable(instruments, ids)
        words = np.zeros(1, RAW)
        words["reader"], words["table"] = self._raw_reader.ctypes.data, self._raw_table.address
        self.context = self.context._replace(raw=words)

    def rehearse_every(self, interval_ns: int, *, has_twin: bool) -> None:
        self.context.state[0]["rehearsal_interval_ns"] = interval_ns

    def uses(self) -> list[SegmentUse]:
        return [SegmentUse(FEED_TO_BOOK, RINGS[FEED_TO_BOOK], True), SegmentUse(TAP, LAYOUT, True)]

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        state = self.context.state[0]
        self.tap.attach(segments[TAP])
        hops = page["hops"].ctypes.data
        state["queue_hop"], state["parse_hop"] = hops, hops + HISTOGRAM_BYTES
        output = segments[FEED_TO_BOOK].address
        state["output"] = output
        self.context = self.context._replace(counters=page["counters"], clock=clock)
        if ring.begin_writing(output) > 1:
            self._succeed(output)
        state["reader_epoch"] = peek(output + ring.READER_EPOCH)

    def _succeed(self, output: int) -> None:
        """Go on for an earlier feed of this run: what its books said is not kept up, what it counted stays."""
        state, counters = self.context.state[0], self.context.counters[0]
        state["reset_wanted"] = 1
        counters["holding"] = 0
        last = ring.newest(output)
        state["event_seq"] = record_at(last, MARKET)["seq"] if last else 0
        self._framer["problem_count"][0][itch_frames.GARBAGE] = counters["malformed"]
        if self.context.raw is not None:
            problems = self._raw_reader["problem_count"][0]
            problems[TRUNCATED], problems[UNKNOWN_TYPE] = counters["short_datagrams"], counters["unknown_types"]
        if self.context.directory is not None:
            log.error("going on for an earlier feed, which no snapshot makes up for: all books are stale until the "
                      "session ends")  # fmt: skip

    def state(self) -> State:
        if self.context.state[0]["is_quiesced"]:
            head, tail = ring.cursors(self._staging)
            return State.QUIET if head == tail else State.RUNNING
        if not self._has_opened:
            return State.STARTING
        return State.RUNNING if self.context.counters[0]["frames"] else State.READY

    def quiesce(self) -> None:
        self.context.state[0]["is_quiesced"] = 1

    def service(self, now_ns: int) -> None:
        self.context.state[0]["was_served"] = 1
        self.tap.look()
        self._count_types()

    def _count_types(self) -> None:
        """ITCH messages by type, as the framer has counted them in this process."""
        counts = self._framer["count"][0][_TYPES]
        for index in np.flatnonzero(counts != self._counted):
            self.context.counters[0][_TYPE_COUNTERS[index].name] += counts[index] - self._counted[index]
        self._counted = counts

    def close(self) -> None:
        self.tap.close()

    @abstractmethod
    def use_memory(self) -> None:
        """Take bytes from memory (`offer`) instead of sockets: stepped runs, rehearsals and tests."""

    @abstractmethod
    def open_rehearsal(self) -> list[tuple[int, int]]:
        """Make the first symbol's book, and offer the canned message that changes it.

        Returns the words (address, value) by which that message is offered again.
        """


def _new_staging() -> tuple[NDArray[Any], int]:
    """(memory, address) of the private ring."""
    memory = np.zeros(ring.ring_bytes(STAGING_RECORDS, MARKET.itemsize) // 8 + 16, np.int64)
    base = -(-memory.ctypes.data // 128) * 128
    ring.format_ring(base, STAGING_RECORDS, MARKET.itemsize)
    return memory, base
