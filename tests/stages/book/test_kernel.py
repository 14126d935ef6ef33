"""What the book publishes, and what it does when the strategy does not keep up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.book.agent import BookAgent
from stages.book.settings import BookSettings
from stages.domain.edges import BOOK_TO_STRATEGY, FEED_TO_BOOK
from stages.domain.messages import MARKET, NOTICE, BookState, MarketFlag, MarketKind, NoticeKind, Side
from stages.feed.kernel import poll_once as poll_feed
from tests.stages.feed.stepped import Stepped, diff, frame, instruments, pop, popped, push, snapshot, ticker, trade

BIDS = [("100.00", "1.0"), ("99.50", "2.0")]
ASKS = [("101.00", "1.5")]


def synced(delivery: str = "conflate", notice_ring: int | None = None) -> Stepped:
    line = Stepped(delivery=delivery, notice_ring=notice_ring)
    send(line, diff(11, 11))
    line.feed.offer_snapshot(0, snapshot(11, BIDS, ASKS))
    send(line)
    notices(line)
    return line


def send(line: Stepped, *messages: bytes) -> None:
    """Through the feed and into the book; notices stay in their ring."""
    line.feed.offer(b"".join(map(frame, messages)))
    for _ in range(6):
        line.step_feed()
        line.step_book()


def notices(line: Stepped) -> np.ndarray:
    return popped(line.segments[BOOK_TO_STRATEGY], NOTICE)


def test_every_event_of_the_book_is_one_notice_with_the_state_of_its_row() -> None:
    line = synced()
    send(line, diff(12, 12, [("100.00", "7")]), diff(13, 13, [], [("101.00", "0"), ("102.00", "3")]))
    first, second = notices(line)
    assert (int(first["kind"]), int(first["state"])) == (NoticeKind.BOOK, BookState.VALID)
    assert [int(first[name]) for name in ("bid_quantity", "ask_price", "last_id")] == [700_000_000, 10_100_000_000, 12]
    assert [int(second[name]) for name in ("bid_quantity", "ask_price", "last_id")] == [700_000_000, 10_200_000_000, 13]
    assert int(second["seq"]) == int(first["seq"]) + 1
    version, bbo = line.row("bbo")
    assert (version, int(bbo["ask_price"]), int(bbo["ask_quantity"])) == (
        int(second["version"]),
        10_200_000_000,
        300_000_000,
    )
    depth = line.depth()
    assert (int(depth["bid_count"]), int(depth["ask_count"])) == (2, 1)


def test_full_ring_conflates_and_keeps_the_oldest_stamp() -> None:
    line = synced(notice_ring=1)
    send(line, diff(12, 12, [("100.00", "2")]))
    for number in range(13, 17):
        send(line, diff(number, number, [("100.00", str(number))]))
        if number == 13:
            oldest = int(line.bbo()["read_ns"])
    assert int(line.counters("book")["conflated"]) == 3
    assert int(line.bbo()["bid_quantity"]) == 1_600_000_000
    (kept,) = notices(line)
    assert int(kept["last_id"]) == 12
    line.step_book()
    (merged,) = notices(line)
    assert [int(merged[name]) for name in ("last_id", "bid_quantity", "conflated", "read_ns")] == [
        16, 1_600_000_000, 3, oldest,
    ]  # fmt: skip
    line.step_book()
    assert len(notices(line)) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 3), st.just("take")), max_size=40))
def test_books_that_wait_for_room_are_told_in_the_order_in_which_they_began_to(steps: list[int | str]) -> None:
    names, room = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"), 2
    line = Stepped(*names, delivery="conflate", notice_ring=room)
    send(line, *(diff(11, 11, symbol=name) for name in names))
    for symbol in range(len(names)):
        line.feed.offer_snapshot(symbol, snapshot(11, BIDS, ASKS))
        send(line)
    while len(notices(line)):
        line.step_book()
    ids, told, waiting = [11] * len(names), list[tuple[int, int, int]](), dict[int, int]()

    def tell() -> None:
        for symbol in list(waiting)[: room - len(told)]:
            told.append((symbol, ids[symbol], waiting.pop(symbol)))

    for step in [*steps, *["take"] * len(names) * 2]:
        if isinstance(step, int):
            ids[step] += 1
            send(line, diff(ids[step], ids[step], [("100.00", str(ids[step]))], symbol=names[step]))
            waiting[step] = waiting[step] + 1 if step in waiting else 0
        else:
            found = popped(line.segments[BOOK_TO_STRATEGY], NOTICE, 1)
            assert [
                tuple(int(notice[name]) for name in ("symbol", "last_id", "conflated")) for notice in found
            ] == told[:1]
            del told[:1]
            line.step_book()
        tell()
    assert (told, waiting) == ([], {})


def test_trades_are_missed_not_conflated_and_the_volume_says_how_much() -> None:
    line = synced(notice_ring=1)
    send(line, trade(1, "100.5", "0.5"), trade(2, "100.6", "0.25"), trade(3, "100.7", "0.125"))
    assert int(line.counters("book")["trades_missed"]) == 2
    (first,) = notices(line)
    assert [int(first[name]) for name in ("kind", "trade_price", "trade_volume")] == [
        NoticeKind.TRADE, 10_050_000_000, 50_000_000,
    ]  # fmt: skip
    send(line, trade(4, "100.8", "1", seller=False))
    (later,) = notices(line)
    assert int(later["trade_volume"]) == 187_500_000
    assert (int(first["trade_side"]), int(later["trade_side"])) == (Side.SELL, Side.BUY)


def test_aggregate_trades_add_no_volume() -> None:
    line = synced()
    send(line, trade(1, "100.5", "0.5"), trade(9, "100.5", "0.5", kind="aggTrade"))
    assert [int(notice["trade_volume"]) for notice in notices(line)] == [50_000_000, 50_000_000]


def test_with_delivery_every_the_book_waits_for_room() -> None:
    line = synced("every", notice_ring=1)
    send(line, *(diff(number, number, [("100.00", str(number))]) for number in range(12, 20)), trade(1, "1", "1"))
    seen = []
    for _ in range(20):
        seen += list(notices(line))
        line.step_feed()
        line.step_book()
    assert [int(notice["last_id"]) for notice in seen] == [*range(12, 20), 19]
    book = line.counters("book")
    assert (int(book["conflated"]), int(book["trades_missed"])) == (0, 0)


def test_a_crossed_book_and_levels_off_the_grid_are_counted() -> None:
    line = synced()
    send(line, diff(12, 12, [("101.00", "1")]), diff(13, 13, [("99.999", "1"), ("99.00", "0.000001")]))
    assert int(line.counters("book")["crossed"]) == 2
    assert int(line.counters("book")["off_grid"]) == 2


def test_a_book_with_more_levels_than_it_has_room_for_is_stale_until_its_next_snapshot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = Stepped("BTCUSDT", "ETHUSDT", delivery="conflate", book=BookSettings(levels_max=100))
    many = [(f"{100 - number}.00", "1") for number in range(99)]
    send(line, diff(11, 11, symbol="ETHUSDT"), diff(11, 11))
    for symbol in range(2):
        line.feed.offer_snapshot(symbol, snapshot(11, many, ASKS))
        send(line)
    assert [line.bbo(symbol)["state"] for symbol in range(2)] == [BookState.VALID] * 2
    send(line, diff(12, 12, [("100.50", "1")]))
    assert (line.bbo()["state"], line.depth()["bid_count"]) == (BookState.VALID, 100)
    notices(line)
    send(line, diff(13, 13, [("100.60", "1")]))
    assert (line.bbo()["state"], line.depth()["state"], line.depth()["bid_count"]) == (
        BookState.STALE, BookState.STALE, 100,
    )  # fmt: skip
    assert [int(notice["state"]) for notice in notices(line)] == [BookState.STALE]
    send(line, diff(14, 14, [("100.60", "0")]))
    assert (line.bbo()["state"], line.bbo()["bid_price"]) == (BookState.STALE, 10_050_000_000), "it shows what it knows"
    send(line, diff(12, 12, [("99.50", "1")], symbol="ETHUSDT"))
    assert line.bbo(1)["state"] == BookState.VALID, "another symbol has nothing to do with it"
    for _ in range(2):
        line.book.service(0)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["BTCUSDT"]
    assert int(line.counters("book")["levels_dropped"]) == 1
    line.feed.context.state[0]["reset_wanted"] = 1
    send(line, diff(21, 21))
    line.feed.offer_snapshot(0, snapshot(21, BIDS, ASKS))
    send(line)
    assert line.bbo()["state"] == BookState.VALID


def test_the_book_is_compared_with_the_last_ticker_up_to_its_id() -> None:
    line = synced()
    send(
        line,
        ticker(12, ("100.00", "4.0"), ASKS[0]),
        ticker(14, ("100.00", "9.0"), ASKS[0]),
        diff(12, 13, [("100.00", "4.0")]),
        diff(14, 14, [("100.00", "8.0")]),
    )
    book = line.counters("book")
    assert (int(book["bbo_checked"]), int(book["bbo_mismatches"])) == (2, 1)


@pytest.mark.parametrize(
    ("bid", "ask", "bids", "asks", "outcome"),
    [
        (("99.10", "5"), ("101.00", "1.5"), [], [], "beyond"),  # deeper than all that the snapshot told
        (("99.10", "5"), ("101.00", "1.5"), [("99.10", "5")], [], "agrees"),
        (("99.10", "5"), ("101.00", "1.5"), [("99.10", "4")], [], "differs"),  # there, but not as much
        (("99.10", "5"), ("101.00", "1.5"), [("99.20", "4")], [], "differs"),  # a better one that should be gone
        (("99.10", "5"), ("101.00", "2.5"), [], [], "differs"),  # the other side is known
        (("99.50", "5"), ("101.00", "1.5"), [], [], "differs"),  # the deepest that the snapshot told is known
        (("99.10", "5"), ("101.01", "7"), [], [("101.00", "0")], "beyond"),
        (("99.10", "5"), ("101.00", "7"), [], [("101.00", "0")], "differs"),
    ],
)
def test_what_lies_beyond_the_snapshot_is_not_compared(bid, ask, bids, asks, outcome) -> None:  # type: ignore[no-untyped-def]
    line = synced()
    send(line, ticker(12, bid, ask), diff(12, 12, [("100.00", "0"), ("99.50", "0"), *bids], asks))
    book = line.counters("book")
    found = [int(book[name]) for name in ("bbo_checked", "bbo_mismatches", "bbo_beyond_snapshot")]
    assert found == {"agrees": [1, 0, 0], "differs": [1, 1, 0], "beyond": [0, 0, 1]}[outcome]


def test_without_a_ticker_old_enough_nothing_is_compared() -> None:
    line = synced()
    send(line, ticker(50, BIDS[0], ASKS[0]), diff(12, 12))
    assert int(line.counters("book")["bbo_checked"]) == 0


def _record(kind: MarketKind, flags: int, last_id: int, price: int = 0, quantity: int = 0) -> np.ndarray:
    record = np.zeros(1, MARKET)
    record["kind"], record["flags"], record["last_id"] = kind, flags, last_id
    if price:
        record["bid_count"] = record["level_count"] = record["event_levels"] = 1
        record["price"][0, 0], record["quantity"][0, 0] = price, quantity
    return record


def _push(line: Stepped, record: np.ndarray) -> None:
    assert push(line.segments[FEED_TO_BOOK].address, record.ctypes.data)


def test_an_event_that_stays_half_makes_its_book_dirty() -> None:
    line = synced()
    _push(line, _record(MarketKind.DIFF, MarketFlag.FIRST, 12, 10_000_000_000, 5))
    line.step_book()
    assert int(line.bbo()["last_id"]) == 11, "published before the event's end"
    _push(line, _record(MarketKind.TICKER, MarketFlag.FIRST | MarketFlag.END, 12))
    line.step_book()
    assert line.bbo()["state"] == BookState.DIRTY
    assert int(line.counters("book")["half_events"]) == 1
    _push(line, _record(MarketKind.DIFF, MarketFlag.FIRST | MarketFlag.END, 13, 10_000_000_000, 5))
    line.step_book()
    assert int(line.counters("book")["diffs_ignored"]) == 1
    assert [int(notice["state"]) for notice in notices(line)] == [BookState.DIRTY]


def test_the_rest_of_an_event_whose_beginning_is_lost_is_ignored() -> None:
    line = synced()
    _push(line, _record(MarketKind.DIFF, MarketFlag.END, 12, 10_000_000_000, 5))
    line.step_book()
    assert (int(line.bbo()["last_id"]), int(line.counters("book")["half_events"])) == (11, 1)


def test_a_new_book_is_sent_everything_anew() -> None:
    line = synced()
    line.book = BookAgent(instruments("BTCUSDT"), BookSettings(), "conflate")
    line._attach(line.book)
    line.feed.service(0)
    send(line, diff(12, 12))
    assert line.bbo()["state"] == BookState.DIRTY
    line.feed.offer_snapshot(0, snapshot(12, BIDS, ASKS))
    send(line)
    assert line.bbo()["state"] == BookState.VALID


def test_unknown_delivery_is_refused() -> None:
    with pytest.raises(ValueError, match="delivery='sometimes'"):
        BookAgent(instruments("BTCUSDT"), BookSettings(), "sometimes")


def test_an_idle_input_says_so() -> None:
    line = synced()
    assert line.book.idle_input()
    line.feed.offer(frame(diff(12, 12)))
    poll_feed(line.feed.context, 0)
    assert not line.book.idle_input()
    assert pop(line.segments[FEED_TO_BOOK].address, np.zeros(1, MARKET).ctypes.data)


@pytest.mark.parametrize("price", ["46116860184.27387904", "50000000000.00000000", "92233720368.54775807"])
def test_a_price_beyond_what_a_book_can_sort_is_counted_and_changes_nothing(price: str) -> None:
    line = synced()
    _, before = line.row("depth")
    send(line, diff(12, 12, [(price, "1.0")]), diff(12, 12, [], [(price, "1.0")]))
    assert line.counters("feed")["overflowed"] == 2
    _, after = line.row("depth")
    assert before.tobytes() == after.tobytes()
    send(line, diff(12, 12, [("100.50", "1.0")], [("46116860184.27387903", "1.0")]))
    _, bbo = line.row("bbo")
    assert (int(bbo["bid_price"]), int(bbo["state"])) == (10_050_000_000, BookState.VALID)
    assert (int(line.depth()["bid_count"]), int(line.depth()["ask_count"])) == (3, 2)


@pytest.mark.parametrize("number", ["92233720368.54775808", "0.000000001"])
def test_a_number_that_does_not_fit_is_told_and_costs_its_own_symbol_its_book_until_a_snapshot(
    number: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = Stepped("BTCUSDT", "ETHUSDT", delivery="conflate")
    send(line, diff(11, 11, symbol="ETHUSDT"), diff(11, 11))
    for symbol in range(2):
        line.feed.offer_snapshot(symbol, snapshot(11, BIDS, ASKS))
        send(line)
    send(line, diff(12, 12, [("100.00", number)]), diff(12, 12, [("99.00", "1")], symbol="ETHUSDT"))
    feed = line.counters("feed")
    assert int(feed["overflowed"]) + int(feed["too_many_decimals"]) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"], "the error log has it"
    assert "message not used" in caplog.text
    assert line.bbo()["bid_quantity"] == 100_000_000, "it is not rounded"
    send(line, diff(13, 13, [("99.50", "3")]))
    assert [line.bbo(symbol)["state"] for symbol in range(2)] == [BookState.DIRTY, BookState.VALID]
    line.feed.offer_snapshot(0, snapshot(13, BIDS, ASKS))
    send(line)
    assert line.bbo()["state"] == BookState.VALID
