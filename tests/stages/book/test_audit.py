"""Integrity checks beside the work: in idle time, and at once when somebody asks; what a broken book comes to."""

import logging

import numpy as np
import pytest

from shm import seqlock
from shm.atomics import peek, poke
from stages.book.audit import STEP_NS
from stages.domain.edges import CHECK_REQUESTS, CHECK_TABLE
from stages.domain.messages import BOOK_CHECK, CHECK_REQUEST, BookState
from stages.domain.orderbook import l2, l2_book, top
from tests.stages.book.test_kernel import ASKS, BIDS, notices, send
from tests.stages.feed.stepped import Stepped, diff, snapshot


def synced() -> Stepped:
    """A line of two symbols, of which the first is synced."""
    line = Stepped("BTCUSDT", "ETHUSDT", delivery="conflate")
    send(line, diff(11, 11))
    line.feed.offer_snapshot(0, snapshot(11, BIDS, ASKS))
    send(line)
    notices(line)
    return line


def ask(line: Stepped, symbol: int) -> None:
    """As the supervisor does."""
    requests = line.segments[CHECK_REQUESTS].address
    for row in (1 + symbol, 0):
        at = requests + row * CHECK_REQUEST.itemsize
        poke(at, peek(at) + 1)


def answer(line: Stepped, symbol: int) -> np.void:
    """The newest row of the table of checks."""
    row = line.segments[CHECK_TABLE].address + symbol * seqlock.row_bytes(BOOK_CHECK.itemsize)
    newest = seqlock.newest(row, BOOK_CHECK.itemsize)
    target = np.zeros(1, BOOK_CHECK)
    for offset in range(0, BOOK_CHECK.itemsize, 8) if newest else ():
        poke(target.ctypes.data + offset, peek(newest + offset))
    return target[0]


def idle(line: Stepped, polls: int, gap_ns: int = STEP_NS) -> None:
    for _ in range(polls):
        line.now_ns += gap_ns
        line.step_book()


def break_levels(line: Stepped) -> None:
    """The number of levels of the first symbol's bids."""
    book = int(line.book.context.books[0]["top"])
    at = book + peek(book + l2_book.SIDES) + l2.LEVELS
    poke(at, peek(at) + 1)


def test_idle_time_goes_round_the_books() -> None:
    line = synced()
    idle(line, 60)
    checks = [int(answer(line, symbol)["checks"]) for symbol in range(2)]
    assert min(checks) >= 3
    assert line.counters("book")["checks"] in (sum(checks), sum(checks) + 1)
    assert (int(answer(line, 0)["levels"]), int(answer(line, 0)["is_whole"])) == (len(BIDS) + len(ASKS), 1)
    assert (int(answer(line, 1)["levels"]), int(answer(line, 1)["fault"])) == (0, 0)


def test_idle_steps_keep_their_distance_and_cost_a_busy_book_nothing() -> None:
    line = synced()
    idle(line, 1_000, gap_ns=STEP_NS // 100)
    assert int(line.counters("book")["checks"]) <= 4
    before = int(line.counters("book")["checks"])
    for number in range(12, 40):
        line.now_ns += STEP_NS
        send_one(line, number)
    assert int(line.counters("book")["checks"]) == before


def send_one(line: Stepped, number: int) -> None:
    """A diff, taken in the one poll that the book gets."""
    line.feed.offer(_frame(number))
    line.step_feed()
    assert line.step_book() > 0
    notices(line)


def _frame(number: int) -> bytes:
    from tests.stages.feed.stepped import frame

    return frame(diff(number, number, [("99.00", str(number))]))


@pytest.mark.parametrize("symbol", [0, 1])
def test_who_asks_is_answered_by_a_busy_book_too(symbol: int) -> None:
    line = synced()
    for number in range(12, 30):
        if number == 14:
            ask(line, symbol)
        send_one(line, number)
    assert (int(answer(line, symbol)["request"]), int(answer(line, symbol)["fault"])) == (1, 0)
    ask(line, symbol)
    ask(line, 1 - symbol)
    idle(line, 20, gap_ns=0)
    assert [int(answer(line, number)["request"]) for number in (symbol, 1 - symbol)] == [2, 1]
    checks = int(line.counters("book")["checks"])
    idle(line, 20, gap_ns=0)
    assert int(line.counters("book")["checks"]) == checks, "nobody asks any more"


def test_a_broken_book_is_stale_and_says_so_and_the_next_snapshot_heals_it(caplog: pytest.LogCaptureFixture) -> None:
    line = synced()
    break_levels(line)
    ask(line, 0)
    idle(line, 10, gap_ns=0)
    row = answer(line, 0)
    assert [int(row[name]) for name in ("request", "violations", "is_whole")] == [1, 1, 0]
    assert row["fault"] > 0
    assert line.bbo()["state"] == line.depth()["state"] == BookState.STALE
    assert [int(line.bbo()[name]) for name in ("bid_quantity", "ask_quantity")] == [0, 0]
    assert [int(notice["state"]) for notice in notices(line)] == [BookState.STALE]
    assert int(line.counters("book")["violations"]) == 1
    with caplog.at_level(logging.ERROR):
        line.book.service(0)
        line.book.service(0)
    assert [record.message for record in caplog.records if "BTCUSDT: the integrity check" in record.message] != []
    assert len(caplog.records) == 1
    send(line, diff(12, 12, [("100.00", "5")]))
    assert (int(line.counters("book")["diffs_ignored"]), int(line.bbo()["state"])) == (1, BookState.STALE)
    assert line.row("bbo", 1)[0] == 0, "the other symbol has nothing to do with it"

    line.feed.context.state[0]["reset_wanted"] = 1
    send(line)
    assert line.bbo()["state"] == BookState.DIRTY
    send(line, diff(21, 21))
    line.feed.offer_snapshot(0, snapshot(21, BIDS, ASKS))
    send(line)
    assert line.bbo()["state"] == BookState.VALID
    assert line.bbo()["bid_price"] == 10_000_000_000
    ask(line, 0)
    idle(line, 10, gap_ns=0)
    assert (int(answer(line, 0)["fault"]), int(answer(line, 0)["is_whole"])) == (0, 1)


def test_the_steps_find_a_wrong_top_in_idle_time() -> None:
    line = synced()
    at = int(line.book.context.books[0]["top"]) + top.SPREAD
    poke(at, peek(at) + 1)
    idle(line, 20)
    assert int(line.counters("book")["violations"]) == 1
    assert line.bbo()["state"] == BookState.STALE
