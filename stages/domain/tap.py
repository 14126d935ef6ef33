"""The tap: what the feed has read, as raw frames with their receive time, for whoever wants to observe them.

A broadcast ring of records of 256 bytes; a frame takes as many as it needs. Its first record carries its length, the
others a length of 0. The feed never waits: an observer that is too slow is lapped, and the numbers of the frames tell
it how many it has lost.

While nobody observes, frames are not shown: the feed looks now and then whether somebody does (`shm.presence`), and
says so in the ring. Whoever has announced himself, and finds `attended` set, is shown every frame from then on.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from shm import libc
from shm.atomics import load_word, peek, poke, store_word
from shm.broadcast import ATTENDED, CAPACITY, PUBLISHED, RECORDS, Observer, publish
from shm.kernel import primitive, routine
from shm.layout import field_offset, record_dtype
from shm.presence import Watch
from shm.segment import Segment, broadcast_layout

TAP = "tap"
PAYLOAD_BYTES = 232
RECORD = record_dtype(
    [
        ("read_ns", "<i8"),  # when the read that brought the frame returned, on CLOCK_MONOTONIC's scale
        ("number", "<i8"),  # of the frame, from 1 on, of those that are shown
        ("frame_bytes", "<i4"),  # in a frame's first record, else 0
        ("source", "<i2"),  # of a datagram: the line that brought it
        ("is_unbroken", "<i2"),  # 1: the feed's process has shown every frame until now
        ("payload", "u1", PAYLOAD_BYTES),
    ],
    256,
)
LAYOUT = broadcast_layout(RECORD, 16_384)
"""4 MB: half a second of 10,000 frames a second, of which a busy symbol has some hundred."""
BATCH = 16
"""Records that are made at a time, in private memory."""

_READ_NS, _NUMBER, _HEAD, _PAYLOAD = (
    field_offset(RECORD, name) for name in ("read_ns", "number", "frame_bytes", "payload")
)
_SOURCE_SHIFT, _IS_UNBROKEN_SHIFT = (8 * (field_offset(RECORD, name) - _HEAD) for name in ("source", "is_unbroken"))
_RECORD_BYTES = RECORD.itemsize

# The feed's private words.
WORDS = record_dtype(
    [
        ("ring", "<i8"),  # addresses: of the broadcast ring, and of room to make BATCH records in
        ("scratch", "<i8"),
        ("is_observed", "<i8"),
        ("is_unbroken", "<i8"),
        ("number", "<i8"),  # of the newest frame
    ],
    64,
)
_RING, _SCRATCH, _IS_OBSERVED, _IS_UNBROKEN, _NEWEST = (field_offset(WORDS, name) for name in WORDS.names or ())


@primitive
def show(tap: int, at: int, size: int, read_ns: int, source: int) -> None:
    """Show the `size` bytes at address `at` to whoever observes; `tap` is the address of a Tap's words."""
    if load_word(tap + _IS_OBSERVED) != 0:
        _publish_frame(tap, at, size, read_ns, source)
    else:
        store_word(tap + _IS_UNBROKEN, 0)


@routine
def _publish_frame(tap: int, at: int, size: int, read_ns: int, source: int) -> None:
    ring, scratch = load_word(tap + _RING), load_word(tap + _SCRATCH)
    number = load_word(tap + _NEWEST) + (1 if size > 0 else 0)  # a frame of no bytes takes no record
    store_word(tap + _NEWEST, number)
    head = size | source << _SOURCE_SHIFT | load_word(tap + _IS_UNBROKEN) << _IS_UNBROKEN_SHIFT
    left = size
    while left > 0:
        records = 0
        while records < BATCH and left > 0:
            record = scratch + records * _RECORD_BYTES
            taken = min(left, PAYLOAD_BYTES)
            store_word(record + _READ_NS, read_ns)
            store_word(record + _NUMBER, number)
            store_word(record + _HEAD, head if left == size else 0)
            libc.memmove(record + _PAYLOAD, at + size - left, taken)
            left -= taken
            records += 1
        publish(ring, scratch, records)


class Looking(Protocol):
    """What a Tap asks: `shm.presence.Watch`, or a test."""

    def is_observed(self) -> bool: ...


class Tap:
    """The feed's end, its cold side: the words that `show` takes, and the look at who observes."""

    def __init__(self) -> None:
        self.words = np.zeros(1, WORDS)
        self._scratch = np.zeros(BATCH, RECORD)
        self.words["scratch"], self.words["is_unbroken"] = self._scratch.ctypes.data, 1
        self.address = int(self.words.ctypes.data)
        self.watch: Looking | None = None
        """None: nobody is asked, and nothing shown."""

    def attach(self, segment: Segment) -> None:
        """Show on `segment` from now on. A feed that starts anew counts on from the newest frame there."""
        self.words["ring"], self.words["number"] = segment.address, newest_number(segment.address)
        if isinstance(segment, Segment):  # and not the private memory of a rehearsal or a test
            self.watch = Watch(segment.name)
        self.look()

    def look(self) -> None:
        """See whether anybody observes; for how that is told and taken back see `shm.presence`."""
        if self.watch is None:
            return
        attended = int(self.words["ring"][0]) + ATTENDED
        is_observed = self.watch.is_observed()
        if not is_observed and peek(attended):
            poke(attended, 0)
            is_observed = self.watch.is_observed()
        self.words["is_observed"] = is_observed
        if is_observed:
            poke(attended, 1)

    def close(self) -> None:
        """Look no more."""
        if isinstance(self.watch, Watch):
            self.watch.close()
        self.watch = None


def newest_number(base: int) -> int:
    """Number of the newest frame that was shown, 0 when there is none."""
    published = peek(base + PUBLISHED)
    slot = (published - 1) % peek(base + CAPACITY)
    return peek(base + RECORDS + slot * _RECORD_BYTES + _NUMBER) if published else 0


class Frame(NamedTuple):
    """What the feed has read at once: a message, or a datagram that came by line `source`."""

    read_ns: int
    content: bytes
    source: int


class FrameReader:
    """Frames put together again, from a tap that may be mapped read-only: those that are shown from now on."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._observer = Observer(base, RECORD, batch=2_048)
        self._parts: list[bytes] = []
        self._left = 0
        self._read_ns = self._number = self._source = 0
        self._last = newest_number(base)
        self._is_first = True
        self.is_from_the_start = False
        """Known with the first frame: whether it is the first that the feed has read."""
        self.lost_frames = 0
        """Frames that were overwritten before they were read."""
        self.found_something = False
        """Whether the last `read` did: there may be more."""

    def is_attended(self) -> bool:
        """Whether the feed shows its frames. To one who is present (`shm.presence`) it goes on until he leaves."""
        return peek(self._base + ATTENDED) != 0

    def read(self) -> Iterator[Frame]:
        """The frames that are there to read, at most a batch."""
        lost = self._observer.lost
        records = self._observer.read()
        if self._observer.lost != lost:
            self._left = 0  # the rest of the frame that was being put together is gone
        self.found_something = len(records) > 0 or self._observer.lost != lost
        payloads = np.ascontiguousarray(records["payload"]).view(f"V{PAYLOAD_BYTES}")[:, 0].tolist()
        names = ("read_ns", "number", "frame_bytes", "source", "is_unbroken")
        words = (records[name].tolist() for name in names)
        for read_ns, number, size, source, is_unbroken, payload in zip(*words, payloads, strict=True):
            if size:
                self._begin(number, is_unbroken=bool(is_unbroken))
                self._parts, self._left, self._read_ns, self._source = [], size, read_ns, source
            elif not self._left or number != self._number:
                continue  # of a frame whose beginning is lost
            taken = payload[: self._left]
            self._parts.append(taken)
            self._left -= len(taken)
            if not self._left:
                self._last = number
                yield Frame(self._read_ns, b"".join(self._parts), self._source)

    def _begin(self, number: int, *, is_unbroken: bool) -> None:
        if self._is_first:
            self._is_first, self.is_from_the_start = False, is_unbroken and number == 1
        if number > self._last + 1:
            self.lost_frames += number - self._last - 1
            self._last = number - 1
        self._number = number
