"""Recording a run from outside: an observer of the feed's tap that writes captures. It cannot slow the feed.

The feed shows every frame that it has read, and every snapshot that it has used, while somebody observes. A recorder
that is there from the first frame needs nothing else; one that comes later asks the venue for a snapshot of each
symbol, which it writes behind the symbol's first diff, where a reader looks for it. (Binary feeds have no snapshots:
their books begin with the session.)
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shm.presence import Presence
from shm.segment import NAME_PREFIX, Segment, owner_of
from stages.domain.captures.datagrams import ANYWHERE, Endpoint, ip_packet
from stages.domain.captures.writer import DATAGRAMS, PACKETS, CaptureWriter
from stages.domain.lines import parse_address
from stages.domain.tap import TAP, Frame, FrameReader
from stages.feed.streams.snapshots import SnapshotError, fetch, new_pool

IDLE_S = 0.002
FLUSH_S = 1.0
"""What a crash of the recorder can cost."""
ATTENDED_S = 2.0
"""How long to wait for the feed, which looks four times a second whether somebody is here."""
SNAPSHOT_LEVELS, SNAPSHOT_TIMEOUT_S = 5_000, 10.0


def flows(lines: Sequence[str], request_server: str) -> list[tuple[Endpoint, Endpoint]]:
    """(from, to) of the datagrams of each source that a feed has: its lines, then answers to its requests."""
    found = [(ANYWHERE, _endpoint(line)) for line in lines]
    return [*found, (_endpoint(request_server), ANYWHERE)] if request_server else found


def _endpoint(text: str) -> Endpoint:
    address = parse_address(text)
    return socket.inet_aton(address.host), address.port


class Recorder:
    """Observes the tap of a run that lives. Raises SegmentError when there is none, OSError when it cannot write.

    market   where it is: rest_url, symbols; lines and request_server of a feed of datagrams
    """

    def __init__(
        self, run: str, folder: Path, rotate_bytes: int, market: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        self.run = run
        self._tap = Segment.observe(f"{NAME_PREFIX}{run}.{TAP}")
        self._presence = Presence(self._tap.name)
        self._reader = FrameReader(self._tap.address)
        self._writer = CaptureWriter(folder, run, rotate_bytes)
        self._flows = flows(market["lines"], market["request_server"])
        self._is_new = True
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self._snapshots: deque[tuple[str, bytes]] = deque()
        self._without_diff: dict[bytes, str] = {}
        self._rest_url, self._symbols, self._say = market["rest_url"], list(market["symbols"]), say

    def wait_attended(self, is_over: Callable[[], bool]) -> bool:
        """Until the feed shows its frames, or `is_over`, or for ATTENDED_S: True when it does."""
        end_s = time.monotonic() + ATTENDED_S
        while not (is_attended := self._reader.is_attended()) and not is_over() and time.monotonic() < end_s:
            time.sleep(IDLE_S)
        return is_attended

    def record(self, is_over: Callable[[], bool]) -> None:
        """Until `is_over` or the run's end; then write the rest. Raises OSError."""
        flushed_s = looked_s = time.monotonic()
        while True:
            last = is_over() or not self._run_lives_since(looked_s)
            while self._turn():
                pass
            now_s = time.monotonic()
            if now_s - looked_s >= FLUSH_S:
                looked_s = now_s
            if now_s - flushed_s >= FLUSH_S:
                self._writer.flush()
                flushed_s = now_s
            if last:
                break
            time.sleep(IDLE_S)
        self._writer.close()

    def close(self) -> None:
        """Observe no more; a process that ends need not say so."""
        self._presence.close()
        self._tap.close()

    def document(self) -> dict[str, Any]:
        """What came of it."""
        return {
            "run": self.run, "files": [str(path) for path in self._writer.files],
            "frames": self._writer.frames_written, "lost_frames": self._reader.lost_frames,
            "bytes": self._writer.bytes_written,
        }  # fmt: skip

    def _run_lives_since(self, looked_s: float) -> bool:
        if time.monotonic() - looked_s < FLUSH_S:
            return True
        owner = owner_of(self._tap.name)
        return owner is not None and owner.is_alive

    def _turn(self) -> bool:
        """Write what is there to read, a batch at most; whether there may be more."""
        for frame in self._reader.read():
            if self._is_new:
                self._begin(frame)
            raw = ip_packet(*self._flows[frame.source], frame.content) if self._flows else frame.content
            self._writer.add(frame.read_ns + self._epoch_ns, raw)
            if self._without_diff:
                self._without_diff.pop(raw[: raw.find(b"@depth") + 6], None)
        for _ in range(len(self._snapshots)):
            symbol, body = self._snapshots.popleft()
            if symbol in self._without_diff.values():
                self._snapshots.append((symbol, body))
            else:
                self._writer.add(0, body)
        return self._reader.found_something

    def _begin(self, frame: Frame) -> None:
        """The first frame tells what kind all are of."""
        self._is_new = False
        if self._flows:
            self._writer.form = DATAGRAMS
        elif not frame.content.startswith(b"{"):
            self._writer.form = PACKETS
        elif not self._reader.is_from_the_start:
            self._begin_fetching()

    def _begin_fetching(self) -> None:
        self._without_diff = {f'{{"stream":"{symbol.lower()}@depth'.encode(): symbol for symbol in self._symbols}
        threading.Thread(target=self._fetch, daemon=True).start()

    def _fetch(self) -> None:
        pool = new_pool()
        for index, symbol in enumerate(self._symbols):
            try:
                snapshot = fetch(pool, self._rest_url, symbol, index, 0, SNAPSHOT_LEVELS, SNAPSHOT_TIMEOUT_S)
            except SnapshotError as error:
                self._say(f"{error}: without it {symbol} can be replayed behind another recording only")
            else:
                self._snapshots.append((symbol, snapshot.body))
