"""One recording played twice: the same books and the same publications, byte for byte, on a clock that stands still."""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.line import stepped
from pipeline.verify.itch import Verifier
from pipeline.verify.report import FileReport
from shm.atomics import JIT
from shm.clock import NS_PER_CYCLE_32
from stages.domain.captures import binance as capture
from stages.domain.captures.binance import Kind
from stages.domain.captures.pieces import pieces
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE
from stages.domain.messages import NOTICE
from stages.feed.settings import FeedSettings
from stages.feed.streams import snapshot_desk
from tests.pipeline.verify.test_binance import START, write
from tests.stages.feed.stepped import Stepped, diff, frame, ticker, trade

CHUNK_BYTES = 200_000

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


def publications(files: Sequence[str], rng: random.Random) -> tuple[str, int]:
    """(hash of all notices and of the tables at the end, notices); bytes arrive in chunks of any size."""
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

    stream = bytearray()

    def offer(rest_bytes: int) -> None:
        while len(stream) > rest_bytes:
            size = rng.randrange(1, CHUNK_BYTES)
            line.feed.offer(bytes(stream[:size]))
            del stream[:size]
            settle()

    for file in files:
        for record in capture.records(file, pytest.fail):
            if record.kind is Kind.SNAPSHOT:
                offer(0)
                line.feed.offer_snapshot(0, record.raw)
                settle()
            else:
                stream += frame(record.raw)
                offer(CHUNK_BYTES)
    offer(0)
    assert line.counters("feed")["gaps"] == line.counters("book")["bbo_mismatches"] == 0
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
    first, notices = publications([file], random.Random(2))
    assert notices > 500
    assert publications([file], random.Random(3)) == (first, notices)
    other = write(tmp_path, *START, *more[:-2], diff(299, 299, [("99.75", "1")]), more[-1], name="other")
    assert publications([other], random.Random(2))[0] != first


@pytest.mark.usefixtures("_stopped_clock")
def test_two_replays_of_the_recorded_sessions_publish_the_same_bytes(recorded_data: Path) -> None:
    files = [str(recorded_data / "binance" / f"btcusdt_{day}.gz") for day in (20240808, 20240809)]
    first, notices = publications(files, random.Random(2))
    assert notices > 26_000  # one a diff, one a trade
    assert publications(files, random.Random(3)) == (first, notices)


@pytest.mark.parametrize("name", ["12302019_SNIPPET.NASDAQ_ITCH50", "AAPL_20191230_reencoded.itch50.gz"])
def test_recorded_itch_gives_the_same_books_however_it_is_cut(recorded_data: Path, name: str) -> None:
    content = b"".join(pieces(recorded_data / "itch" / name))

    def books(rng: random.Random) -> str:
        verifier, report, found = Verifier(len(content)), FileReport(name, "itch"), dict[str, Any]()
        begin = end = 0
        while end < len(content):
            end = min(end + rng.randrange(1, CHUNK_BYTES), len(content))
            begin = end - verifier.take(content[begin:end], begin, end == len(content))
        verifier.conclude(report, found)
        assert (begin, report.problems) == (end, [])
        return json.dumps(found)

    assert books(random.Random(2)) == books(random.Random(3)) != "{}"
