"""Requests parse back to what was asked; messages read as a full JSON parser reads them; garbage never crashes."""

import json
from typing import Any

import numpy as np
import pytest
import simplejson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shm.kernel import kernel
from stages.domain.codecs.binance_orders import (
    BALANCES,
    CANCEL_BY_CLIENT_ID,
    CANCEL_BY_ORDER_ID,
    EVENT,
    EXECUTION,
    REPLY,
    TEMPLATE_BYTES,
    TEMPLATES_PER_SYMBOL,
    UNRECOGNISED,
    encode_cancel,
    encode_place,
    parse_message,
    place_template,
    request_templates,
)
from stages.domain.codecs.json_scan import GUARD_BYTES
from stages.domain.instruments import decimal_string
from stages.domain.messages import OrderType, Side, TimeInForce
from stages.domain.orders import base36
from stages.router.cold_messages import event_of
from tests.entered import entered

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
PREFIX = "tsz3k1a-"
TEMPLATES = request_templates(SYMBOLS, PREFIX)
NAMES = np.array([symbol.encode() for symbol in SYMBOLS], "S16")
PREFIX_BYTES = np.frombuffer(PREFIX.encode().ljust(64, b"\0"), np.uint8).copy()


@kernel
def place(
    at: int, base: int, side: int, order_type: int, tif: int, order_id: int, quantity: int, quantity_decimals: int,
    price: int, price_decimals: int, timestamp_us: int,
) -> int:  # fmt: skip
    template = base + place_template(side, order_type, tif) * TEMPLATE_BYTES
    return encode_place(
        at, template, order_id, quantity, quantity_decimals, price, price_decimals, order_type != 3, timestamp_us
    )


@kernel
def cancel(at: int, template: int, order_id: int, venue_order_id: int, timestamp_us: int) -> int:
    return encode_cancel(at, template, order_id, venue_order_id, timestamp_us)


def text_of(buffer: np.ndarray, end: int) -> dict[str, Any]:
    return simplejson.loads(buffer[: end - buffer.ctypes.data].tobytes(), use_decimal=True)


@settings(deadline=None)
@given(
    st.sampled_from([0, 1]), st.sampled_from(list(Side)), st.sampled_from(list(OrderType)),
    st.sampled_from(list(TimeInForce)), st.integers(1, 2**61), st.integers(1, 2**62), st.integers(0, 8),
    st.integers(1, 2**62), st.integers(0, 8), st.integers(1, 2**62),
)  # fmt: skip
def test_a_new_order_parses_back_to_what_was_asked(
    symbol: int, side: Side, order_type: OrderType, tif: TimeInForce, order_id: int, quantity: int,
    quantity_decimals: int, price: int, price_decimals: int, timestamp_us: int,
) -> None:  # fmt: skip
    buffer = np.zeros(1024, np.uint8)
    base = TEMPLATES.ctypes.data + symbol * TEMPLATES_PER_SYMBOL * TEMPLATE_BYTES
    end = place(
        buffer.ctypes.data, base, side, order_type, tif, order_id, quantity, quantity_decimals, price, price_decimals,
        timestamp_us,
    )  # fmt: skip
    request = text_of(buffer, end)
    params = request["params"]
    assert (request["id"], request["method"]) == (2 * order_id, "order.place")
    assert params.pop("newClientOrderId") == PREFIX + base36(order_id)
    whole, _, fraction = params.pop("quantity").partition(".")
    assert (int(whole + fraction), len(fraction)) == (quantity, quantity_decimals)
    if order_type != OrderType.MARKET:
        whole, _, fraction = params.pop("price").partition(".")
        assert (int(whole + fraction), len(fraction)) == (price, price_decimals)
    if order_type == OrderType.LIMIT:
        assert params.pop("timeInForce") == tif.name
    assert params == {
        "symbol": SYMBOLS[symbol], "side": side.name, "type": order_type.name, "newOrderRespType": "ACK",
        "timestamp": timestamp_us,
    }  # fmt: skip


@settings(deadline=None)
@given(st.integers(1, 2**61), st.one_of(st.just(0), st.integers(1, 2**62)))
def test_a_cancel_names_the_order_by_the_venues_id_when_it_is_known(order_id: int, venue_order_id: int) -> None:
    buffer = np.zeros(1024, np.uint8)
    index = CANCEL_BY_ORDER_ID if venue_order_id else CANCEL_BY_CLIENT_ID
    template = TEMPLATES.ctypes.data + index * TEMPLATE_BYTES
    request = text_of(buffer, cancel(buffer.ctypes.data, template, order_id, venue_order_id, 99))
    named = {"orderId": venue_order_id} if venue_order_id else {"origClientOrderId": PREFIX + base36(order_id)}
    assert request == {
        "id": 2 * order_id + 1, "method": "order.cancel", "params": {"symbol": "BTCUSDT", "timestamp": 99} | named,
    }  # fmt: skip


def parse(raw: bytes) -> tuple[int, np.void]:
    buffer = np.zeros(len(raw) + 2 * GUARD_BYTES, np.uint8)
    buffer[GUARD_BYTES : GUARD_BYTES + len(raw)] = np.frombuffer(raw, np.uint8)
    event = np.zeros(2, EVENT)
    at = buffer.ctypes.data + GUARD_BYTES
    kind = entered(parse_message)(
        at, at + len(raw), event, NAMES.ctypes.data, len(SYMBOLS), PREFIX_BYTES.ctypes.data, len(PREFIX)
    )
    return int(kind), event[0]


def compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def report(**members: Any) -> dict[str, Any]:
    """An executionReport in Binance's key order, with a key nobody knows."""
    document = {
        "e": "executionReport", "E": 1723000000001, "s": "BTCUSDT", "c": PREFIX + "1z", "S": "BUY", "o": "LIMIT",
        "f": "GTC", "q": "0.10000000", "p": "60000.00000000", "P": "0.00000000", "F": "0.00000000", "g": -1, "C": "",
        "x": "TRADE", "X": "PARTIALLY_FILLED", "r": "NONE", "i": 4293153, "l": "0.01000000", "z": "0.02000000",
        "L": "60000.01000000", "n": "0.00001000", "N": "BTC", "T": 1723000000000, "t": 77, "I": 8641984, "w": True,
        "m": False, "M": True, "O": 1723000000000, "Z": "1200.00010000", "Y": "600.00010000", "Q": "0.00000000",
        "W": 1723000000000, "V": "NONE", "uS": {"nested": [1, {"x": "y"}]},
    }  # fmt: skip
    return {"subscriptionId": 0, "event": document | members}


FIELDS = [name for name in EVENT.names or () if name not in ("found", "reply_id", "status")]
decimals = st.integers(0, 2**62).map(decimal_string)


@settings(deadline=None)
@given(
    X=st.sampled_from(["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"]),
    s=st.sampled_from([*SYMBOLS, "XRPUSDT"]),
    c=st.sampled_from([PREFIX + "1", PREFIX + "zz9", "web_1", "other-1", PREFIX + "A"]),
    C=st.sampled_from(["", "", PREFIX + "42", "foreign"]),
    z=decimals, Z=decimals, l=decimals, L=decimals, n=decimals,
    N=st.sampled_from([None, "BTC", "USDT", "BNB"]),
    I=st.integers(0, 2**62), t=st.integers(-1, 2**62), i=st.integers(1, 2**62), m=st.booleans(),
    T=st.sampled_from([1723000000000, 1723000000000123]),
)  # fmt: skip
def test_an_execution_report_reads_as_the_full_parser_reads_it(**members: Any) -> None:
    document = report(**members)
    kind, event = parse(compact(document))
    assert kind == EXECUTION
    if "A" in members["c"] and not members["C"]:
        assert event["order_id"] == -1  # upper case digits are none of ours
        return
    cold = event_of(simplejson.loads(compact(document), use_decimal=True), SYMBOLS, PREFIX)
    assert cold is not None
    assert {name: int(event[name]) for name in FIELDS} == {name: int(cold[1][name]) for name in FIELDS}


def test_the_order_of_a_cancel_is_found_whichever_id_comes_first() -> None:
    document = report(c="web_77", C=PREFIX + "9")
    assert parse(compact(document))[1]["order_id"] == 9
    members = dict(reversed(document["event"].items()))
    members = {"e": members.pop("e")} | members
    assert parse(compact({"event": members}))[1]["order_id"] == 9


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"id": 84, "status": 200, "result": {"symbol": "BTCUSDT", "orderId": 12, "x": [1]}, "rateLimits": [{"a": 1}]},
         {"reply_id": 84, "status": 200, "venue_order_id": 12, "venue_code": 0}),
        ({"id": 84, "status": 400, "error": {"code": -2010, "msg": "Account has insufficient balance"}},
         {"reply_id": 84, "status": 400, "venue_code": -2010}),
        ({"status": 200, "result": {}, "id": 3}, {"reply_id": 3, "status": 200}),
        ({"id": 5, "status": 200, "result": []}, {"reply_id": 5}),
    ],
)  # fmt: skip
def test_replies_are_read_with_their_ids_and_codes(document: Any, fields: dict[str, int]) -> None:
    kind, event = parse(compact(document))
    assert kind == REPLY
    assert {name: int(event[name]) for name in fields} == fields


def test_balance_events_are_known_and_other_things_are_not() -> None:
    balances = {"e": "outboundAccountPosition", "E": 1, "u": 1, "B": [{"a": "BTC", "f": "1.0", "l": "0.0"}]}
    assert parse(compact({"subscriptionId": 0, "event": balances}))[0] == BALANCES
    for document in (
        {"id": "status-3", "status": 200, "result": {}},
        {"subscriptionId": 0, "event": {"e": "serverShutdown", "E": 1}},
        {"id": 3},
        {"id": 2, "status": 400, "error": {"code": -1, "msg": 'say "no"'}},
        report(X="SOMETHING_NEW"),
        report(z="0.123456789"),
        [],
        3,
    ):
        assert parse(compact(document))[0] == UNRECOGNISED


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_damaged_messages_never_crash_and_truncated_ones_are_never_taken(data: st.DataObject) -> None:
    raw = bytearray(compact(data.draw(st.sampled_from([
        report(), {"id": 84, "status": 400, "error": {"code": -2010, "msg": "Order would"}}, {"id": 1, "status": 200},
    ]))))  # fmt: skip
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(raw) - 1))
        assert parse(bytes(raw[:cut]))[0] == UNRECOGNISED
    else:
        for _ in range(data.draw(st.integers(1, 6))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        kind, event = parse(bytes(raw))
        try:
            cold = event_of(simplejson.loads(bytes(raw), use_decimal=True), SYMBOLS, PREFIX)
        except ValueError:
            return  # skipped values and names are not held against JSON's last rule: they decide nothing
        if cold is not None and kind == cold[0] == EXECUTION:
            assert {name: int(event[name]) for name in FIELDS} == {name: int(cold[1][name]) for name in FIELDS}


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_noise_is_never_recognised(raw: bytes) -> None:
    assume(b"executionReport" not in raw)  # Hypothesis draws the byte strings of our sources too
    assert parse(raw)[0] in (UNRECOGNISED, REPLY)
