"""The feed stage of lines of datagrams, its cold side: sockets, requests, what is counted and said."""

import logging
import socket
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from shm.layout import word_of
from shm.segment import Segment
from stages.agent import AgentError, Array, Attention
from stages.domain.codecs.arbitration import Arbiter
from stages.domain.codecs.itch_market import Directory
from stages.domain.lines import LineError, open_receiver, open_sender, parse_address
from stages.feed.base import FeedBase
from stages.feed.context import LINES, MEMORY_SOURCE, PACKETS
from stages.feed.lines.datagrams import DATAGRAM_BYTES_MAX, LINE_SHIFT
from stages.feed.lines.requests import RequestDesk
from stages.feed.lines.watch import LineWatch
from stages.feed.rehearsed import rehearsed_packets
from stages.feed.settings import FeedSettings

log = logging.getLogger(__name__)

GUARD_BYTES = 64
"""Before and behind the buffer: kernels load whole words."""


class LinesAgent(FeedBase):
    """Takes market data from lines of datagrams and hands it to the book, in order.

    instruments   INSTRUMENT array; a symbol's index in it is its index everywhere
    settings      `source` says what the datagrams are: MoldUDP64 packets of ITCH messages, or raw messages
    """

    def __init__(self, instruments: NDArray[np.void], settings: FeedSettings) -> None:
        self._settings = settings
        self._names = [bytes(name).decode("ascii") for name in instruments["symbol"]]
        self._sockets: list[socket.socket] = []
        self._watch: LineWatch | None = None
        self._requests: RequestDesk | None = None
        self._before = dict.fromkeys(("socket_drops", "duplicates", "sessions", "bad_packets"), 0)
        self._is_started = self._told_end = False
        self._told_lost = self._lost_before = self._told_sessions = self._told_broken_off = 0
        self.arbiter: Arbiter | None = None
        super().__init__(len(instruments))
        self._allocate()
        if settings.source == "itch":
            self._allocate_packets(instruments)
        else:
            self._allocate_raw(instruments, settings.symbol_ids)

    def _allocate(self) -> None:
        """All private memory; the kernel sees it by address."""
        self.context = self.context._replace(lines=np.zeros(1, LINES))
        self._buffer = np.zeros(DATAGRAM_BYTES_MAX + 2 * GUARD_BYTES, np.uint8)
        self.context.state[0]["buffer"] = self._buffer.ctypes.data + GUARD_BYTES

    def _allocate_packets(self, instruments: NDArray[np.void]) -> None:
        settings, state = self._settings, self.context.state[0]
        words = np.zeros(1, PACKETS)
        packets = words[0]
        self.arbiter = Arbiter(settings.gap_window_messages, settings.first_sequence)
        self._directory = Directory(instruments)
        self.context = self.context._replace(directory=self._directory.address, packets=words)
        packets["arbiter"], packets["is_joining"] = self.arbiter.address, settings.first_sequence == 0
        packets["patience_ns"] = round(settings.gap_timeout_ms * 1e6)
        packets["request_interval_ns"] = round(settings.request_interval_ms * 1e6) if settings.request_server else 0
        self._rehearsed = rehearsed_packets(self._names[0])
        self._rehearsal = np.frombuffer(self._rehearsed.message.ljust(GUARD_BYTES), np.uint8).copy()
        state["rehearsal_at"], state["rehearsal_bytes"] = self._rehearsal.ctypes.data, len(self._rehearsed.message)

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        super().attach(segments, page, clock)
        self._lost_before = int(self.context.counters[0]["lost"])

    def _succeed(self, output: int) -> None:
        super()._succeed(output)
        packets, counters = self.context.packets, self.context.counters[0]
        self._before = {name: int(counters[name]) for name in self._before}
        # The session that is found is likely the one that was being read: what it has sent was not lost but read, and
        # to read it again would mend no book. Every book is told to be stale already.
        self._before["sessions"] = max(0, self._before["sessions"] - 1)
        if packets is not None:
            packets[0]["is_stale"], packets[0]["is_joining"] = 1, 0
        if self.arbiter is not None:
            self.arbiter.words["expected"] = self.arbiter.words["known_end"] = 0

    def start(self, attention: Attention) -> None:
        self._is_started = True

    def _open(self) -> None:
        """Open the lines. Raises AgentError for one that cannot be opened."""
        settings, lines = self._settings, self.context.lines
        assert lines is not None
        try:
            for text in settings.lines:
                sock, findings = open_receiver(parse_address(text), settings.socket_buffer_bytes)
                self._sockets.append(sock)
                for finding in findings:
                    log.info("line %s: socket option %s", text, finding)
            if settings.request_server and self.arbiter is not None:
                server = open_sender(parse_address(settings.request_server), settings.socket_buffer_bytes)
                self._sockets.append(server)
                self._requests = RequestDesk(self.arbiter, server, settings.request_server)
        except LineError as error:
            self.close()
            raise AgentError(str(error)) from None
        lines[0]["descriptors"][: len(self._sockets)] = [sock.fileno() for sock in self._sockets]
        lines[0]["count"] = len(self._sockets)
        self._watch, self._has_opened = LineWatch(settings.lines, self._sockets), True
        self.context.counters[0]["connects"] += len(settings.lines)
        log.info("receiving from %s", " and ".join(settings.lines))

    def close(self) -> None:
        super().close()
        for sock in self._sockets:
            with suppress(OSError):
                sock.close()
        self._sockets.clear()

    def service(self, now_ns: int) -> None:
        super().service(now_ns)
        if not self._is_started:
            return
        if self._watch is None:
            self._open()
        lines, packets, counters = self.context.lines, self.context.packets, self.context.counters[0]
        if self._watch is not None and lines is not None:
            self._count("socket_drops", self._watch.look(lines[0], now_ns))
        if packets is None or self.arbiter is None:
            return
        if packets[0]["is_request_wanted"]:
            packets[0]["is_request_wanted"] = 0
            if self._requests is not None and self._requests.ask():
                counters["requests"] += 1
        words = self.arbiter.words[0]
        self._count("duplicates", words["duplicates"])
        if words["sessions"]:
            self._count("sessions", words["sessions"])
        self._count("bad_packets", words["malformed"] + words["truncated"])
        self._tell(words)

    def _count(self, name: str, here: int) -> None:
        """So much in this process, besides what the ones before it have counted."""
        self.context.counters[0][name] = self._before[name] + here

    def _tell(self, words: np.void) -> None:
        """What has befallen the stream since the last look."""
        counters = self.context.counters[0]
        lost = int(counters["lost"]) - self._lost_before
        if lost > 2 * self._told_lost:  # a line that loses all the time is not worth a line of words each time
            log.error(
                "%d messages are lost (sent before we listened, missing for %g ms, or damaged): all books are stale "
                "until the session ends",
                lost, self._settings.gap_timeout_ms,
            )  # fmt: skip
            self._told_lost = lost
        if words["sessions"] != self._told_sessions:
            self._told_sessions, self._told_end = int(words["sessions"]), False
            self._lost_before, self._told_lost = int(counters["lost"]), 0
            log.info("session %s has begun, message %d is next", self.session, int(words["expected"]))
        if words["broken_off"] != self._told_broken_off:
            self._told_broken_off = int(words["broken_off"])
            log.warning("session %s began although the one before it had not ended: what still comes of that one is "
                        "ignored", self.session)  # fmt: skip
        if words["is_ended"] and words["expected"] >= words["known_end"] and not self._told_end:
            self._told_end = True
            log.info("session %s has ended with message %d", self.session, int(words["expected"]) - 1)

    @property
    def session(self) -> str:
        """The name of the session that is being read."""
        assert self.arbiter is not None
        return self.arbiter.session.decode("ascii", "replace").strip()

    # Memory in place of sockets: stepped runs, rehearsals and tests

    def use_memory(self) -> None:
        self.context.state[0]["descriptor"] = MEMORY_SOURCE
        self._source = np.zeros(0, np.int64)

    def offer(self, datagram: bytes, line: int = 0) -> int:
        """Append a datagram to the memory source; returns the bytes that it takes there."""
        state = self.context.state[0]
        unread = self._source[(int(state["source_at"]) - self._source.ctypes.data) // 8 if len(self._source) else 0 :]
        content = (len(datagram) | line << LINE_SHIFT).to_bytes(8, "little") + datagram
        added = np.frombuffer(content.ljust(-(-len(content) // 8) * 8, b"\0"), np.int64)
        self._source = np.concatenate([unread, added])
        state["source_at"] = self._source.ctypes.data
        state["source_end"] = state["source_at"] + self._source.nbytes
        return added.nbytes

    def open_rehearsal(self) -> list[tuple[int, int]]:
        self.use_memory()
        if self.arbiter is None:
            return []
        size = 0
        for packet in self._rehearsed.packets:
            size = self.offer(packet)
        words, sequence = self.arbiter.words, self._rehearsed.sequence
        return [
            word_of(self.context.state, "source_at", int(self.context.state["source_end"][0]) - size),
            *(word_of(words, name, sequence) for name in ("expected", "known_end")),
        ]
