"""What is said of lines: silence once, errors once, full buffers; and of a request server that is not there."""

import logging

import numpy as np
import pytest

from stages.domain.codecs import moldudp64
from stages.domain.lines import open_receiver, open_sender, parse_address
from stages.feed.context import LINES
from stages.feed.lines.watch import LOOK_NS, SILENCE_NS, LineWatch
from tests.stages.domain.test_lines import free_port
from tests.stages.feed.lines.support import MS, Lines, bound
from tests.stages.feed.lines.test_packets import SESSION, packet
from tests.stages.feed.test_itch import add


def test_a_line_that_is_silent_is_told_once_and_told_again_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    watch, lines = LineWatch(("udp://a", "udp://b"), ()), np.zeros(1, LINES)
    with caplog.at_level(logging.INFO):
        for look in range(4):
            lines[0]["datagrams"][0] += 1
            watch.look(lines[0], 1 + look * SILENCE_NS)
        lines[0]["datagrams"][1] += 1
        watch.look(lines[0], 1 + 4 * SILENCE_NS)
    told = [record.message for record in caplog.records]
    assert told == ["line udp://b has been silent for 5 s", "line udp://b is back"]


def test_drops_are_counted_and_errors_told_once(caplog: pytest.LogCaptureFixture) -> None:
    address = parse_address(f"udp://127.0.0.1:{free_port()}")
    with open_receiver(address, 4_096)[0] as receiver, open_sender(address) as sender:
        watch, lines = LineWatch(("udp://a",), (receiver,)), np.zeros(1, LINES)
        assert watch.look(lines[0], 1) == 0
        for look in range(2):
            for _ in range(50):
                sender.send(bytes(1_000))
            lines[0]["error"], lines[0]["error_line"] = 111, 1
            assert watch.look(lines[0], 1 + (look + 1) * LOOK_NS) >= 40 * (look + 1)
            assert lines[0]["error"] == 0
    assert caplog.text.count("Connection refused") == 1
    assert "cannot receive from the request server" in caplog.text
    assert caplog.text.count("raise feed.socket_buffer_bytes") == 1


def test_a_request_server_that_is_not_there_is_told_once_and_the_gap_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with bound() as (_, address):
        pass
    with Lines(request_server=address, request_interval_ms=10, gap_timeout_ms=100) as line:
        line.send(packet([add(1), add(2)], 1))
        line.send(moldudp64.header(SESSION, 3, 0))
        for _ in range(12):
            line.turn(10 * MS)
        assert (line.count("gaps"), line.count("lost")) == (1, 1)
        assert 0 < line.count("requests") < 12
    assert 1 <= caplog.text.count("Connection refused") <= 2
