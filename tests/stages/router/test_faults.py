"""What a venue should not do, and sockets do: garbage, half sends, silence, lies about orders, closed connections."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

from shm.control import State
from stages.agent import AgentError
from stages.domain.messages import Reason, ReportKind, Side
from stages.router.endpoint import EndpointError, require_loopback
from stages.router.session import SessionError, _ask, open_session
from stages.router.settings import RouterSettings
from tests.stages.router.fake_venue import FakeVenue, frame
from tests.stages.router.support import CREDENTIALS, Router, url


@pytest.fixture
def fake() -> Iterator[FakeVenue]:
    fake = FakeVenue()
    yield fake
    fake.close()


@pytest.fixture
def router(fake: FakeVenue) -> Iterator[Router]:
    router = Router(url(fake.port), ask_again_ms=20, backoff_ms_min=10).start()
    fake.wait_ready()
    yield router
    router.close()


def ask(fake: FakeVenue, router: Router) -> dict[str, Any]:
    """The next question for an order's fate, while the router is cranked."""
    asked: list[dict[str, Any]] = []
    thread = fake.in_thread(lambda: asked.append(fake.read_json()))
    router.until(lambda: not thread.is_alive())
    assert asked[0]["method"] == "order.status"
    return asked[0]


def test_garbage_is_counted_and_what_follows_is_still_understood(fake: FakeVenue, router: Router) -> None:
    for payload in (b"\xff\xfe{", b"", b"{", b'{"id":}', b"[1,2", b'{"event":{"e":"listStatus"}}', b"x" * 5000):
        fake.send_raw(frame(payload))
    fake.send_raw(frame(b"\x00\x01", opcode=2))
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    assert fake.read_json()["id"] == 2
    fake.send({"id": 2, "status": 200, "result": {"orderId": 9}})
    router.until(lambda: router.kinds(1) == [ReportKind.ACKED])
    assert router.count("unrecognised") == 7
    assert router.count("malformed") == 7  # listStatus is an event nobody asked for, not a malformed one
    assert router.count("connections_lost") == 0


def test_a_reply_with_escapes_is_read_by_the_cold_side(fake: FakeVenue, router: Router) -> None:
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    fake.send_raw(frame(b'{"id": 2, "status": 400, "error": {"code": -1013, "msg": "a \\"filter\\""}}'))
    router.until(lambda: router.final(1) is not None)
    report = router.final(1)
    assert report is not None
    assert (report["kind"], report["reason"]) == (ReportKind.REJECTED, Reason.VENUE_FILTER)


def test_a_ping_is_answered_with_its_own_payload(fake: FakeVenue, router: Router) -> None:
    fake.send_raw(frame(b"12345", opcode=9))
    router.until(lambda: router.count("pings") == 1)
    router.turn()
    assert fake.read_frame() == (0xA, b"12345")


def test_an_undecided_answer_makes_the_order_unknown_and_it_is_asked_for(fake: FakeVenue, router: Router) -> None:
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    client_id = fake.read_json()["params"]["newClientOrderId"]
    fake.send({"id": 2, "status": 500, "error": {"code": -1007, "msg": "Timeout waiting for response"}})
    router.until(lambda: router.kinds(1) == [ReportKind.UNKNOWN])
    asked = ask(fake, router)
    assert asked["params"]["origClientOrderId"] == client_id
    result = {
        "symbol": "BTCUSDT", "orderId": 3, "status": "PARTIALLY_FILLED", "executedQty": "0.00400000",
        "cummulativeQuoteQty": "240.00000000", "updateTime": 1723000000000,
    }  # fmt: skip
    fake.send({"id": asked["id"], "status": 200, "result": result})
    router.until(lambda: router.count("unknown") == 0)
    assert router.kinds(1) == [ReportKind.UNKNOWN, ReportKind.ACKED, ReportKind.FILLED]
    position = router.position(0)
    assert (position["quantity_lots"], position["cost_quote"], position["working_buy_lots"]) == (400, 240 * 10**8, 600)
    assert position["fees_unconverted"] == 1  # the fill's commission was never reported


def test_an_order_the_venue_leaves_without_an_answer_is_asked_for(fake: FakeVenue) -> None:
    router = Router(url(fake.port), ask_again_ms=20, answer_wait_ms=50).start()
    fake.wait_ready()
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    client_id = fake.read_json()["params"]["newClientOrderId"]
    asked = ask(fake, router)
    assert asked["params"]["origClientOrderId"] == client_id
    assert router.kinds(1) == [ReportKind.UNKNOWN]
    assert router.reports[0]["reason"] == Reason.NO_ANSWER
    fake.send({"id": 2, "status": 200, "result": {"orderId": 3}})  # the answer was only late
    router.until(lambda: router.count("unknown") == 0)
    assert router.kinds(1) == [ReportKind.UNKNOWN, ReportKind.ACKED]
    router.close()


def test_a_cancel_of_what_is_not_there_asks_what_became_of_the_order(fake: FakeVenue, router: Router) -> None:
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    fake.read_json()
    fake.send({"id": 2, "status": 200, "result": {"orderId": 3}})
    router.until(lambda: router.count("acked") == 1)
    router.cancel(1)
    router.until(lambda: router.count("cancels_sent") == 1)
    fake.read_json()
    fake.send({"id": 3, "status": 400, "error": {"code": -2011, "msg": "Unknown order sent."}})
    asked = ask(fake, router)
    result = {
        "symbol": "BTCUSDT", "orderId": 3, "status": "FILLED", "executedQty": "0.01000000",
        "cummulativeQuoteQty": "599.95000000", "updateTime": 1723000000000,
    }  # fmt: skip
    fake.send({"id": asked["id"], "status": 200, "result": result})
    router.until(lambda: router.final(1) is not None)
    assert router.kinds(1) == [ReportKind.ACKED, ReportKind.CANCEL_REJECTED, ReportKind.FILLED]
    report = router.final(1)
    assert report is not None
    assert report["last_price_ticks"] == 5_999_500  # the average of what was never reported
    assert router.count("unknown") == 0


def test_an_order_still_on_its_way_is_not_given_up_for_an_early_answer(fake: FakeVenue) -> None:
    router = Router(url(fake.port), ask_again_ms=20, backoff_ms_min=10).start()
    fake.wait_ready()
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    fake.read_json()
    assert fake.connection is not None
    fake.connection.close()
    router.until(lambda: router.count("unknown") == 1 and router.agent.context.state[0]["fd"] >= 0)
    fake.wait_ready()  # the next connection: what went over the first may still arrive at the venue
    for _ in range(3):
        asked = ask(fake, router)
        fake.send({"id": asked["id"], "status": 400, "error": {"code": -2013, "msg": "Order does not exist."}})
    asked = ask(fake, router)
    assert router.kinds(1) == [ReportKind.UNKNOWN]
    result = {
        "symbol": "BTCUSDT", "orderId": 3, "status": "NEW", "executedQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000", "updateTime": 1723000000000,
    }  # fmt: skip
    fake.send({"id": asked["id"], "status": 200, "result": result})
    router.until(lambda: router.count("unknown") == 0)
    assert router.kinds(1) == [ReportKind.UNKNOWN, ReportKind.ACKED]
    router.close()


@pytest.mark.parametrize("asset", ["1000SATSX", "\u20bfTC"])
def test_a_commission_in_an_asset_of_any_name_loses_no_fill(fake: FakeVenue, router: Router, asset: str) -> None:
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    client_id = fake.read_json()["params"]["newClientOrderId"]
    fake.send({"subscriptionId": 0, "event": {
        "e": "executionReport", "s": "BTCUSDT", "c": client_id, "C": "", "x": "TRADE", "X": "FILLED", "i": 5,
        "l": "0.01000000", "z": "0.01000000", "L": "60000.00000000", "n": "0.5", "N": asset, "T": 1, "t": 1, "I": 7,
        "m": True, "Z": "600.00000000",
    }})  # fmt: skip
    router.until(lambda: router.final(1) is not None)
    assert router.count("filled") == 1
    assert router.position(0)["fees_unconverted"] == 1


@pytest.mark.parametrize(
    "last_words",
    [frame(b"\x03\xe9bye", opcode=8), b"\x81\x85mask!data", b"\xc1\x01x", frame(b"", opcode=3), None],
)
def test_a_connection_that_ends_or_breaks_the_protocol_is_made_again(
    fake: FakeVenue, router: Router, last_words: bytes | None
) -> None:
    assert fake.connection is not None
    if last_words is None:
        fake.connection.close()
    else:
        fake.send_raw(last_words)
    router.until(lambda: router.count("connections_lost") == 1)
    router.until(lambda: router.agent.context.state[0]["fd"] >= 0)
    fake.wait_ready()


def test_the_venues_announced_shutdown_is_not_waited_for(fake: FakeVenue, router: Router) -> None:
    fake.send({"event": {"e": "serverShutdown", "E": 1}})
    router.until(lambda: router.count("connections_lost") == 1)
    router.until(lambda: router.agent.context.state[0]["fd"] >= 0)


def test_a_frame_that_arrives_byte_by_byte_is_read_once_and_whole(fake: FakeVenue, router: Router) -> None:
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    for byte in frame(b'{"id":2,"status":200,"result":{"orderId":9}}'):
        fake.send_raw(bytes((byte,)))
        router.turn()
    router.until(lambda: router.kinds(1) == [ReportKind.ACKED])


def test_events_before_the_subscriptions_answer_are_not_lost() -> None:
    fake = FakeVenue(before_subscription=frame(b'{"event":{"e":"outboundAccountPosition","B":[]}}'))
    router = Router(url(fake.port)).start()
    router.until(lambda: router.count("balance_events") == 1)
    router.close()
    fake.close()


def test_a_short_send_is_finished_before_anything_else_and_orders_wait_in_their_ring() -> None:
    fake = FakeVenue(receive_buffer_bytes=4_096)
    router = Router(url(fake.port)).start()
    fake.wait_ready()
    session = router.agent._session
    assert session is not None
    session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    router.agent._queue_text({"filler": "x" * 60_000})
    router.turn()
    assert router.count("short_sends") >= 1
    fake.send_raw(frame(b"p", opcode=9))
    router.until(lambda: router.count("pings") == 1)
    for order_id in (1, 2, 3):
        router.order(order_id, Side.BUY, 6_000_000, 1_000)
    for _ in range(100):
        router.turn()
    assert router.segments.unread("risk-router") == 3
    got: list[tuple[int, bytes]] = []
    thread = fake.in_thread(lambda: [got.append(fake.read_frame()) for _ in range(5)])
    router.until(lambda: not thread.is_alive())
    assert [opcode for opcode, _ in got] == [0x1, 0xA, 0x1, 0x1, 0x1]
    assert [int(payload.split(b'"id":')[1][:-1]) for _, payload in got[2:]] == [2, 4, 6]
    router.close()
    fake.close()


def test_the_socket_is_not_read_while_risk_has_no_room(fake: FakeVenue) -> None:
    router = Router(url(fake.port), capacities={"router-risk": 4}).start()
    fake.wait_ready()
    for order_id in range(1, 9):
        router.order(order_id, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 8)
    for order_id in range(1, 9):
        fake.send({"id": 2 * order_id, "status": 200, "result": {"orderId": order_id}})
    for _ in range(200):
        router.turn(take_reports=False)
    assert router.count("backpressure") > 0
    assert router.segments.unread("router-risk") <= 4
    router.until(lambda: len(router.reports) == 8)
    assert [int(report["order_id"]) for report in router.reports] == list(range(1, 9))
    router.close()


def test_without_a_supervisor_orders_are_cancelled_and_the_router_leaves(
    fake: FakeVenue, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    fake.read_json()
    fake.send({"id": 2, "status": 200, "result": {"orderId": 9}})
    router.until(lambda: router.count("acked") == 1)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    router.until(lambda: router.count("cancels_sent") == 1)
    request = fake.read_json()
    assert (request["method"], request["params"]["orderId"]) == ("order.cancel", 9)
    client_id = router.agent._prefix + "1"
    fake.send({"event": {
        "e": "executionReport", "s": "BTCUSDT", "c": "web_1", "C": client_id, "X": "CANCELED", "i": 9, "z": "0.0",
        "Z": "0.0", "I": 3,
    }})  # fmt: skip
    with pytest.raises(AgentError, match="leaving with 0 orders"):
        router.until(lambda: False)
    assert router.agent.state() == State.QUIET


@pytest.mark.parametrize("good", ["ws://127.0.0.1:9/ws-api/v3", "ws://localhost:9/x", "ws://[::1]:9/x?a=b"])
def test_loopback_endpoints_are_accepted(good: str) -> None:
    require_loopback(good)


@pytest.mark.parametrize(
    "bad",
    [
        "wss://ws-api.binance.com:443/ws-api/v3", "ws://10.0.0.1:9/x", "ws://localhost.example.com:9/x", "ws://:9/x",
        "http://127.0.0.1:9", "127.0.0.1:9", "ws://127.0.0.1/x", "ws://127.0.0.1:99999/x", "",
    ],
)  # fmt: skip
def test_every_other_endpoint_is_refused_with_a_hint(bad: str) -> None:
    with pytest.raises(EndpointError, match=r"hint|[Pp]ort"):
        require_loopback(bad)


def test_an_execution_report_with_members_of_wrong_types_is_shown_and_hurts_nobody(
    fake: FakeVenue, router: Router
) -> None:
    report = {"e": "executionReport", "s": "BTCUSDT", "X": "NEW", "c": 5, "z": "0", "Z": "0"}
    fake.send({"event": report})
    numbers = {"c": "x", "N": 7, "i": 1, "l": "0", "L": "0", "n": "0", "I": 1, "t": 1, "T": 1}
    fake.send_raw(frame(json.dumps({"event": report | numbers}).encode()))  # with spaces: for the cold side
    router.order(1, Side.BUY, 6_000_000, 1_000)
    router.until(lambda: router.count("sent") == 1)
    fake.send({"id": 2, "status": 200, "result": {"orderId": 9}})
    router.until(lambda: router.kinds(1) == [ReportKind.ACKED])
    assert router.count("unrecognised") == 2


def test_a_router_that_never_reached_the_venue_is_quiet_as_soon_as_it_is_told() -> None:
    router = Router("ws://127.0.0.1:1/ws-api/v3")
    assert router.agent.state() == State.STARTING
    router.agent.quiesce()
    assert router.agent.state() == State.QUIET


def _answered_by(answer: bytes) -> socket.socket:
    """A server that takes connections, reads a request each, and gives one answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_orders_go_through_no_proxy_and_follow_no_redirection(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = socket.create_server(("127.0.0.1", 0))
    elsewhere.settimeout(0.2)
    place = f"127.0.0.1:{elsewhere.getsockname()[1]}"
    monkeypatch.setenv("http_proxy", f"http://{place}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    away = f"HTTP/1.1 302 Found\r\nLocation: ws://{place}/\r\nContent-Length: 0\r\n\r\n".encode()
    with elsewhere, _answered_by(away) as listener:
        with pytest.raises(websocket.WebSocketException, match=r"302|[Rr]edirect"):
            open_session(url(listener.getsockname()[1]), CREDENTIALS, RouterSettings(connect_timeout_ms=1_000))
        with pytest.raises(TimeoutError):
            elsewhere.accept()


@pytest.mark.parametrize("error", ["no", ["no"], 5, None])
def test_a_refused_log_on_is_tried_again_whatever_the_refusal_looks_like(error: object) -> None:
    class Refusing:
        def gettimeout(self) -> float:
            return 20.0

        def send(self, text: str) -> None:
            pass

        def recv(self) -> str:
            return json.dumps({"id": "session.logon", "status": 400, "error": error})

    with pytest.raises(SessionError, match=r"session\.logon"):
        _ask(Refusing(), [], "session.logon", {})


class Dribbling(FakeVenue):
    """Talks of other things instead of answering, for as long as anybody listens."""

    def send(self, document: Any) -> None:
        try:
            while True:
                self.send_raw(frame(b'{"id":"another"}'))
        except OSError:
            raise SystemExit from None  # ends the thread: the router has left


def test_a_venue_that_talks_on_and_never_answers_is_given_up_in_time() -> None:
    fake = Dribbling()
    try:
        with pytest.raises(SessionError, match=r"session\.logon: no answer within 0\.3 s"):
            open_session(url(fake.port), CREDENTIALS, RouterSettings(connect_timeout_ms=300))
    finally:
        fake.close()
