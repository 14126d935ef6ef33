"""Raw frames on their way to an observer: whole, in order, or counted as lost; shown only while somebody observes."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.line.stepped import memory_segment
from shm.atomics import peek
from shm.broadcast import ATTENDED, PUBLISHED, _publish
from shm.segment import broadcast_layout
from stages.domain.tap import BATCH, PAYLOAD_BYTES, RECORD, Frame, FrameReader, Tap, newest_number, show
from tests.entered import entered

CAPACITY = 64


class Present:
    """As a watch would see it."""

    def __init__(self) -> None:
        self.observers = 1
        self.before_answer: Callable[[], None] = lambda: None
        self.after_answer: Callable[[], None] = lambda: None

    def is_observed(self) -> bool:
        self.before_answer()
        is_observed = self.observers > 0
        self.after_answer()
        return is_observed


class Feed:
    """A small tap and what was shown on it; `look` sees `present`."""

    def __init__(self, *, is_observed: bool = True) -> None:
        self.segment = memory_segment(broadcast_layout(RECORD, CAPACITY))
        self.frames: list[bytes] = []
        self.present = Present()
        self.present.observers = int(is_observed)
        self.start_anew()

    def start_anew(self) -> None:
        self.tap = Tap()
        self.tap.watch = self.present
        self.tap.attach(self.segment)  # type: ignore[arg-type]  # the part of a segment that it uses

    def look(self, *, observers: int) -> None:
        self.present.observers = observers
        self.tap.look()

    def show(self, frame: bytes, source: int = 0) -> None:
        self.frames.append(frame)
        memory = np.frombuffer(frame or b"\0", np.uint8)
        read_ns = 1_000 + len(self.frames)
        entered(show)(self.tap.address, memory.ctypes.data, len(frame), read_ns, source)

    def reader(self) -> FrameReader:
        return FrameReader(self.segment.address)


def everything(reader: FrameReader) -> list[Frame]:
    found = list(reader.read())
    while reader.found_something:
        found += reader.read()
    return found


def contents(reader: FrameReader) -> list[bytes]:
    return [frame.content for frame in everything(reader)]


@pytest.mark.parametrize(
    "size", [1, 8, PAYLOAD_BYTES - 1, PAYLOAD_BYTES, PAYLOAD_BYTES + 1, BATCH * PAYLOAD_BYTES, 40 * PAYLOAD_BYTES + 7]
)
@pytest.mark.parametrize("source", [0, 3])
def test_a_frame_of_any_length_comes_whole(size: int, source: int) -> None:
    feed = Feed()
    reader = feed.reader()
    content = random.Random(size).randbytes(size)
    feed.show(content, source)
    assert everything(reader) == [Frame(1_001, content, source)]
    assert (reader.lost_frames, newest_number(feed.segment.address)) == (0, 1)
    assert reader.is_from_the_start


@pytest.mark.parametrize("seed", range(20))
def test_every_frame_is_read_once_in_order_or_counted_as_lost(seed: int) -> None:
    rng = random.Random(seed)
    feed = Feed()
    reader = feed.reader()
    found: list[Frame] = []
    for _ in range(300):
        feed.show(rng.randbytes(rng.choice([5, 100, 500, 3_000])))
        if rng.random() < rng.choice([0.05, 0.5]):
            found += reader.read()
    feed.show(b"last")
    found += everything(reader)
    assert all(feed.frames[frame.read_ns - 1_001] == frame.content for frame in found)
    stamps = [frame.read_ns for frame in found]
    assert stamps == sorted(set(stamps))
    assert len(found) + reader.lost_frames == len(feed.frames)
    assert found[-1].content == b"last"
    assert reader.is_from_the_start == (stamps[0] == 1_001)


def test_who_comes_late_reads_what_comes_from_then_on() -> None:
    feed = Feed()
    for number in range(CAPACITY):
        feed.show(b"%d" % number)
    reader = feed.reader()
    feed.show(b"new")
    assert contents(reader) == [b"new"]
    assert (reader.lost_frames, reader.is_from_the_start) == (0, False)


def test_half_a_frame_of_a_feed_that_was_killed_is_left_out() -> None:
    feed = Feed()
    reader = feed.reader()
    feed.show(b"one")
    half = np.zeros(1, RECORD)
    half["number"], half["frame_bytes"] = 2, 500
    _publish(feed.segment.address, half.ctypes.data, 1)
    feed.start_anew()
    feed.show(b"three")
    assert contents(reader) == [b"one", b"three"]
    assert reader.lost_frames == 1


def test_a_frame_of_no_bytes_is_not_shown_and_not_missed() -> None:
    feed = Feed()
    reader = feed.reader()
    feed.show(b"one")
    feed.show(b"")
    feed.show(b"three")
    assert (contents(reader), reader.lost_frames) == ([b"one", b"three"], 0)


def test_nothing_is_shown_while_nobody_observes() -> None:
    feed = Feed(is_observed=False)
    reader = feed.reader()
    feed.show(b"one")
    assert (peek(feed.segment.address + PUBLISHED), reader.is_attended()) == (0, False)
    feed.look(observers=2)
    feed.show(b"two")
    feed.look(observers=1)
    feed.show(b"three")
    assert reader.is_attended()
    feed.look(observers=0)
    feed.show(b"four")
    assert (contents(reader), reader.lost_frames, reader.is_attended()) == ([b"two", b"three"], 0, False)
    assert not reader.is_from_the_start
    late = feed.reader()
    feed.look(observers=1)
    feed.show(b"five")
    assert (contents(late), late.lost_frames, late.is_from_the_start) == ([b"five"], 0, False)


def test_a_feed_that_starts_anew_shows_from_its_first_frame_on_to_who_is_there() -> None:
    feed = Feed()
    reader = feed.reader()
    feed.show(b"one")
    feed.start_anew()
    feed.show(b"two")
    assert (contents(reader), reader.lost_frames, reader.is_from_the_start) == ([b"one", b"two"], 0, True)
    feed.present.observers = 0
    feed.start_anew()
    feed.show(b"three")
    assert (contents(reader), reader.is_attended()) == ([], False)


class Visit:
    """An observer that announces itself and asks, each at one of the places within and between looks and frames."""

    def __init__(self, feed: Feed, announced: int, asked: int) -> None:
        self.feed, self.announced, self.asked = feed, announced, asked
        self.places = 0
        self.reader: FrameReader | None = None
        self.expected: list[bytes] = []

    def place(self) -> None:
        if self.places == self.announced:
            self.feed.present.observers = 1
        if self.places == self.asked:
            reader = self.feed.reader()
            self.reader = reader if reader.is_attended() else None
        self.places += 1


@pytest.mark.parametrize("was_observed", [False, True])
@pytest.mark.parametrize(("announced", "asked"), [(first, then) for first in range(10) for then in range(first, 12)])
def test_whoever_finds_the_feed_attentive_is_shown_every_frame_from_then_on(
    was_observed: bool, announced: int, asked: int
) -> None:
    """With `was_observed` another one has left just before: the word says still that frames are shown."""
    feed = Feed(is_observed=was_observed)
    feed.present.observers = 0
    visit = Visit(feed, announced, asked)
    feed.present.before_answer = feed.present.after_answer = visit.place
    for number in range(5):
        feed.tap.look()
        visit.place()
        content = b"%d" % number
        feed.show(content)
        visit.expected += [content] if visit.reader is not None else []
        visit.place()
    assert visit.places > asked, "it has had its turn"
    assert visit.reader is None or contents(visit.reader) == visit.expected
    assert peek(feed.segment.address + ATTENDED) == 1
