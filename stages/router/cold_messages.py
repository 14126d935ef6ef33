"""The messages that the compiled parser leaves alone, read by a full JSON parser into the same event record.

These are answers to order.status (their ids are text), and replies and execution reports in a form that only a full
parser reads: escapes in a text, white space. What they say goes the same way as everything else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.domain.codecs.binance_orders import EVENT, EXECUTION, MILLISECONDS_BELOW, REPLY
from stages.domain.codecs.json_scan import word
from stages.domain.instruments import mantissa
from stages.domain.orders import OrderState
from stages.router.replies import NO_SUCH_ORDER, OK

ENDS_OF_SESSION = ("serverShutdown", "eventStreamTerminated")
STATUS_ID = "status-"

OTHER_ASSET = -1
"""In place of the word of an asset whose name is none: neither the base nor the quote asset of any symbol."""

_TARGETS = {
    "NEW": OrderState.WORKING,
    "PENDING_NEW": OrderState.WORKING,
    "PENDING_CANCEL": OrderState.WORKING,
    "PARTIALLY_FILLED": OrderState.WORKING,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELLED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,
}


def kind_of(document: Any) -> str | None:
    """The event's type, "reply" for a reply, None for what is neither."""
    if not isinstance(document, Mapping):
        return None
    event = document.get("event", document)
    if isinstance(event, Mapping) and isinstance(event.get("e"), str):
        return str(event["e"])
    return "reply" if "id" in document else None


def event_of(document: Any, symbols: Sequence[str], prefix: str) -> tuple[int, np.void] | None:
    """(REPLY or EXECUTION, EVENT record) of a message; None when it is about no order of ours or has another form."""
    kind = kind_of(document)
    try:
        if kind == "executionReport":
            return EXECUTION, _execution(document["event"], symbols, prefix)
        request_id = document.get("id") if kind == "reply" else None
        if isinstance(request_id, int) and not isinstance(request_id, bool):
            return REPLY, _reply(document)
        if isinstance(request_id, str) and request_id.startswith(STATUS_ID):
            return status_event(document, int(request_id.removeprefix(STATUS_ID)), symbols)
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
        return None
    return None


def status_event(document: Mapping[str, Any], order_id: int, symbols: Sequence[str]) -> tuple[int, np.void] | None:
    """The answer to order.status as an event: an execution, or the refusal of an order that never arrived."""
    event = np.zeros(1, EVENT)
    if document["status"] == OK:
        result = document["result"]
        event["order_id"] = order_id
        event["venue_order_id"] = result["orderId"]
        event["symbol"] = symbols.index(result["symbol"])
        event["target"] = _TARGETS[result["status"]]
        event["cumulative_quantity"] = mantissa(result["executedQty"])
        event["cumulative_quote"] = mantissa(result["cummulativeQuoteQty"])
        event["exchange_time_ns"] = _time_ns(int(result["updateTime"]))
        return EXECUTION, event[0]
    if document["error"]["code"] == NO_SUCH_ORDER:
        # The venue answers requests in order: an order that it does not know when the question arrives on a later
        # connection was never taken from the lost one.
        event["reply_id"] = 2 * order_id
        event["status"] = document["status"]
        event["venue_code"] = NO_SUCH_ORDER
        return REPLY, event[0]
    return None  # the question itself failed; it is asked again


def _execution(report: Mapping[str, Any], symbols: Sequence[str], prefix: str) -> np.void:
    event = np.zeros(1, EVENT)
    client_id = report.get("C") or report["c"]
    is_ours = client_id.startswith(prefix)
    event["order_id"] = int(client_id.removeprefix(prefix), 36) if is_ours else -1
    event["symbol"] = symbols.index(report["s"]) if report["s"] in symbols else -1
    event["target"] = _TARGETS[report["X"]]
    event["venue_order_id"] = report["i"]
    event["last_quantity"] = mantissa(report["l"])
    event["last_price"] = mantissa(report["L"])
    event["cumulative_quantity"] = mantissa(report["z"])
    event["cumulative_quote"] = mantissa(report["Z"])
    event["commission"] = mantissa(report["n"])
    asset = str(report.get("N") or "")
    event["commission_asset"] = word(asset) if asset.isascii() and len(asset) <= 8 else OTHER_ASSET
    event["execution_id"] = report["I"]
    event["trade_id"] = report["t"]
    event["exchange_time_ns"] = _time_ns(int(report["T"]))
    event["is_maker"] = bool(report["m"])
    return event[0]


def _reply(document: Mapping[str, Any]) -> np.void:
    event = np.zeros(1, EVENT)
    event["reply_id"], event["status"] = document["id"], document["status"]
    result, error = document.get("result"), document.get("error")
    if isinstance(result, Mapping):
        event["venue_order_id"] = result.get("orderId", 0)
    if isinstance(error, Mapping):
        event["venue_code"] = error["code"]
        start = str(error.get("msg", "")).encode()[:8]
        event["message_word"] = int.from_bytes(start, "little", signed=True) if len(start) == 8 else 0
    return event[0]


def _time_ns(time: int) -> int:
    return time * (1_000_000 if time < MILLISECONDS_BELOW else 1_000)
