"""The recorded market, through feed and book as they run live: what must come out is known."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm.atomics import JIT
from stages.domain.messages import BookState
from tests.stages.feed.stepped import Stepped, frame

CHUNK_BYTES = 200_000


def recorded(path: Path) -> Iterator[tuple[bool, bytes]]:
    """(is a snapshot, JSON) of each line of a capture."""
    with gzip.open(path) as lines:
        for line in lines:
            body = line.rstrip().partition(b" ")[2]
            yield not body.startswith(b'{"stream"'), body


@pytest.mark.skipif(not JIT, reason="40,000 messages take minutes in interpreted kernels")
def test_recorded_day_ends_in_the_known_book(recorded_data: Path) -> None:
    line = Stepped("BTCUSDT")
    waiting = bytearray()
    for is_snapshot, body in recorded(recorded_data / "binance" / "btcusdt_20240808.gz"):
        if is_snapshot:
            line.feed.offer(bytes(waiting))
            waiting.clear()
            line.run()
            line.feed.offer_snapshot(0, body)
            continue
        waiting += frame(body)
        if len(waiting) > CHUNK_BYTES:
            line.feed.offer(bytes(waiting))
            waiting.clear()
            line.run()
    line.feed.offer(bytes(waiting))
    line.run()

    feed, book = line.counters("feed"), line.counters("book")
    assert {name: int(feed[name]) for name in ("gaps", "stale", "dropped", "unrecognised", "frames", "resyncs")} == {
        "gaps": 0, "stale": 2, "dropped": 0, "unrecognised": 0, "frames": 41_248, "resyncs": 0,
    }  # fmt: skip
    assert int(feed["messages_in"]) == 41_248
    assert (int(book["bbo_checked"]), int(book["bbo_mismatches"])) == (3_449, 0)
    assert (int(book["trades_missed"]), int(book["conflated"]), int(book["crossed"])) == (0, 0, 0)
    bbo = line.bbo()
    assert int(bbo["state"]) == BookState.VALID
    assert int(bbo["last_id"]) == 50_093_421_584
    depth = line.depth()
    assert (int(depth["bid_count"]), int(depth["ask_count"])) == (1_209, 2_196)
    assert (int(bbo["bid_price"]), int(bbo["ask_price"])) == (6_168_599_000_000, 6_168_600_000_000)
