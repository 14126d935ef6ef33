"""Raw frames on their way to an observer: whole, in order, or counted as lost."""

import random

import numpy as np
import pytest

from pipeline.stepped import memory_segment
from shm.segment import broadcast_layout
from stages.domain.tap import BATCH, PAYLOAD_BYTES, RECORD, FrameReader, newest_number, publish_frame
from tests.entered import entered

CAPACITY = 64


class Tap:
    """A small tap and what was published on it."""

    def __init__(self) -> None:
        self.segment = memory_segment(broadcast_layout(RECORD, CAPACITY))
        self.scratch = np.zeros(BATCH, RECORD)
        self.frames: list[bytes] = []

    def publish(self, frame: bytes) -> None:
        self.frames.append(frame)
        memory = np.frombuffer(frame, np.uint8)
        number = len(self.frames)
        entered(publish_frame)(
            self.segment.address, self.scratch.ctypes.data, memory.ctypes.data, len(frame), 1_000 + number, number
        )


def everything(reader: FrameReader) -> list[tuple[int, bytes]]:
    found = list(reader.read())
    while reader.found_something:
        found += reader.read()
    return found


@pytest.mark.parametrize(
    "size", [1, 8, PAYLOAD_BYTES - 1, PAYLOAD_BYTES, PAYLOAD_BYTES + 1, BATCH * PAYLOAD_BYTES, 40 * PAYLOAD_BYTES + 7]
)
def test_a_frame_of_any_length_comes_whole(size: int) -> None:
    tap = Tap()
    reader = FrameReader(tap.segment.address)
    frame = random.Random(size).randbytes(size)
    tap.publish(frame)
    assert everything(reader) == [(1_001, frame)]
    assert (reader.lost_frames, newest_number(tap.segment.address)) == (0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_every_frame_is_read_once_in_order_or_counted_as_lost(seed: int) -> None:
    rng = random.Random(seed)
    tap = Tap()
    reader = FrameReader(tap.segment.address)
    assert reader.is_from_the_start
    found: list[tuple[int, bytes]] = []
    for _ in range(300):
        tap.publish(rng.randbytes(rng.choice([5, 100, 500, 3_000])))
        if rng.random() < rng.choice([0.05, 0.5]):
            found += reader.read()
    tap.publish(b"last")
    found += everything(reader)
    assert all(tap.frames[stamp - 1_001] == frame for stamp, frame in found)
    assert [stamp for stamp, _ in found] == sorted({stamp for stamp, _ in found})
    assert len(found) + reader.lost_frames == len(tap.frames)
    assert found[-1][1] == b"last"


def test_who_comes_late_reads_what_comes_from_then_on() -> None:
    tap = Tap()
    for number in range(CAPACITY):
        tap.publish(b"%d" % number)
    reader = FrameReader(tap.segment.address)
    assert not reader.is_from_the_start
    tap.publish(b"new")
    assert [frame for _, frame in everything(reader)] == [b"new"]
    assert reader.lost_frames == 0


def test_half_a_frame_of_a_feed_that_was_killed_is_left_out() -> None:
    tap = Tap()
    reader = FrameReader(tap.segment.address)
    tap.publish(b"one")
    half = np.zeros(1, RECORD)
    half["number"], half["frame_bytes"] = 2, 500
    from shm.broadcast import _publish

    _publish(tap.segment.address, half.ctypes.data, 1)
    tap.frames.append(b"")
    tap.publish(b"three")
    assert [frame for _, frame in everything(reader)] == [b"one", b"three"]
    assert reader.lost_frames == 1
