"""One capture played twice: the same books and the same publications, byte for byte, on a clock that stands still."""

import hashlib
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import stepped
from shm.atomics import JIT
from shm.clock import NS_PER_CYCLE_32
from stages.domain.captures import binance as capture
from stages.domain.captures.binance import Kind
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE
from stages.domain.messages import NOTICE
from stages.feed import snapshot_desk
from stages.feed.settings import FeedSettings
from tests.pipeline.verify.test_binance import START, write
from tests.stages.feed.stepped import Stepped, diff, frame, ticker, trade

pytestmark = [
    pytest.mark.timeout(600),  # compiles feed and book
    pytest.mark.skipif(not JIT, reason="takes minutes when it is interpreted"),
]


@pytest.fixture
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stepped._clock().copy()
    clock[NS_PER_CYCLE_32] = 0
    monkeypatch.setattr(stepped, "_CLOCK", [clock])
    monkeypatch.setattr(snapshot_desk, "time", SimpleNamespace(monotonic_ns=lambda: 1))


def publications(file: str, rng: random.Random) -> tuple[str, int]:
    """(hash of all notices and of the tables after each chunk, notices); bytes arrive in chunks of any size."""
    line = Stepped(frame_bytes_max=FeedSettings.model_fields["frame_bytes_max"].default)
    line.rest()
    digest, notices, notice = hashlib.sha256(), 0, np.zeros(NOTICE.itemsize, np.uint8)

    def settle() -> None:
        nonlocal notices
        idle = 0
        while idle < 3:
            moved = line.step_feed() or line.step_book()
            while stepped.pop(line.segments[BOOK_TO_STRATEGY].address, notice.ctypes.data):
                notices += 1
                digest.update(notice)
            idle = 0 if moved else idle + 1

    stream = b""
    for record in capture.records(file, pytest.fail):
        if record.kind is Kind.SNAPSHOT:
            line.feed.offer(stream)
            stream = b""
            settle()
            line.feed.offer_snapshot(0, record.raw)
            settle()
        else:
            stream += frame(record.raw)
    while stream:
        size = rng.randrange(1, 200_000)
        line.feed.offer(stream[:size])
        stream = stream[size:]
        settle()
    for table in (BBO_TABLE, DEPTH_TABLE):
        version, row = line.row(table)
        digest.update(b"%d" % version + row.tobytes())
    return digest.hexdigest(), notices


@pytest.mark.usefixtures("_stopped_clock")
def test_two_replays_of_one_file_publish_the_same_bytes(tmp_path: Path) -> None:
    rng = random.Random(1)
    more = []
    for number in range(16, 300):
        bids = [(f"{rng.randrange(90, 100)}.5", f"{rng.randrange(4)}") for _ in range(rng.randrange(9))]
        more += [ticker(number, ("100", "5"), ("102", "4")), diff(number, number, bids), trade(number, "101", "0.5")]
    file = write(tmp_path, *START, *more)
    first, notices = publications(file, random.Random(2))
    assert notices > 500
    assert publications(file, random.Random(3)) == (first, notices)
    other = write(tmp_path, *START, *more[:-2], diff(299, 299, [("99.75", "1")]), more[-1], name="other")
    assert publications(other, random.Random(2))[0] != first
