"""The WebSocket API against the running venue: sessions, orders, user data events."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.stages.venue.venue_process import (
    ApiClient,
    VenueProcess,
    ed25519_base64,
    hmac_hex,
    now_ms,
    websocket_payload,
)

# binance.md 1.10; `v` and the other conditional keys need self-trade prevention, trailing stops or order lists.
REPORT_KEYS = list("eEscSofqpPFgCxXrilzLnNTtIwmMOZYQWV")


def test_public_methods_and_rate_limits(venue: VenueProcess) -> None:
    client = ApiClient(venue, logon=False, query="")
    reply = client.call("ping")
    assert list(reply) == ["id", "status", "result", "rateLimits"]
    assert (reply["status"], reply["result"]) == (200, {})
    assert [item["rateLimitType"] for item in reply["rateLimits"]] == ["REQUEST_WEIGHT"]
    assert "rateLimits" not in client.call("v3/time", {"returnRateLimits": False})
    assert len(client.call("depth", {"symbol": "BTCUSDT", "limit": 5})["result"]["asks"]) == 5
    assert client.call("exchangeInfo", {"symbols": ["ETHUSDT"]})["result"]["symbols"][0]["symbol"] == "ETHUSDT"
    client.close()
    quiet = ApiClient(venue, logon=False)
    assert "rateLimits" not in quiet.call("ping")
    assert "rateLimits" in quiet.call("ping", {"returnRateLimits": True})
    quiet.close()


def test_a_session_logs_on_and_out(venue: VenueProcess) -> None:
    client = ApiClient(venue)
    status = client.call("session.status")["result"]
    assert list(status) == [
        "apiKey",
        "authorizedSince",
        "connectedSince",
        "returnRateLimits",
        "serverTime",
        "userDataStream",
    ]
    assert (status["apiKey"], status["returnRateLimits"], status["userDataStream"]) == ("paper", False, False)
    assert client.call("userDataStream.subscribe")["result"] == {"subscriptionId": 0}
    assert client.call("session.status")["result"]["userDataStream"] is True
    assert client.call("userDataStream.unsubscribe", {"subscriptionId": 0})["result"] == {}
    assert client.call("session.logout")["result"]["apiKey"] is None
    assert client.trade("account.status")["error"]["code"] == -1102
    assert client.call("userDataStream.subscribe")["error"]["code"] == -2015
    client.close()


def test_requests_can_be_signed_one_by_one(venue: VenueProcess) -> None:
    client = ApiClient(venue, logon=False)
    for sign in (hmac_hex, ed25519_base64):
        params: dict[str, Any] = {"apiKey": "paper", "timestamp": now_ms(), "recvWindow": 5000}
        params["signature"] = sign(websocket_payload(params))
        assert client.call("account.status", params)["result"]["accountType"] == "SPOT"
        assert client.call("account.status", {**params, "recvWindow": 5001})["error"]["code"] == -1022
        assert client.call("account.status", {**params, "apiKey": "nobody"})["status"] == 401
    params = {"apiKey": "paper", "timestamp": now_ms()}
    params["signature"] = hmac_hex(websocket_payload(params))
    assert client.call("session.logon", params)["error"]["code"] == -4056
    assert client.call("userDataStream.subscribe.signature", params)["result"] == {"subscriptionId": 0}
    client.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [("{", -1135), ("[]", -1135), ('{"id":1}', -1135), ('{"id":1,"method":"no.such"}', -1020)],
)
def test_malformed_requests_are_answered(venue: VenueProcess, text: str, code: int) -> None:
    client = ApiClient(venue, logon=False)
    client.socket.send(text)
    reply = client.receive()
    assert (reply["status"], reply["error"]["code"]) == (400, code)
    client.close()


def test_a_resting_order_reports_new_and_canceled(api: ApiClient) -> None:
    reply = api.place(price="50000.00", quantity="0.00100", newClientOrderId="t1-1", newOrderRespType="ACK")
    assert list(reply["result"]) == ["symbol", "orderId", "orderListId", "clientOrderId", "transactTime"]
    order_id = reply["result"]["orderId"]
    report = api.wait_event(lambda event: event["e"] == "executionReport")
    assert list(report) == REPORT_KEYS
    assert (report["c"], report["x"], report["X"], report["i"]) == ("t1-1", "NEW", "NEW", order_id)
    assert (report["p"], report["q"], report["C"]) == ("50000.00000000", "0.00100000", "")
    position = api.wait_event(lambda event: event["e"] == "outboundAccountPosition")
    assert [(item["a"], item["l"]) for item in position["B"]] == [("USDT", "50.00000000")]

    reply = api.trade("order.cancel", symbol="BTCUSDT", origClientOrderId="t1-1", newClientOrderId="t1-2")
    assert (reply["result"]["clientOrderId"], reply["result"]["origClientOrderId"]) == ("t1-2", "t1-1")
    report = api.wait_event(lambda event: event["e"] == "executionReport")
    assert (report["c"], report["C"], report["x"], report["X"]) == ("t1-2", "t1-1", "CANCELED", "CANCELED")
    status = api.trade("order.status", symbol="BTCUSDT", origClientOrderId="t1-1")["result"]
    assert (status["status"], status["clientOrderId"]) == ("CANCELED", "t1-1")


def test_a_reply_comes_before_the_events_of_its_request(api: ApiClient) -> None:
    api.place(price="50000", quantity="0.001")
    assert api.events == []
    api.trade("openOrders.cancelAll", symbol="BTCUSDT")
    assert [event["x"] for event in api.events if event["e"] == "executionReport"] == ["NEW"]


def test_immediate_or_cancel_fills_what_it_can(api: ApiClient) -> None:
    asks = api.call("depth", {"symbol": "BTCUSDT", "limit": 1})["result"]["asks"]
    reply = api.place(price=asks[0][0], quantity="1.00000", timeInForce="IOC", newOrderRespType="RESULT")
    assert reply["result"]["status"] == "EXPIRED"
    assert reply["result"]["expiryReason"] == "UNFILLED_IOC_QUANTITY_EXPIRED"
    last = api.wait_event(lambda event: event.get("x") == "EXPIRED")
    assert last["eR"] == "UNFILLED_IOC_QUANTITY_EXPIRED"
    assert last["z"] == reply["result"]["executedQty"]


def test_fill_or_kill_fills_whole_or_not_at_all(api: ApiClient) -> None:
    reply = api.place(price="60005.00", quantity="0.50000", timeInForce="FOK", newOrderRespType="RESULT")
    assert reply["result"]["status"] == "FILLED"
    trades = []
    while not trades or trades[-1]["X"] != "FILLED":
        trades.append(api.wait_event(lambda event: event.get("x") == "TRADE"))
    assert sum(float(trade["l"]) for trade in trades) == pytest.approx(0.5)
    assert trades[-1]["z"] == "0.50000000"
    assert {(trade["m"], trade["N"]) for trade in trades} == {(False, "BTC")}
    assert len({trade["t"] for trade in trades}) == len(trades)
    reply = api.place(price="50000.00", quantity="0.50000", timeInForce="FOK", newOrderRespType="RESULT")
    assert (reply["result"]["status"], reply["result"]["executedQty"]) == ("EXPIRED", "0.00000000")
    assert reply["result"]["expiryReason"] == "UNFILLED_FOK_ORDER_EXPIRED"


def test_post_only_rests_or_is_refused(api: ApiClient) -> None:
    book = api.call("depth", {"symbol": "BTCUSDT", "limit": 1})["result"]
    maker = {"type": "LIMIT_MAKER", "timeInForce": None, "quantity": "0.001"}
    refused = api.place(**maker, price=f"{float(book['asks'][0][0]) + 1:.2f}")
    assert refused["error"] == {"code": -2010, "msg": "Order would immediately match and take."}
    assert list(api.place(**maker, price="59000")["result"])[-1] == "transactTime"  # ACK by default


def test_a_resting_order_is_filled_by_the_crowd_as_maker(api: ApiClient) -> None:
    # On both sides, because the market may leave one of them behind.
    prices = {}
    for side, levels in (("BUY", "bids"), ("SELL", "asks")):
        for _ in range(50):  # the market moves between the two calls: join the best price until the order rests
            price = api.call("depth", {"symbol": "BTCUSDT", "limit": 1})["result"][levels][0][0]
            reply = api.place(
                side=side, type="LIMIT_MAKER", timeInForce=None, price=price, quantity="0.00100",
                newOrderRespType="RESULT",
            )  # fmt: skip
            if reply["status"] == 200:
                break
        prices[reply["result"]["orderId"]] = price
    fill = api.wait_event(lambda event: event.get("x") == "TRADE" and event["i"] in prices)
    assert (fill["m"], fill["L"], fill["X"] in ("FILLED", "PARTIALLY_FILLED")) == (True, prices[fill["i"]], True)
    received = fill["l"] if fill["S"] == "BUY" else fill["Y"]
    assert abs(float(fill["n"]) - float(received) * 0.001) <= 1e-8


def test_our_resting_orders_appear_in_the_book(api: ApiClient) -> None:
    api.place(symbol="ETHUSDT", price="2000.00", quantity="1.2345")
    bids = api.call("depth", {"symbol": "ETHUSDT", "limit": 5000})["result"]["bids"]
    assert ["2000.00000000", "1.23450000"] in bids


def test_order_replies_show_the_order_limits(venue: VenueProcess) -> None:
    client = ApiClient(venue, query="")
    reply = client.place(price="50000", quantity="0.001")
    kinds = [(item["rateLimitType"], item["interval"]) for item in reply["rateLimits"]]
    assert kinds == [("ORDERS", "SECOND"), ("ORDERS", "DAY"), ("REQUEST_WEIGHT", "MINUTE")]
    client.trade("openOrders.cancelAll", symbol="BTCUSDT")
    client.close()


def test_one_account_is_seen_by_all_sessions(venue: VenueProcess, api: ApiClient) -> None:
    other = ApiClient(venue)
    other.call("userDataStream.subscribe")
    api.place(price="50000", quantity="0.001", newClientOrderId="shared")
    assert other.wait_event(lambda event: event.get("c") == "shared")["x"] == "NEW"
    assert other.trade("openOrders.status", symbol="BTCUSDT")["result"][0]["clientOrderId"] == "shared"
    other.close()


def test_the_service_sets_no_delay(venue: VenueProcess) -> None:
    """A small reply must not wait for the acknowledgement of the one before (Nagle): 40 ms would show."""
    client = ApiClient(venue)
    client.socket.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.call("userDataStream.subscribe")
    start = now_ms()
    for _ in range(50):
        client.place(price="50000", quantity="0.001")
        client.trade("openOrders.cancelAll", symbol="BTCUSDT")
    assert now_ms() - start < 50 * 40
    client.close()
