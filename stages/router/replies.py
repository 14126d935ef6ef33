"""Replies to order.place and order.cancel. What became of an order is said by its execution reports; a reply adds the
acknowledgement, the refusal, and the case nobody wants: the venue does not know.

Source of the codes: binance-spot-api-docs errors.md.
"""

import numpy as np

from shm.kernel import primitive, routine
from stages.domain.codecs.json_scan import word
from stages.domain.messages import Reason
from stages.domain.orders import IS_OPEN, SLOT_MASK
from stages.router.lifecycle import (
    FREE,
    NOT_FINAL,
    PENDING_CANCEL,
    REJECTED,
    REPORT_CANCEL_REJECTED,
    REPORT_REJECTED,
    REPORT_UNKNOWN,
    UNKNOWN,
    WORKING,
    accept,
    emit,
    end,
    publish_position,
    set_state,
    settle,
)
from stages.router.records import Context, plain

OK = 200
SERVER_ERRORS = 500
DISCONNECTED, UNEXPECTED_RESPONSE, TIMED_OUT = -1001, -1006, -1007
FILTER, TOO_MANY_REQUESTS, TOO_MANY_ORDERS = -1013, -1003, -1015
ORDER_REJECTED, CANCEL_REJECTED, NO_SUCH_ORDER = -2010, -2011, -2013
_WOULD_MATCH, _BALANCE = word("Order wo"), word("Account ")

VENUE_FILTER = plain(Reason.VENUE_FILTER)
VENUE_INSUFFICIENT_BALANCE = plain(Reason.VENUE_INSUFFICIENT_BALANCE)
VENUE_WOULD_MATCH = plain(Reason.VENUE_WOULD_MATCH)
VENUE_UNKNOWN_ORDER = plain(Reason.VENUE_UNKNOWN_ORDER)
VENUE_RATE_LIMIT = plain(Reason.VENUE_RATE_LIMIT)
VENUE_OTHER = plain(Reason.VENUE_OTHER)


@primitive
def reason_of(code: int, message_word: int) -> int:
    """Reason for an error code of the venue; -2010 says only in words what it means."""
    if code == FILTER:
        return VENUE_FILTER
    if code in (TOO_MANY_REQUESTS, TOO_MANY_ORDERS):
        return VENUE_RATE_LIMIT
    if code in (CANCEL_REJECTED, NO_SUCH_ORDER):
        return VENUE_UNKNOWN_ORDER
    if code == ORDER_REJECTED and message_word == _WOULD_MATCH:
        return VENUE_WOULD_MATCH
    if code == ORDER_REJECTED and message_word == _BALANCE:
        return VENUE_INSUFFICIENT_BALANCE
    return VENUE_OTHER


@primitive
def is_undecided(status: int, code: int) -> bool:
    """Whether an error leaves open what became of the request (binance.md 1.6: never treat it as a failure)."""
    return status >= SERVER_ERRORS or code in (DISCONNECTED, UNEXPECTED_RESPONSE, TIMED_OUT)


@routine
def apply_reply(context: Context) -> None:
    """Take the event, a reply, into the order it is about."""
    event = context.event[0]
    order_id = event["reply_id"] >> 1
    is_cancel = event["reply_id"] & 1 == 1
    row = context.orders[order_id & SLOT_MASK]
    if row["order_id"] != order_id or row["state"] == FREE:
        context.counters[0]["reports_unmatched"] += 1
    elif event["status"] == OK:
        if not is_cancel and IS_OPEN[row["state"]]:
            accept(context, row)
            settle(context, row)
    elif IS_OPEN[row["state"]]:
        _refused(context, row, is_cancel)
        settle(context, row)
        publish_position(context, row["symbol"])


@primitive
def _may_still_arrive(context: Context, row: np.void) -> bool:
    """Whether an order of unknown fate may be known to the venue only later.

    Its engine takes up to 10 s before it gives up (binance.md 1.6), and a query, on this or on a later connection, may
    overtake an order. One whose last byte was never handed over cannot arrive.
    """
    state, sent_ns = context.state[0], row["sent_ns"]
    return row["state"] == UNKNOWN and sent_ns > 0 and state["read_ns"] - sent_ns < state["not_found_wait_ns"]


@primitive
def _refused(context: Context, row: np.void, is_cancel: bool) -> None:
    event, report = context.event[0], context.report[0]
    code = event["venue_code"]
    if code == NO_SUCH_ORDER and not is_cancel and _may_still_arrive(context, row):
        return  # asked again later
    report["venue_code"] = code
    reason = reason_of(code, event["message_word"])
    # A refusal of what was accepted contradicts itself: only the venue knows, as when it says so.
    contradicts = not is_cancel and row["is_acked"] != 0 and code != NO_SUCH_ORDER
    if contradicts or is_undecided(event["status"], code):
        if row["state"] != UNKNOWN:
            set_state(context, row, UNKNOWN)
            emit(context, row, REPORT_UNKNOWN, reason, NOT_FINAL)
        else:
            report["venue_code"] = 0  # nothing is said: the code must not go out with the next report
    elif is_cancel:
        context.counters[0]["cancels_refused"] += 1
        if code == CANCEL_REJECTED and row["state"] != UNKNOWN:
            # Not there to cancel, but open to us: its end is on the way, or was lost. Asked for, unless it comes first.
            set_state(context, row, UNKNOWN)
            row["asked_ns"] = context.state[0]["read_ns"]
        elif row["state"] == PENDING_CANCEL:
            set_state(context, row, WORKING)
        emit(context, row, REPORT_CANCEL_REJECTED, reason, NOT_FINAL)
    else:
        context.counters[0]["rejected_by_venue"] += 1
        end(context, row, REJECTED, REPORT_REJECTED, reason)
