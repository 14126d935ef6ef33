"""Market streams against the running venue: subscriptions, payloads, ids that join, pings."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

from tests.stages.venue.venue_process import VenueProcess, running

DIFF = "btcusdt@depth@100ms"
PATTERNS = {
    "depthUpdate": r'\{"e":"depthUpdate","E":\d{13},"s":"BTCUSDT","U":\d+,"u":\d+,'
    r'"b":\[(\["\d+\.\d{8}","\d+\.\d{8}"\],?)*\],"a":\[(\["\d+\.\d{8}","\d+\.\d{8}"\],?)*\]\}',
    "trade": r'\{"e":"trade","E":\d{13},"s":"BTCUSDT","t":\d+,"p":"\d+\.\d{8}","q":"\d+\.\d{8}",'
    r'"T":\d{13},"m":(true|false),"M":true\}',
    "aggTrade": r'\{"e":"aggTrade","E":\d{13},"s":"BTCUSDT","a":\d+,"p":"\d+\.\d{8}","q":"\d+\.\d{8}",'
    r'"f":\d+,"l":\d+,"T":\d{13},"m":(true|false),"M":true\}',
    "bookTicker": r'\{"u":\d+,"s":"BTCUSDT","b":"\d+\.\d{8}","B":"\d+\.\d{8}","a":"\d+\.\d{8}",'
    r'"A":"\d+\.\d{8}"\}',
}


def call(socket: websocket.WebSocket, **request: Any) -> dict[str, Any]:
    socket.send(json.dumps(request))
    while True:
        message: dict[str, Any] = json.loads(socket.recv())
        if "id" in message:
            return message


def messages(socket: websocket.WebSocket, count: int) -> Iterator[dict[str, Any]]:
    for _ in range(count):
        yield json.loads(socket.recv())


def test_payloads_look_like_binances_byte_for_byte(venue: VenueProcess) -> None:
    socket = venue.connect("/ws/btcusdt@depth@100ms/btcusdt@trade/btcusdt@aggTrade/btcusdt@bookTicker")
    missing, deadline = set(PATTERNS), time.monotonic() + 10
    while missing and time.monotonic() < deadline:
        text = socket.recv()
        kind = json.loads(text).get("e", "bookTicker")
        assert re.fullmatch(PATTERNS[kind], text), text
        missing.discard(kind)
    assert not missing
    socket.close()


def test_diffs_join_and_lead_from_a_snapshot_to_the_next(venue: VenueProcess) -> None:
    """The local book algorithm of binance.md 1.5; at equal ids the bookTicker agrees with the book."""
    socket = venue.connect(f"/stream?streams={DIFF}/btcusdt@bookTicker")
    first = json.loads(socket.recv())
    while first["stream"] != DIFF:
        first = json.loads(socket.recv())
    snapshot = venue.rest("GET", "depth", "symbol=BTCUSDT&limit=5000")[1]
    book: dict[str, dict[str, str]] = {side: dict(snapshot[side]) for side in ("bids", "asks")}
    book_id, tickers, compared = snapshot["lastUpdateId"], [], 0
    last_u = first["data"]["u"]
    for message in messages(socket, 400):
        data = message["data"]
        if message["stream"] != DIFF:
            tickers.append(data)
            continue
        assert data["U"] == last_u + 1
        last_u = data["u"]
        if data["u"] < book_id:
            continue
        for side, levels in (("bids", data["b"]), ("asks", data["a"])):
            book[side].update(levels)
            for price, quantity in levels:
                if float(quantity) == 0:
                    del book[side][price]
        book_id = data["u"]
        known = [ticker for ticker in tickers if ticker["u"] <= book_id]
        if known:
            bid, ask = max(book["bids"], key=float), min(book["asks"], key=float)
            expected = (bid, book["bids"][bid], ask, book["asks"][ask])
            assert tuple(known[-1][key] for key in "bBaA") == expected
            compared += 1
    assert compared > 5
    socket.close()


def test_live_subscriptions(venue: VenueProcess) -> None:
    socket = venue.connect("/ws")
    assert call(socket, method="SUBSCRIBE", params=[DIFF, "no@such"], id=1) == {"result": None, "id": 1}
    assert call(socket, method="LIST_SUBSCRIPTIONS", id="x1") == {"result": [DIFF, "no@such"], "id": "x1"}
    assert call(socket, method="GET_PROPERTY", params=["combined"], id=2) == {"result": False, "id": 2}
    assert json.loads(socket.recv())["e"] == "depthUpdate"
    assert call(socket, method="SET_PROPERTY", params=["combined", True], id=3) == {"result": None, "id": 3}
    assert json.loads(socket.recv())["stream"] == DIFF
    assert call(socket, method="UNSUBSCRIBE", params=[DIFF], id=None) == {"result": None, "id": None}
    assert call(socket, method="LIST_SUBSCRIPTIONS", id=4) == {"result": ["no@such"], "id": 4}
    socket.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 3),
        ("[1]", 2),
        ('{"id":1}', 2),
        ('{"method":"HELLO","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["a"],"id":1.5}', 2),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2),
        ('{"method":"SET_PROPERTY","params":["size",1],"id":1}', 0),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1),
        ('{"method":"GET_PROPERTY","params":[],"id":1}', 2),
        ('{"method":"GET_PROPERTY","params":["combined",1],"id":1}', 2),
    ],
)
def test_bad_subscription_requests(venue: VenueProcess, text: str, code: int) -> None:
    socket = venue.connect("/ws")
    socket.send(text)
    assert json.loads(socket.recv())["code"] == code
    socket.close()


def read_frames(socket: websocket.WebSocket, count: int) -> None:
    for _ in range(count):
        socket.recv_frame()


def test_pings_carry_a_payload_and_silence_disconnects() -> None:
    with running(ping_interval_s=0.1, pong_timeout_s=0.5, max_stream_messages_per_second_in=5) as quick:
        good, silent = quick.connect("/ws"), quick.connect("/ws")
        deadline, pings = time.monotonic() + 1.2, 0
        good.settimeout(0.05)
        while time.monotonic() < deadline:
            try:
                frame = good.recv_frame()
            except websocket.WebSocketTimeoutException:
                continue
            assert (frame.opcode, len(frame.data) > 0) == (websocket.ABNF.OPCODE_PING, True)
            pings += 1
            if pings % 3 == 0:  # one pong answers the pings before it; five a second are allowed
                good.pong(frame.data)
        assert pings >= 5
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            read_frames(silent, 100)
        good.settimeout(5)
        assert good.recv_frame().opcode == websocket.ABNF.OPCODE_PING
        good.shutdown()
        chatty = quick.connect("/ws")
        for number in range(6):
            chatty.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        opcodes = []
        while not opcodes or opcodes[-1] != websocket.ABNF.OPCODE_CLOSE:
            opcodes.append(chatty.recv_frame().opcode)
        assert opcodes.count(websocket.ABNF.OPCODE_TEXT) == 5
        chatty.shutdown()


def test_a_client_may_ping_the_venue(venue: VenueProcess) -> None:
    socket = venue.connect("/ws")
    socket.ping("hello")
    frame = socket.recv_frame()
    assert (frame.opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"hello")
    socket.close()
