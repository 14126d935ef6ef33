"""The feed's cold side over real sockets: handshake, control frames, lost connections, snapshots by REST."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from shm.control import State
from stages.agent import Attention
from stages.domain.codecs import websocket_frames as ws
from stages.domain.messages import BookState
from stages.feed.agent import FeedAgent
from stages.feed.settings import FeedSettings
from tests.stages.feed.small_venue import SmallVenue
from tests.stages.feed.stepped import Stepped, diff, frame, instruments, snapshot

BIDS, ASKS = [("100.00", "1.0")], [("101.00", "1.5")]
SNAPSHOT = snapshot(11, BIDS, ASKS)
Until = Callable[..., None]


class Live(Stepped):
    """A feed on a real connection, its cold side called as the duty cycle would."""

    def __init__(self, port: int, delivery: str = "conflate") -> None:
        super().__init__(delivery=delivery)
        url = f"127.0.0.1:{port}"
        settings = FeedSettings(reconnect_min_ms=20, reconnect_max_ms=100)
        self.feed = FeedAgent(instruments("BTCUSDT"), settings, f"ws://{url}", f"http://{url}", delivery)
        self._attach(self.feed)
        self.step_feed(), self.step_book()  # compiled before any clock runs
        self._attention = Attention()
        self.feed.start(self._attention)

    def turn(self) -> None:
        self.now_ns = time.monotonic_ns()
        for _ in range(3):
            self.step_feed()
            self.step_book()
        self.drain_notices()
        self.feed.service(self.now_ns)

    def until(self, until: Until, condition: Callable[[], object], what: str) -> None:
        until(lambda: self.turn() or condition(), what=what)

    def count(self, name: str) -> int:
        return int(self.counters("feed")[name])


@contextmanager
def running(venue: SmallVenue, delivery: str = "conflate") -> Iterator[Live]:
    line = Live(venue.port, delivery)
    try:
        yield line
    finally:
        line.feed.close()
        venue.close()


def test_frames_sent_along_with_the_handshake_are_not_lost(until: Until) -> None:
    venue = SmallVenue(frame(diff(11, 11)) + frame(diff(12, 12, [("100.00", "3")])), ((200, SNAPSHOT),))
    with running(venue) as line:
        assert line.feed.state() == State.STARTING
        line.until(until, lambda: line.bbo()["state"] == BookState.VALID, "the book is valid")
        assert (int(line.bbo()["last_id"]), int(line.bbo()["bid_quantity"])) == (12, 300_000_000)
        assert line.feed.state() == State.RUNNING
        assert venue.paths[0] == "/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker"
        assert venue.paths[1] == "/api/v3/depth?symbol=BTCUSDT&limit=5000"


def test_a_quiet_symbol_is_asked_for_after_a_while(until: Until) -> None:
    venue = SmallVenue(b"", ((200, SNAPSHOT),))
    with running(venue) as line:
        line.until(until, lambda: line.bbo()["state"] == BookState.VALID, "the book is valid without a diff")


def _read_frame(stream: socket.socket) -> tuple[int, bytes]:
    """(opcode, unmasked payload) of one short client frame."""
    stream.settimeout(5)
    data = b""
    while len(data) < 6 or len(data) < 6 + (data[1] & 0x7F):
        data += stream.recv(200)
    key, payload = data[2:6], data[6 : 6 + (data[1] & 0x7F)]
    assert data[1] & 0x80, "client frames are masked"
    return data[0] & 0xF, bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def test_pong_copies_the_ping_and_the_data_around_it_flows(until: Until) -> None:
    venue = SmallVenue(frame(diff(11, 11)), ((200, SNAPSHOT),))
    with running(venue) as line:
        line.until(until, lambda: line.bbo()["state"] == BookState.VALID, "the book is valid")
        stream = venue.accepted.get(timeout=5)
        stream.sendall(frame(diff(12, 12)) + frame(b"1723161255208", ws.PING) + frame(diff(13, 13)))
        line.until(until, lambda: int(line.bbo()["last_id"]) == 13, "the diff behind the ping arrives")
        assert _read_frame(stream) == (ws.PONG, b"1723161255208")


@pytest.mark.parametrize("how", ["end of stream", "close frame", "masked frame", "over-long frame"])
def test_a_lost_connection_makes_books_dirty_and_is_made_again(until: Until, how: str) -> None:
    venue = SmallVenue(frame(diff(11, 11)), ((200, SNAPSHOT), (200, snapshot(20, BIDS, ASKS))))
    with running(venue) as line:
        line.until(until, lambda: line.bbo()["state"] == BookState.VALID, "the book is valid")
        stream = venue.accepted.get(timeout=5)
        venue.first = frame(diff(21, 21))
        if how == "end of stream":
            stream.close()
        elif how == "close frame":
            stream.sendall(frame((1001).to_bytes(2, "big") + b"going away", ws.CLOSE))
        elif how == "masked frame":
            stream.sendall(b"\x81\x85abcdhello")
        else:
            stream.sendall(b"\x81\x7f" + (2**40).to_bytes(8, "big"))
        line.until(until, lambda: line.bbo()["state"] == BookState.DIRTY, "the book is dirty")
        if how == "close frame":
            assert _read_frame(stream) == (ws.CLOSE, (1001).to_bytes(2, "big") + b"going away")
        line.until(until, lambda: line.bbo()["state"] == BookState.VALID, "the book is valid again")
        assert int(line.bbo()["last_id"]) == 21
        assert (line.count("connects"), line.count("disconnects"), line.count("resyncs")) == (2, 1, 1)
        assert line.count("protocol_errors") == (how in ("masked frame", "over-long frame"))
        assert line.count("oversized") == (how == "over-long frame")


def test_a_venue_that_is_not_there_yet_is_retried_and_said_so(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    line = Live(port)
    line.until(until, lambda: caplog.text.count("retrying in") >= 2, "two attempts")
    assert f"venue not reachable at ws://127.0.0.1:{port}/stream" in caplog.text
    assert line.feed.state() == State.STARTING
    line.feed.close()


def test_snapshots_that_fail_are_asked_for_again(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    answers = ((503, b"busy"), (200, b"<html>"), (200, snapshot(5, BIDS, ASKS)), (200, SNAPSHOT))
    venue = SmallVenue(frame(diff(11, 11)), answers)
    with running(venue) as line:
        line.until(until, lambda: line.bbo()["state"] == BookState.VALID, "the book is valid")
        assert line.count("snapshots") == 4
        assert line.count("snapshot_failures") == 3
        assert "HTTP 503" in caplog.text


def test_a_replay_asks_for_as_many_snapshots_as_it_takes(until: Until) -> None:
    """Live, 24 full ones may be asked for in a minute: a replay would wait for the clock."""
    snapshots = tuple((200, snapshot(10 * number, BIDS, ASKS)) for number in range(1, 31))
    venue = SmallVenue(b"".join(frame(diff(10 * n + 1, 10 * n + 2)) for n in range(1, 31)), snapshots)
    with running(venue, "every") as line:
        line.until(until, lambda: line.count("holding") == 0 and line.bbo()["last_id"] == 302, "all snapshots")
        assert (line.count("gaps"), line.count("snapshots"), line.count("snapshot_failures")) == (29, 30, 0)
