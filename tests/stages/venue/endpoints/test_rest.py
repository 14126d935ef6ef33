"""REST against the running venue: shapes, signatures, filters, and every error code."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.stages.venue.venue_process import VenueProcess, ed25519_base64, hmac_hex, now_ms, running

LIMIT: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.001",
    "price": "50000",
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in LIMIT.items() if key != name}


def test_public_endpoints(venue: VenueProcess) -> None:
    assert venue.rest("GET", "ping") == (200, {})
    assert abs(venue.rest("GET", "time")[1]["serverTime"] - now_ms()) < 5_000
    status, info = venue.rest("GET", "exchangeInfo")
    assert status == 200
    assert [item["symbol"] for item in info["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    filters = {item["filterType"]: item for item in info["symbols"][0]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert filters["NOTIONAL"]["minNotional"] == "5.00000000"
    assert {item["rateLimitType"] for item in info["rateLimits"]} == {"REQUEST_WEIGHT", "ORDERS"}
    one = venue.rest("GET", "exchangeInfo", "symbol=ETHUSDT")[1]["symbols"]
    assert [item["symbol"] for item in one] == ["ETHUSDT"]
    two = venue.rest("GET", "exchangeInfo", "symbols=" + quote('["ETHUSDT","BTCUSDT"]'))[1]["symbols"]
    assert [item["symbol"] for item in two] == ["ETHUSDT", "BTCUSDT"]


def test_depth_is_a_deep_uncrossed_book_in_binance_format(venue: VenueProcess) -> None:
    _, book = venue.rest("GET", "depth", "symbol=BTCUSDT&limit=5000")
    assert list(book) == ["lastUpdateId", "bids", "asks"]
    assert min(len(book["bids"]), len(book["asks"])) >= 150
    bids, asks = ([float(price) for price, _ in book[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert all(len(text.partition(".")[2]) == 8 for level in book["bids"] for text in level)
    assert len(venue.rest("GET", "depth", "symbol=BTCUSDT&limit=5")[1]["bids"]) == 5


@pytest.mark.parametrize(
    ("payload", "code", "message"),
    [
        ("", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("symbol=NOPE", -1121, "Invalid symbol."),
        ("symbol=btc*", -1100, "Illegal characters found in parameter 'symbol'"),
        ("symbol=BTCUSDT&limit=x", -1100, "Illegal characters found in parameter 'limit'"),
        ("symbol=BTCUSDT&limit=0", -1130, "Data sent for parameter 'limit' is not valid."),
        ("symbol=BTCUSDT&limit=", -1105, "Parameter 'limit' was empty."),
        ("symbol=BTCUSDT&symbol=BTCUSDT", -1101, "Duplicate values for a parameter detected."),
        ("symbol=BTCUSDT&huh=1", -1104, "Not all sent parameters were read; read '1' parameter(s) but"),
    ],
)
def test_public_refusals(venue: VenueProcess, payload: str, code: int, message: str) -> None:
    status, error = venue.rest("GET", "depth", payload)
    assert (status, error["code"]) == (400, code)
    assert error["msg"].startswith(message)


def test_an_order_lives_from_placing_to_cancelling(venue: VenueProcess) -> None:
    _, before = venue.signed("GET", "account", omitZeroBalances="true")
    status, order = venue.signed("POST", "order", **LIMIT, newClientOrderId="rest-1")
    assert (status, order["status"], order["fills"]) == (200, "NEW", [])
    assert venue.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="rest-1")[1]["status"] == "NEW"
    assert [o["orderId"] for o in venue.signed("GET", "openOrders")[1]] == [order["orderId"]]
    locked = {item["asset"]: item["locked"] for item in venue.signed("GET", "account")[1]["balances"]}
    assert locked["USDT"] == "50.00000000"
    _, cancelled = venue.signed("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"])
    assert (cancelled["status"], cancelled["origClientOrderId"]) == ("CANCELED", "rest-1")
    assert venue.signed("GET", "order", symbol="BTCUSDT", orderId=order["orderId"])[1]["status"] == "CANCELED"
    assert venue.signed("GET", "account", omitZeroBalances="true")[1]["balances"] == before["balances"]


def test_cancelling_all_orders_of_a_symbol(venue: VenueProcess) -> None:
    for _ in range(2):
        assert venue.signed("POST", "order", **LIMIT)[0] == 200
    assert len(venue.signed("DELETE", "openOrders", symbol="BTCUSDT")[1]) == 2
    assert venue.signed("DELETE", "openOrders", symbol="BTCUSDT") == (
        400,
        {"code": -2011, "msg": "Unknown order sent."},
    )


def test_a_market_order_trades_and_pays_commission_in_what_it_receives(venue: VenueProcess) -> None:
    _, order = venue.signed("POST", "order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.001")
    assert (order["status"], order["executedQty"], order["price"]) == ("FILLED", "0.00100000", "0.00000000")
    assert sum(float(fill["qty"]) for fill in order["fills"]) == pytest.approx(0.001)
    assert {fill["commissionAsset"] for fill in order["fills"]} == {"BTC"}
    if len(order["fills"]) == 1:
        assert order["fills"][0]["commission"] == "0.00000100"
    trades = venue.signed("GET", "myTrades", symbol="BTCUSDT", orderId=order["orderId"])[1]
    assert [trade["id"] for trade in trades] == [fill["tradeId"] for fill in order["fills"]]
    _, by_value = venue.signed("POST", "order", symbol="BTCUSDT", side="SELL", type="MARKET", quoteOrderQty="100")
    assert by_value["status"] == "FILLED"
    assert 98 < float(by_value["cummulativeQuoteQty"]) <= 100


def test_a_test_order_is_checked_but_not_placed(venue: VenueProcess) -> None:
    assert venue.signed("POST", "order/test", **LIMIT) == (200, {})
    assert venue.signed("POST", "order/test", **{**LIMIT, "price": "0.001"})[1]["code"] == -1013
    assert venue.signed("GET", "openOrders", symbol="BTCUSDT") == (200, [])


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({**LIMIT, "price": "50000.001"}, -1013, "Filter failure: PRICE_FILTER"),
    ({**LIMIT, "price": "99999999"}, -1013, "Filter failure: PRICE_FILTER"),
    ({**LIMIT, "price": "0"}, -1013, "Invalid price."),
    ({**LIMIT, "quantity": "0.000011"}, -1013, "Filter failure: LOT_SIZE"),
    ({**LIMIT, "quantity": "9001"}, -1013, "Filter failure: LOT_SIZE"),
    ({**LIMIT, "quantity": "0"}, -1013, "Invalid quantity."),
    ({**LIMIT, "quantity": "0.00001"}, -1013, "Filter failure: NOTIONAL"),
    ({**LIMIT, "price": "50000.123456789"}, -1111, "Parameter 'price' has too much precision."),
    ({**LIMIT, "price": "1e3"}, -1100, "Illegal characters found in parameter 'price'"),
    ({**LIMIT, "quantity": "-1"}, -1100, "Illegal characters found in parameter 'quantity'"),
    ({**LIMIT, "price": "99999999999999999999"}, -1108, "Parameter 'price' overflowed."),
    ({**LIMIT, "newClientOrderId": "a b"}, -1100, "Illegal characters found in parameter 'newClientOrderId'"),
    ({**LIMIT, "quantity": "3", "price": "40000"}, -2010, "Account has insufficient balance"),
    ({**LIMIT, "side": "SELL", "quantity": "101", "price": "70000"}, -2010, "Account has insufficient"),
    ({**LIMIT, "type": "STOP"}, -1116, "Invalid orderType."),
    ({**LIMIT, "side": "HOLD"}, -1117, "Invalid side."),
    ({**LIMIT, "timeInForce": "GTD"}, -1115, "Invalid timeInForce."),
    ({**LIMIT, "symbol": "NOPE"}, -1121, "Invalid symbol."),
    ({**LIMIT, "stopPrice": "1"}, -1106, "Parameter 'stopPrice' sent when not required."),
    (
        {**LIMIT, "huh": "1"},
        -1104,
        "Not all sent parameters were read; read '8' parameter(s) but was sent '9'.",
    ),
    ({**LIMIT, "strategyType": "7"}, -1134, "`strategyType` was less than 1000000."),
    ({**LIMIT, "newOrderRespType": "ALL"}, -1130, "Data sent for parameter 'newOrderRespType' is not valid."),
    (without("price"), -1102, "Mandatory parameter 'price' was not sent"),
    (without("quantity"), -1102, "Mandatory parameter 'quantity' was not sent"),
    (without("timeInForce"), -1102, "Mandatory parameter 'timeInForce' was not sent"),
    (without("side"), -1102, "Mandatory parameter 'side' was not sent"),
    (without("type"), -1102, "Mandatory parameter 'type' was not sent"),
    (
        {**without("timeInForce"), "type": "LIMIT_MAKER", "price": "69000"},
        -2010,
        "Order would immediately match",
    ),
    ({**without("timeInForce"), "type": "MARKET"}, -1106, "Parameter 'price' sent when not required."),
    (
        {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"},
        -1102,
        "Param 'quantity' or 'quoteOrderQty' must",
    ),
    ({**LIMIT, "recvWindow": "60001"}, -1102, "'recvWindow' contains unexpected value."),
    (
        {**LIMIT, "timestamp": "1499827319559"},
        -1021,
        "Timestamp for this request is outside of the recvWindow.",
    ),
    ({**LIMIT, "timestamp": now_ms() + 10**9}, -1021, "Timestamp for this request was 1000ms ahead"),
]


@pytest.mark.parametrize(("params", "code", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused_orders(venue: VenueProcess, params: dict[str, Any], code: int, message: str) -> None:
    status, error = venue.signed("POST", "order", **params)
    assert (status, error["code"]) == (400, code), error
    assert error["msg"].startswith(message)


def test_refused_cancels_and_queries(venue: VenueProcess) -> None:
    assert venue.signed("DELETE", "order", symbol="BTCUSDT", orderId=1)[1]["code"] == -2011
    assert venue.signed("DELETE", "order", symbol="BTCUSDT")[1]["code"] == -1102
    assert venue.signed("GET", "order", symbol="BTCUSDT", orderId=1) == (
        400,
        {"code": -2013, "msg": "Order does not exist."},
    )
    order = venue.signed("POST", "order", **LIMIT, newClientOrderId="twice")[1]
    assert venue.signed("POST", "order", **LIMIT, newClientOrderId="twice") == (
        400,
        {"code": -2010, "msg": "Duplicate order sent."},
    )
    ids = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
    assert venue.signed("DELETE", "order", **ids, cancelRestrictions="NONE")[1]["code"] == -1145
    refused = venue.signed("DELETE", "order", **ids, cancelRestrictions="ONLY_PARTIALLY_FILLED")[1]
    assert refused == {"code": -2011, "msg": "Order was not canceled due to cancel restrictions."}
    assert venue.signed("DELETE", "order", **ids, origClientOrderId="other")[1]["code"] == -2011
    assert venue.signed("DELETE", "order", **ids, cancelRestrictions="ONLY_NEW")[0] == 200


def test_keys_and_signatures(venue: VenueProcess) -> None:
    payload = f"timestamp={now_ms()}"
    good = f"{payload}&signature={hmac_hex(payload)}"
    assert venue.rest("GET", "account", good, key="paper")[0] == 200
    in_micros = f"timestamp={now_ms() * 1000}&recvWindow=1000.123"
    assert venue.rest("GET", "account", f"{in_micros}&signature={hmac_hex(in_micros)}", key="paper")[0] == 200
    ed25519 = f"{payload}&signature={quote(ed25519_base64(payload), safe='')}"
    assert venue.rest("GET", "account", ed25519, key="paper")[0] == 200
    body = f"{payload}&omitZeroBalances=true"
    assert venue.rest("GET", "account", body=f"{body}&signature={hmac_hex(body)}", key="paper")[0] == 200
    assert venue.rest("GET", "account", good)[1] == {"code": -2014, "msg": "API-key format invalid."}
    assert venue.rest("GET", "account", good, key="other") == (
        401,
        {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
    )
    assert venue.rest("GET", "account", f"{payload}&signature=00", key="paper")[1]["code"] == -1022
    assert venue.rest("GET", "account", payload, key="paper")[1]["code"] == -1102
    assert venue.rest("GET", "account", "signature=00", key="paper")[1]["code"] == -1102


def test_rate_limits_are_enforced_when_asked_for() -> None:
    limits = {"order_count_10s_max": 1, "order_count_day_max": 1, "request_weight_minute_max": 40}
    with running(enforce_rate_limits=True, **limits) as limited:
        assert limited.signed("POST", "order", **LIMIT)[0] == 200
        status, error = limited.signed("POST", "order", **LIMIT)
        assert (status, error["code"]) == (429, -1015)
        limited.rest("GET", "exchangeInfo")
        status, error = limited.rest("GET", "exchangeInfo")
        assert (status, error["code"]) == (429, -1003)
