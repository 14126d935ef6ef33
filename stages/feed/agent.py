"""The feed stage's cold side: connecting, control frames, snapshots, messages that need patience."""

import ctypes
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.layout import word_of
from shm.segment import Segment
from stages.agent import Array, Attention
from stages.domain.codecs import websocket_frames
from stages.domain.codecs.itch_market import Directory
from stages.domain.messages import MARKET
from stages.feed.base import STAGING_RECORDS, FeedBase
from stages.feed.context import (
    END_OF_STREAM,
    MEMORY_SOURCE,
    MESSAGE,
    NO_DESCRIPTOR,
    NO_SYMBOL,
    SYNCED,
    Format,
)
from stages.feed.rehearsed import Rehearsed, rehearsed
from stages.feed.settings import FeedSettings
from stages.feed.streams.connection import Connection, connect
from stages.feed.streams.guarded import Guarded
from stages.feed.streams.refused import RefusedMessages
from stages.feed.streams.snapshot_desk import SnapshotDesk
from stages.feed.streams.snapshots import Backoff
from stages.helper import Helper, Result

log = logging.getLogger(__name__)

STABLE_NS = 30_000_000_000
"""A connection that has stood this long was a good one: the next reconnect starts with the shortest pause."""

HELD_BYTES_MAX = 1 << 30
"""What a replay holds back at most, of all symbols, while it waits for snapshots."""

_STREAM_OF_BLOCKS = {Format.ITCH: "itch", Format.RAW: "raw"}
"""What the paper exchange calls its streams of binary messages."""

_CHANNELS = {"depth": "depth@100ms", "trade": "trade", "bookTicker": "bookTicker", "aggTrade": "aggTrade"}


class FeedAgent(FeedBase):
    """Takes market data from the venue and hands it to the book, in order, with nothing half.

    instruments   INSTRUMENT array; a symbol's index in it is its index everywhere
    stream_url    ws://host:port of the market streams, without path
    rest_url      http://host:port of the REST interface, without path
    delivery      "conflate": live, what gets too old is skipped; "every": a replay, nothing is skipped or times out
    stream_format what the stream carries; of binary messages nothing is ever skipped, for no snapshot would mend it
    helper_cpus   where the helper thread runs
    """

    def __init__(
        self,
        instruments: NDArray[np.void],
        settings: FeedSettings,
        stream_url: str,
        rest_url: str,
        delivery: str,
        helper_cpus: tuple[int, ...] = (),
        stream_format: Format = Format.BINANCE,
    ) -> None:
        if delivery not in ("conflate", "every"):
            raise ValueError(f"delivery={delivery!r} must be conflate or every")
        self._settings = settings
        self._names = [bytes(name).decode() for name in instruments["symbol"]]
        streams = [f"{name.lower()}@{_CHANNELS[stream]}" for name in self._names for stream in settings.streams]
        if stream_format is not Format.BINANCE:
            streams = [_STREAM_OF_BLOCKS[stream_format]]
        self._url = f"{stream_url}/stream?streams=" + "/".join(streams)
        self._format, self._helper_cpus = stream_format, helper_cpus
        self._must_deliver = delivery == "every" or stream_format is not Format.BINANCE
        self._connection: Connection | None = None
        self._connected_ns = 0
        self._is_connecting = False
        self._reconnect = Backoff(settings.reconnect_min_ms * 1_000_000, settings.reconnect_max_ms * 1_000_000)
        self._attention: Attention | None = None
        self._helpers: dict[int, Helper] = {}
        self._refused_options: set[str] = set()
        super().__init__(len(instruments))
        self._allocate(instruments)
        timeout_s = None if self._must_deliver else settings.snapshot_timeout_s
        self._snapshots = SnapshotDesk(self.context, self._names, settings, rest_url, timeout_s)
        self._refused = RefusedMessages(self.context)

    def _allocate(self, instruments: NDArray[np.void]) -> None:
        """All private memory; the kernel sees it by address."""
        settings, count = self._settings, len(instruments)
        self._symbols = np.ascontiguousarray(instruments["symbol"]).astype("S16")
        self._directory = Directory(instruments) if self._format is Format.ITCH else None
        self.context = self.context._replace(
            message=np.zeros(1, MESSAGE),
            names=self._symbols.ctypes.data if self._format is Format.BINANCE else None,
            directory=None if self._directory is None else self._directory.address,
        )
        buffer_bytes = 2 * settings.frame_bytes_max + (1 << 20)
        self._buffer = Guarded(buffer_bytes)
        self._cutter = np.zeros(websocket_frames.CUTTER_BYTES // 8, np.int64)
        state = self.context.state[0]
        state["symbol_count"] = count
        state["buffer"] = self._buffer.address
        state["buffer_end"] = state["buffer"] + buffer_bytes
        state["cutter"] = self._cutter.ctypes.data
        state["message"] = self.context.message.ctypes.data
        state["frame_bytes_max"] = settings.frame_bytes_max
        state["backlog_limit_ns"] = settings.backlog_limit_ms * 1_000_000
        state["must_deliver"] = self._must_deliver
        if self._format is Format.BINANCE:
            self._allocate_holds(settings.hold_records)
        else:
            self.context.sync["status"] = SYNCED
        if self._format is Format.RAW:
            self._allocate_raw(instruments)
        self._rehearsed: Rehearsed = rehearsed(self._format, self._names[0])
        self._rehearsal = Guarded(len(self._rehearsed.message))
        self._rehearsal.place(self._rehearsed.message)
        state["rehearsal_at"], state["rehearsal_bytes"] = self._rehearsal.address, len(self._rehearsed.message)
        self._empty_buffer()

    def _allocate_holds(self, records: int) -> None:
        """What waits for a snapshot: 0.5 MB a symbol by default. Binary messages wait for none.

        A replay holds back whatever comes until a snapshot fits, and always has room for the largest event: its holds
        are made later (`_make_room`), when memory is no longer faulted in, so that they cost what is held in them.
        """
        state, count = self.context.state[0], len(self.context.sync)
        state["releasing"] = NO_SYMBOL
        state["hold_grows"] = state["hold_is_full"] = self._must_deliver
        self._holds = [np.zeros(0, MARKET)] * count
        for symbol in range(0 if self._must_deliver else count):
            self._give_hold(symbol, records)

    def _give_hold(self, symbol: int, records: int) -> None:
        """Room for `records`; what is held goes along."""
        sync, memory = self.context.sync[symbol], np.zeros(records, MARKET)
        held = self.held(symbol)
        memory[: len(held)] = held
        self._holds[symbol] = memory
        sync["hold"], sync["hold_records"] = memory.ctypes.data, records
        sync["hold_begin"], sync["hold_end"] = 0, len(held)

    def _make_room(self) -> None:
        """Room for twice what a replay holds back of a symbol, until all that is held takes HELD_BYTES_MAX."""
        state, sync = self.context.state[0], self.context.sync
        state["hold_is_full"] = 0
        for symbol in np.flatnonzero(sync["hold_records"] - sync["hold_end"] < STAGING_RECORDS).tolist():
            held = sync["hold_end"] - sync["hold_begin"]
            if int(held.sum()) * MARKET.itemsize > HELD_BYTES_MAX:
                state["hold_grows"] = 0
                log.error(
                    "%s: no snapshot fits what has come since its last gap, and what is held back has reached %d MB: "
                    "older messages are dropped from now on", self._names[symbol], HELD_BYTES_MAX >> 20,
                )  # fmt: skip
                return
            self._give_hold(symbol, 2 * (int(held[symbol]) + STAGING_RECORDS))

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        super().attach(segments, page, clock)
        self._snapshots.context = self._refused.context = self.context

    def start(self, attention: Attention) -> None:
        self._attention = attention
        self._schedule_connect(0)

    def is_synced(self) -> bool:
        if self._format is not Format.BINANCE:
            return True  # no snapshot will come: there is nothing to wait for
        return bool((self.context.sync["status"] == SYNCED).all())

    def close(self) -> None:
        super().close()
        for helper in self._helpers.values():
            helper.close()
        if self._connection is not None:
            self._connection.close()

    def service(self, now_ns: int) -> None:
        super().service(now_ns)
        state = self.context.state[0]
        for helper in list(self._helpers.values()):
            for result in helper.results():
                self._take_result(result, now_ns)
        self._refused.take(now_ns)
        if state["control_opcode"]:
            self._answer_control()
        if self._connection is not None:
            self._write(self._connection.flush)
        if state["lost"]:
            self._disconnect(_loss(int(state["lost"])), now_ns)
        self._schedule_connect(now_ns)
        if state["hold_is_full"]:
            self._make_room()
        self._snapshots.conclude(now_ns)
        state["snapshot_wanted"] = 0  # the desk looks at every symbol
        if self._connection is not None:
            self._snapshots.request(now_ns, self._connected_ns, self._submit_snapshot)
        self._snapshots.hand_over()

    # Byte sources

    def use_memory(self) -> None:
        self.context.state[0]["descriptor"] = MEMORY_SOURCE
        self._source = np.zeros(0, np.uint8)

    def offer(self, data: bytes) -> None:
        """Append bytes, frames as a server sends them, to the memory source."""
        state = self.context.state[0]
        unread = ctypes.string_at(int(state["source_at"]), int(state["source_end"] - state["source_at"]))
        self._source = np.frombuffer(unread + data, np.uint8)
        state["source_at"] = self._source.ctypes.data
        state["source_end"] = state["source_at"] + len(self._source)

    def open_rehearsal(self) -> list[tuple[int, int]]:
        self.use_memory()
        if self._rehearsed.snapshot:
            self.offer_snapshot(0, self._rehearsed.snapshot)
        self.offer(self._rehearsed.opening)
        self.offer(self._rehearsed.frame)
        state, sync = self.context.state, self.context.sync
        start = int(state["source_end"][0]) - len(self._rehearsed.frame)
        return [word_of(state, "source_at", start), word_of(sync, "last_id", self._rehearsed.last_id)]

    def offer_snapshot(self, symbol: int, body: bytes) -> None:
        """Hand in a depth reply as if it had just been fetched: stepped runs and tests."""
        self._snapshots.offer(symbol, body)

    def held(self, symbol: int) -> NDArray[np.void]:
        """The MARKET records held back of a symbol, without a copy."""
        sync = self.context.sync[symbol]
        return self._holds[symbol][sync["hold_begin"] : sync["hold_end"]]

    def _empty_buffer(self) -> None:
        state = self.context.state[0]
        state["fill"], state["block_end"] = state["buffer"], 0
        websocket_frames.start(int(state["cutter"]), int(state["buffer"]))

    # Helper threads

    def _helper(self, number: int) -> Helper:
        """Thread 0 connects and fetches. In a replay a snapshot may take long: then each symbol's has a thread."""
        if number not in self._helpers:
            assert self._attention is not None, "start() has not run"
            self._helpers[number] = Helper(f"feed-{number}", self._attention, self._helper_cpus)
        return self._helpers[number]

    def _take_result(self, result: Result, now_ns: int) -> None:
        if result.tag != "connect":
            self._snapshots.take_result(result, now_ns)
            return
        self._is_connecting = False
        if result.error is None:
            self._adopt(result.value, now_ns)
        else:
            pause_ns = self._reconnect.fail(now_ns)
            log.warning("%s; retrying in %.2f s", result.error, pause_ns / 1e9)

    def _submit_snapshot(self, symbol: int, tag: str, job: Callable[[], Any]) -> None:
        self._helper(symbol + 1 if self._must_deliver else 0).submit(tag, job)

    # Connection

    def _schedule_connect(self, now_ns: int) -> None:
        if self._connection is not None or self._is_connecting or self._attention is None:
            return
        if self.context.state[0]["is_quiesced"] or now_ns < self._reconnect.not_before_ns:
            return
        self._is_connecting = True
        url, timeout_s = self._url, self._settings.connect_timeout_s
        self._helper(0).submit("connect", lambda: connect(url, timeout_s))

    def _adopt(self, connection: Connection, now_ns: int) -> None:
        log.info("connected to %s", connection.url)
        for finding in connection.findings:
            if finding not in self._refused_options:
                self._refused_options.add(finding)
                log.info("socket option %s", finding)
        self._connection, self._connected_ns = connection, now_ns
        self._empty_buffer()
        self.context.counters[0]["connects"] += 1
        self._has_opened = True
        self.context.state[0]["descriptor"] = connection.descriptor

    def _disconnect(self, why: str, now_ns: int) -> None:
        state, counters = self.context.state[0], self.context.counters[0]
        if state["lost"] == websocket_frames.OVERSIZED:
            counters["oversized"] += 1
        if END_OF_STREAM < state["lost"] < 0:
            counters["protocol_errors"] += 1
        state["lost"] = state["control_opcode"] = state["refused_code"] = state["canonical_bytes"] = 0
        if self._connection is None:
            return
        if now_ns - self._connected_ns >= STABLE_NS:
            self._reconnect.succeed()
        pause_ns = self._reconnect.fail(now_ns)
        log.warning("lost %s: %s; connecting again in %.2f s", self._connection.url, why, pause_ns / 1e9)
        self._connection.close()
        self._connection = None
        state["descriptor"] = NO_DESCRIPTOR
        state["reset_wanted"] = 1
        counters["disconnects"] += 1
        self._empty_buffer()

    def _answer_control(self) -> None:
        state = self.context.state[0]
        opcode = int(state["control_opcode"])
        payload = ctypes.string_at(int(state["control_at"]), int(state["control_bytes"]))
        state["control_opcode"] = 0
        if self._connection is None:
            return
        if opcode == websocket_frames.PING:
            self._write(lambda: self._send(payload, websocket_frames.PONG))
            return
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 0
        log.info("the venue closes the connection: code %d %r", code, payload[2:])
        self._write(lambda: self._send(payload, websocket_frames.CLOSE))
        state["lost"] = END_OF_STREAM

    def _send(self, payload: bytes, opcode: int) -> None:
        assert self._connection is not None
        self._connection.send(payload, opcode)

    def _write(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self.context.state[0]["lost"] = error.errno or END_OF_STREAM
            log.debug("cannot write to the venue: %s", error)


def _loss(code: int) -> str:
    """Why a connection ended, in words."""
    if code == END_OF_STREAM:
        return "the venue closed it"
    return websocket_frames.ERRORS[code] if code < 0 else f"errno {code}"
