"""The compiled loops of a dedicated line, but for the strategy's: the same whatever it trades by.

A file of its own, not generated with the strategy's loop, so that its compiled code is kept under the hash of our
sources and a new or edited strategy compiles nothing but itself.
"""

from typing import Any

from shm.clock import now_ns
from shm.kernel import kernel, primitive
from stages.book.kernel import poll as poll_book
from stages.duty import FAULT_AGENT, FAULT_CODE, Duty, turn
from stages.feed.kernel import poll as poll_feed
from stages.risk.kernel import poll as poll_risk
from stages.router.kernel import poll as poll_router


@primitive
def is_over(duty: Duty, attention: int, now: int, end: int, result: int) -> bool:
    """Whether the loop is left, after a poll that returned `result`: on a fault, at the end of the slice, or asked."""
    if result < 0:
        duty.words[FAULT_AGENT] = 0
        duty.words[FAULT_CODE] = result
        return True
    return turn(duty, attention, now, result) or now >= end


@kernel
def run_feed(feed: Any, duty: Duty, attention: int, slice_ns: int) -> int:
    """Poll the feed until the slice is over; 0, or what a poll that needs the cold side returned."""
    end = now_ns(duty.clock) + slice_ns
    while True:
        now = now_ns(duty.clock)
        result = poll_feed(feed, now)
        if is_over(duty, attention, now, end, result):
            return min(result, 0)


@kernel
def run_book(book: Any, duty: Duty, attention: int, slice_ns: int) -> int:
    """The same for the book."""
    end = now_ns(duty.clock) + slice_ns
    while True:
        now = now_ns(duty.clock)
        result = poll_book(book, now)
        if is_over(duty, attention, now, end, result):
            return min(result, 0)


@kernel
def run_risk(risk: Any, duty: Duty, attention: int, slice_ns: int) -> int:
    """The same for risk."""
    end = now_ns(duty.clock) + slice_ns
    while True:
        now = now_ns(duty.clock)
        result = poll_risk(risk, now)
        if is_over(duty, attention, now, end, result):
            return min(result, 0)


@kernel
def run_router(router: Any, duty: Duty, attention: int, slice_ns: int) -> int:
    """The same for the router."""
    end = now_ns(duty.clock) + slice_ns
    while True:
        now = now_ns(duty.clock)
        result = poll_router(router, now)
        if is_over(duty, attention, now, end, result):
            return min(result, 0)
