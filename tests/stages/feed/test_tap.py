"""What the feed shows on its tap: every data frame as it was read, and the snapshots that it has used."""

import pytest

from shm.atomics import JIT
from tests.stages.feed.stepped import Stepped, diff, frame, observed, snapshot, ticker, trade

pytestmark = [
    pytest.mark.timeout(600),  # compiles the feed
    pytest.mark.skipif(not JIT, reason="takes minutes when it is interpreted"),
]


def test_frames_and_the_snapshot_are_shown_in_the_order_in_which_they_were_used() -> None:
    line = Stepped()
    reader = observed(line)
    many = [(f"{price}.00", "1") for price in range(1, 400)]
    before = [diff(9, 10), ticker(10, ("100", "1"), ("101", "1"))]
    behind = [diff(11, 12, many), trade(1, "100", "1"), b'{"stream":"btcusdt@depth@100ms","data":nonsense}']
    too_old, good = snapshot(3, [("1", "1")], [("2", "1")]), snapshot(10, [("100", "1")], [("101", "1")])
    line.feed.offer(b"".join(map(frame, before)))
    line.run()
    line.feed.offer_snapshot(0, too_old)
    line.run()
    line.feed.offer_snapshot(0, good)
    line.run()
    line.feed.offer(b"".join(map(frame, behind)))
    line.run()
    shown = list(reader.read())
    assert [each.content for each in shown] == [*before, good, *behind]
    stamps = [each.read_ns for each in shown]
    assert stamps == sorted(stamps)
    assert (reader.lost_frames, reader.is_from_the_start) == (0, True)


def test_nothing_is_shown_while_nobody_observes() -> None:
    line = Stepped()
    line.feed.offer(frame(ticker(10, ("100", "1"), ("101", "1"))))
    line.run()
    reader = observed(line)
    line.feed.offer(frame(ticker(11, ("100", "1"), ("101", "1"))))
    line.run()
    assert [each.content for each in reader.read()] == [ticker(11, ("100", "1"), ("101", "1"))]
    assert (reader.lost_frames, reader.is_from_the_start) == (0, False)
