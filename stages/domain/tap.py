"""The tap: what the feed has read, as raw frames with their receive time, for whoever wants to observe them.

A broadcast ring of records of 256 bytes; a frame takes as many as it needs. Its first record carries its length, the
others a length of 0. The feed never waits: an observer that is too slow is lapped, and the numbers of the frames tell
it how many it has lost.
"""

from collections.abc import Iterator

import numpy as np

from shm import libc
from shm.atomics import peek, store_word
from shm.broadcast import CAPACITY, PUBLISHED, RECORDS, Observer, publish
from shm.kernel import routine
from shm.layout import field_offset, record_dtype
from shm.segment import broadcast_layout

TAP = "tap"
PAYLOAD_BYTES = 232
RECORD = record_dtype(
    [
        ("read_ns", "<i8"),  # when the read that brought the frame returned, on CLOCK_MONOTONIC's scale
        ("number", "<i8"),  # of the frame, from 1 on
        ("frame_bytes", "<i8"),  # in a frame's first record, else 0
        ("payload", "u1", PAYLOAD_BYTES),
    ],
    256,
)
LAYOUT = broadcast_layout(RECORD, 16_384)
"""4 MB: half a second of 10,000 frames a second, of which a busy symbol has some hundred."""
BATCH = 16
"""Records that are made at a time, in private memory."""

_READ_NS, _NUMBER, _FRAME_BYTES, _PAYLOAD = (
    field_offset(RECORD, name) for name in ("read_ns", "number", "frame_bytes", "payload")
)
_RECORD_BYTES = RECORD.itemsize


@routine
def publish_frame(tap: int, scratch: int, at: int, size: int, read_ns: int, number: int) -> None:
    """Publish the `size` bytes at address `at` as frame `number`; `scratch` is the address of BATCH records."""
    left, source = size, at
    while left > 0:
        records = 0
        while records < BATCH and left > 0:
            record = scratch + records * _RECORD_BYTES
            taken = min(left, PAYLOAD_BYTES)
            store_word(record + _READ_NS, read_ns)
            store_word(record + _NUMBER, number)
            store_word(record + _FRAME_BYTES, size if left == size else 0)
            libc.memmove(record + _PAYLOAD, source, taken)
            source += taken
            left -= taken
            records += 1
        publish(tap, scratch, records)


def newest_number(tap: int) -> int:
    """Number of the newest frame, 0 when there is none: a feed that starts anew counts on from it."""
    published = peek(tap + PUBLISHED)
    slot = (published - 1) % peek(tap + CAPACITY)
    return peek(tap + RECORDS + slot * _RECORD_BYTES + _NUMBER) if published else 0


class FrameReader:
    """Frames put together again, from a tap that may be mapped read-only: all of them, or those from now on."""

    def __init__(self, base: int) -> None:
        self.is_from_the_start = peek(base + PUBLISHED) <= peek(base + CAPACITY) // 2
        """Whether no frame is missing; half a ring is left for those that come while it is read."""
        self._observer = Observer(base, RECORD, batch=2_048, from_oldest=self.is_from_the_start)
        self._parts: list[bytes] = []
        self._left = 0
        self._read_ns = self._number = 0
        self.lost_frames = 0
        """Frames that were overwritten before they were read."""
        self.found_something = False
        """Whether the last `read` did: there may be more."""

    def read(self) -> Iterator[tuple[int, bytes]]:
        """(read_ns, frame) of what is there to read, at most a batch."""
        lost = self._observer.lost
        records = self._observer.read()
        if self._observer.lost != lost:
            self._left = 0  # the rest of the frame that was being put together is gone
        self.found_something = len(records) > 0 or self._observer.lost != lost
        payloads = np.ascontiguousarray(records["payload"]).view(f"V{PAYLOAD_BYTES}")[:, 0].tolist()
        words = (records[name].tolist() for name in ("read_ns", "number", "frame_bytes"))
        for read_ns, number, size, payload in zip(*words, payloads, strict=True):
            if size:
                self._begin(read_ns, number, size)
            elif not self._left or number != self._number:
                continue  # of a frame whose beginning is lost
            taken = payload[: self._left]
            self._parts.append(taken)
            self._left -= len(taken)
            if not self._left:
                self._last = number
                yield self._read_ns, b"".join(self._parts)

    _last = 0
    """Number of the last whole frame."""

    def _begin(self, read_ns: int, number: int, size: int) -> None:
        if number > self._last + 1 and (self._last or self.is_from_the_start):
            self.lost_frames += number - self._last - 1
            self._last = number - 1
        self._parts, self._left, self._read_ns, self._number = [], size, read_ns, number
