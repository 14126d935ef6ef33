"""Whatever the venue sends: counted, shown once in the log, never a crashed stage, and the book is right at the end."""

import queue
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.conftest import Done, Runs
from tests.e2e.fake_venue import FakeVenue, depth_update, frame

pytestmark = pytest.mark.timeout(400)

STRATEGY = str(REPOSITORY / "bench" / "wire_strategy.py")
PING, BINARY, CONTINUATION = 0x9, 0x2, 0x0
FRAME_BYTES_MAX = 4_096
HUGE = [["99999999999999999999.00000000", "1.00000000"]]
FINE = [["60000.00000000", "0.123456789"]]
GOOD = [["60000.00000000", "1.00000000"]]

MALFORMED = [
    depth_update(1, 2, GOOD, [])[:100],  # truncated
    depth_update(1, 2, GOOD, []).replace(b"BTCUSDT", b"BTC\xff\xfeDT"),  # not UTF-8
    b"}{][,:",
    b"\x00" * 300,
    b"",
    b"null",
    b"[]",
    b'"depthUpdate"',
    b"[" * 4_000,
    depth_update(1, 2, [["-1.00000000", "1.00000000"]], []),
    depth_update(1, 2, [["1e400", "1.00000000"]], []),
    depth_update(1, 2, [[float("nan"), "1.00000000"]], []),
    depth_update(1, 2, [["60000.00000000"]], []),
    depth_update(-5, 2, GOOD, []),
    depth_update(1, 2, GOOD, []).replace(b'"U":1,', b""),
]
OVERFLOWED = [
    depth_update(1, 2, HUGE, []),
    depth_update(1, 2, [["1e20", "1.00000000"]], []),
    depth_update(1, 2**70, GOOD, []),
]
TOO_MANY_DECIMALS = [depth_update(1, 2, FINE, []), depth_update(1, 2, [["60000.000000001", "1"]], [])]
UNKNOWN_SYMBOL = [depth_update(1, 2, GOOD, [], "DOGEUSDT"), depth_update(1, 2, GOOD, [], "BTCUSD")]
OTHER = [
    b'{"e":"kline","E":1,"s":"BTCUSDT","k":{}}',
    b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","s":"BTCUSDT"}}',
]


class Session:
    """The far end of one run: sends on the newest market connection, and knows by its orders what the pipeline saw."""

    def __init__(self, venue: FakeVenue) -> None:
        self.venue = venue
        self.market = venue.market.get(timeout=75)

    def show(self, bid: str) -> None:
        """Make `bid` the best bid and wait until an order is placed there: by then all before it was dealt with."""
        changes = {price: "0.00000000" for price in self.venue.bids if float(price) >= 60000} | {bid: "0.50000000"}
        self.market.sendall(frame(self.venue.diff(changes)))
        deadline = time.monotonic() + 8
        while True:
            try:
                order = self.venue.orders.get(timeout=0.1)
            except queue.Empty:
                assert time.monotonic() < deadline, f"no order at {bid} within 20 s"
                # A book that is being synchronised shows nothing before the next change.
                self.market.sendall(frame(self.venue.diff({bid: "0.50000000"})))
                continue
            if float(order["price"]) == float(bid):
                return

    def break_with(self, data: bytes) -> None:
        """Send what ends the connection, and take the next one."""
        self.market.sendall(data)
        self.market = self.venue.market.get(timeout=20)


def _expect(done: Done, venue: FakeVenue, counted: dict[str, int]) -> None:
    assert done.code == 0, done.words
    assert done.report["exit"] == "clean"
    feed = done.report["counters"]["feed"]
    assert {name: feed[name] for name in counted} == counted
    book = done.report["books"]["BTCUSDT"]
    assert {name: float(book[name]) for name in venue.best()} == venue.best()
    assert book["state"] == "valid"


def _log(done: Done, stage: str) -> str:
    return (done.state / "tickpipe" / "runs" / done.report["run"] / "logs" / f"{stage}.log").read_text()


@pytest.fixture
def started(pipeline: Runs) -> Any:
    """started(venue): (process, its far end once the book is synchronised and traded on)."""

    def start(venue: FakeVenue) -> tuple[Any, Session]:
        venue.open()
        process = pipeline.start(
            "up", "--json", "--strategy", STRATEGY, *venue.settings(), "-s", f"feed.frame_bytes_max={FRAME_BYTES_MAX}"
        )
        session = Session(venue)
        session.show("60000.00000000")
        return process, session

    return start


def test_bad_messages_are_counted_and_the_book_stays_right(pipeline: Runs, started: Callable[..., Any]) -> None:
    with FakeVenue() as venue:
        process, session = started(venue)
        for payload in MALFORMED + OVERFLOWED + TOO_MANY_DECIMALS + UNKNOWN_SYMBOL + OTHER:
            session.market.sendall(frame(payload))
        session.market.sendall(frame(b"\x93NUMPY\x01\x00" * 20, BINARY))
        session.show("60000.01000000")
        # Good data in an unusual form: binary, in fragments around a ping, spaced out.
        session.market.sendall(frame(venue.diff({"59999.50000000": "7.00000000"}), BINARY))
        text = venue.diff({"59999.40000000": "8.00000000"})
        session.market.sendall(
            frame(text[:50], final=False) + frame(b"are you there", PING)
            + frame(text[50:51], CONTINUATION, final=False) + frame(text[51:], CONTINUATION)
        )  # fmt: skip
        session.market.sendall(frame(venue.diff({"59999.30000000": "9.00000000"}).replace(b":", b" : ")))
        session.show("60000.02000000")
        # Bad messages whose ids are gone: a gap, and a new snapshot.
        venue.diff({"59999.20000000": "4.00000000"})
        session.market.sendall(frame(depth_update(venue.last_id - 2, venue.last_id, HUGE, [])))
        session.show("60000.03000000")
        process.send_signal(signal.SIGINT)
        done = pipeline.finish(process)
    counted = {
        "malformed": len(MALFORMED) + 1,
        "overflowed": len(OVERFLOWED) + 1,
        "too_many_decimals": len(TOO_MANY_DECIMALS),
        "unknown_symbol": len(UNKNOWN_SYMBOL),
        "other_messages": len(OTHER),
        "gaps": 1,
        "resyncs": 1,
        "disconnects": 0,
    }
    _expect(done, venue, counted)
    log = _log(done, "feed")
    for kind in ("malformed message", "message not used", "unusual message", "message of another kind"):
        assert f"{kind}: " in log, kind
    assert len(log.splitlines()) < 60, "samples flood the log"


def test_frames_against_the_protocol_end_the_connection_and_the_next_one_is_right(
    pipeline: Runs, started: Callable[..., Any]
) -> None:
    good = frame(depth_update(1, 2, GOOD, []))
    bad = {
        "masked": bytes([good[0], 0x80 | 5]) + b"\1\2\3\4" + b"hello",
        "reserved opcode": frame(b"x", 0x3),
        "continuation of nothing": frame(b"x", CONTINUATION),
        "long ping": frame(b"x" * 126, PING),
        "length beyond 63 bits": b"\x81\x7f" + b"\xff" * 8,
        "half a frame, then a close": frame(b"x" * 50)[:20],
    }
    oversized = frame(b'{"e":"depthUpdate","b":[' + b'["1.0","1.0"],' * 400)
    with FakeVenue() as venue:
        process, session = started(venue)
        for name, data in bad.items():
            session.market.sendall(data)
            if name == "half a frame, then a close":
                session.market.close()
            session.market = venue.market.get(timeout=20)
        session.break_with(oversized)
        session.show("60000.05000000")
        process.send_signal(signal.SIGINT)
        done = pipeline.finish(process)
    feed = done.report["counters"]["feed"] if done.report else None
    counted = {"disconnects": len(bad) + 1, "connects": len(bad) + 2, "malformed": 0}
    _expect(done, venue, counted)
    assert feed["oversized"] == 2, "the one over the limit, and the one of 2**64 bytes"
    assert feed["protocol_errors"] == len(bad), "all but the half frame, and the over-long one"
    log = _log(done, "feed")
    for words in ("masked frame", "reserved bits or opcode", "fragments out of order", "message longer than the limit"):
        assert words in log, words


def test_nonsense_on_the_order_connection_is_counted_and_trading_goes_on(
    pipeline: Runs, started: Callable[..., Any]
) -> None:
    nonsense = [
        b"}{",
        b"\xff\xfe\xfd",
        b"null",
        b"[1,2",
        b'{"id":17,"status":"x"}',
        b'{"event":{"e":"executionReport"}}',
    ]
    with FakeVenue() as venue:
        process, session = started(venue)
        first = venue.order_line
        assert first is not None
        for payload in nonsense:
            first.sendall(frame(payload))
        first.sendall(frame(b"\x00" * 50, BINARY) + frame(b"still there", PING))
        session.show("60000.06000000")
        first.sendall(bytes([0x81, 0x80 | 2]) + b"\1\2\3\4{}")  # masked: a protocol error
        deadline = time.monotonic() + 8
        while venue.order_line is first:
            assert time.monotonic() < deadline, "no new order connection within 20 s"
            time.sleep(0.01)
        session.show("60000.07000000")
        process.send_signal(signal.SIGINT)
        done = pipeline.finish(process)
    _expect(done, venue, {"malformed": 0, "gaps": 0})
    router = done.report["counters"]["router"]
    assert router["malformed"] >= 4, router
    assert router["connections_lost"] == 1
    assert done.report["orders"]["unknown"] == 0
    assert "messages not understood" in _log(done, "router")
