"""Live lines recorded as they came, packet by packet: what was recorded verifies and is played as what was received."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.recording.recorder import Recorder
from pipeline.verify.pcap import verify
from shm.segment import Segment, unlink
from stages.domain.captures import itch
from stages.domain.captures.datagrams import datagrams
from stages.domain.codecs import moldudp64
from stages.domain.lines import parse_address
from stages.domain.tap import LAYOUT, TAP
from stages.venue.markets.moldudp64 import MoldServer
from tests.stages.domain.codecs.itch_messages import coherent, order_stream
from tests.stages.feed.lines.support import MS, Lines, bound
from tests.stages.feed.lines.test_packets import SESSION, packet
from tests.stages.feed.lines.test_raw_datagrams import QUOTE, TRADE, raw
from tests.stages.feed.test_itch import add

RUN = f"test-{os.getpid()}-lines"


@pytest.fixture
def tap() -> Iterator[Segment]:
    """A run's own tap, which a recorder finds by the run's name."""
    segment = Segment.create(f"tickpipe.{RUN}.{TAP}", LAYOUT)
    yield segment
    segment.close()
    unlink(segment.name)


def market_of(line: Lines, request_server: str = "") -> dict[str, Any]:
    return {"rest_url": "", "symbols": [], "lines": line.addresses, "request_server": request_server}


def recorder_of(line: Lines, folder: Path, tap: Segment, request_server: str = "") -> Recorder:
    """One that is there before the first datagram."""
    recorder = Recorder(RUN, folder, 1 << 30, market_of(line, request_server), pytest.fail)
    line.feed.tap.attach(tap)
    assert recorder.wait_attended(lambda: True)
    return recorder


def finish(recorder: Recorder) -> Path:
    recorder.record(lambda: True)
    done = recorder.document()
    assert done["lost_frames"] == 0
    (file,) = done["files"]
    return Path(file)


def test_what_two_lossy_lines_and_the_request_server_brought_makes_the_same_books(tmp_path: Path, tap: Segment) -> None:
    messages = coherent(order_stream(7, 300, strangers=0, excess=0))
    lossy = random.Random(7)
    with bound() as (_, desk):
        pass
    server = MoldServer([], desk, session=SESSION)
    with Lines(request_server=desk, request_interval_ms=1, gap_window_messages=512, first_sequence=1) as line:
        recorder = recorder_of(line, tmp_path, tap, desk)
        line.send(moldudp64.header(SESSION, 1, 0))
        for number, message in enumerate(messages, 1):
            server.send([message])
            for each in (0, 1):
                if lossy.random() < 0.5:
                    line.send(packet(messages, number), each)
        line.send(moldudp64.header(SESSION, len(messages) + 1, 0))
        for _ in range(len(messages)):
            line.turn(MS)
            server.answer()
        received = line.count("datagrams")
        assert (line.count("messages_in"), line.count("gaps")) == (len(messages), 0)
        assert line.count("requests") > 0
        books = [{side: line.levels(symbol, side) for side in ("bid", "ask")} for symbol in (0, 1)]
        ports = [parse_address(address).port for address in line.addresses]
    server.close()
    file = finish(recorder)
    flows = [each.flow[1] for each in datagrams(file, pytest.fail)]
    assert (len(flows), set(flows)) == (received, {*ports, 0})
    assert list(itch.messages(str(file))) == messages
    found: dict[str, dict[str, Any]] = {}
    (report,) = verify(file, found)
    assert (report.gaps, report.problems, report.bytes_left) == (0, [], 0)
    assert sum(report.messages.values()) == len(messages)
    for symbol, locate in enumerate((1, 3)):
        book = found[f"STOCK{locate}"]
        for side, levels in books[symbol].items():
            best = levels[0] if levels else (0, 0)
            assert (float(book[side] or 0), float(book[f"{side}_qty"] or 0)) == (best[0] / 1e8, best[1] / 1e8)


def test_a_recorder_that_comes_late_and_one_that_has_gone(tmp_path: Path, tap: Segment) -> None:
    messages = [add(number) for number in range(1, 8)]
    with Lines() as line:
        line.feed.tap.attach(tap)
        line.send(packet(messages, 1))
        recorder = recorder_of(line, tmp_path, tap)
        line.send(packet(messages, 2, 2))
        line.send(packet(messages, 2, 2), 1)
        file = finish(recorder)
        recorder.close()
        line.turn()
        line.send(packet(messages, 4))
        line.turn()
        late = Recorder(RUN, tmp_path, 1, market_of(line), pytest.fail)
        assert not late.wait_attended(lambda: True), "the feed has not looked yet"
        late.close()
    assert [each.payload for each in datagrams(file, pytest.fail)] == [packet(messages, 2, 2)] * 2
    assert list(itch.messages(str(file))) == messages[1:3]


def test_raw_messages_are_recorded_datagram_by_datagram(tmp_path: Path, tap: Segment) -> None:
    sent = [raw(TRADE, 0, 5, time_ns=1), raw(QUOTE, 1, time_ns=2) + raw(TRADE, 1, time_ns=3), raw(TRADE, 0)[:20], b""]
    with Lines("ONE", "TWO", source="raw", lines=1) as line:
        recorder = recorder_of(line, tmp_path, tap)
        for datagram in sent:
            line.send(datagram)
        line.turn()
    file = finish(recorder)
    assert [each.payload for each in datagrams(file, pytest.fail)] == sent[:3]
    (report,) = verify(file, {})
    assert report.messages == {"trade": 2, "quote": 1}
    assert [problem.name for problem in report.problems] == ["short_datagram"]
