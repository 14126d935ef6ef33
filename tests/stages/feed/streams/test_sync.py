"""Feed and book together against the venue's documented synchronisation, under every kind of delivery."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.domain.edges import FEED_TO_BOOK
from stages.domain.messages import DEPTH_LEVELS, MARKET, BookState, MarketKind
from stages.feed.base import STAGING_RECORDS
from stages.feed.context import UNSYNCED, Format
from stages.feed.settings import FeedSettings
from tests.oracle.binance_sync import Diff, NaiveSync
from tests.stages.feed.stepped import Stepped, diff, frame, instruments, popped, snapshot, ticker, trade

BIDS = [("100.00", "1.0"), ("99.50", "2.0")]
ASKS = [("101.00", "1.5")]
DEEP = [(f"{level}.00", "1") for level in range(1, 2_001)]
"""500 records."""


def _text(mantissa: int) -> str:
    return f"{Decimal(mantissa).scaleb(-8):.8f}"


def _pairs(levels: tuple[tuple[int, int], ...]) -> list[tuple[str, str]]:
    return [(_text(price), _text(quantity)) for price, quantity in levels]


def _assert_same(line: Stepped, naive: NaiveSync, symbol: int = 0) -> None:
    bbo, depth = line.bbo(symbol), line.depth(symbol)
    assert (bbo["state"] == BookState.VALID) == (naive.book_id is not None)
    if naive.book_id is None:
        return
    assert int(bbo["last_id"]) == naive.book_id
    names = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
    assert tuple(int(bbo[name]) for name in names) == naive.book.best()
    for side, levels in (("bid", naive.book.bid_levels()), ("ask", naive.book.ask_levels())):
        shown = int(depth[f"{side}_levels"])
        assert shown == min(len(levels), DEPTH_LEVELS)
        assert int(depth[f"{side}_count"]) == len(levels)
        found = zip(depth[f"{side}_price"].tolist(), depth[f"{side}_quantity"].tolist(), strict=True)
        assert list(found)[:shown] == levels[:DEPTH_LEVELS]


levels = st.lists(
    st.tuples(st.integers(1, 40).map(lambda n: n * 1_000_000), st.integers(0, 3).map(lambda n: n * 1_000)), max_size=9
).map(tuple)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("diff"), st.integers(-3, 2), st.integers(0, 4), levels, levels),
        st.tuples(st.just("snapshot"), st.integers(-6, 6), levels, levels),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(steps=steps, feed_ring=st.sampled_from([2, 8, None]), data=st.data())
def test_book_follows_the_documented_rules(steps: list, feed_ring: int | None, data: st.DataObject) -> None:
    """Diffs that overlap, repeat or leave gaps; snapshots early, late and never; any chunks; rings of any size."""
    line, naive = Stepped(feed_ring=feed_ring), NaiveSync()
    newest = 1_000
    for step in steps:
        if step[0] == "diff":
            _, offset, length, bids, asks = step
            first = newest + 1 + offset
            last = first + length
            newest = max(newest, last)
            naive.on_diff(Diff(first, last, bids, asks))
            wire = frame(diff(first, last, _pairs(bids), _pairs(asks)))
            cut = data.draw(st.integers(0, len(wire)), label="cut")
            line.feed.offer(wire[:cut])
            line.run()
            line.feed.offer(wire[cut:])
        else:
            _, offset, bids, asks = step
            bids = tuple((price, 1_000) for price, _ in bids)
            asks = tuple((price + 10**10, 1_000) for price, _ in asks)
            naive.on_snapshot(newest + offset, list(bids), list(asks))
            line.feed.offer_snapshot(0, snapshot(newest + offset, _pairs(bids), _pairs(asks)))
        line.run()
        _assert_same(line, naive)
    feed = line.counters("feed")
    assert (int(feed["gaps"]), int(feed["stale"])) == (naive.gaps, naive.stale)


def _synced(**settings: object) -> Stepped:
    line = Stepped(**settings)  # type: ignore[arg-type]
    line.feed.offer(frame(diff(11, 12)))
    line.run()
    line.feed.offer_snapshot(0, snapshot(11, BIDS, ASKS))
    line.run()
    assert line.bbo()["state"] == BookState.VALID
    assert int(line.bbo()["last_id"]) == 12
    return line


def test_gap_makes_the_book_dirty_until_the_next_snapshot() -> None:
    line = _synced()
    line.feed.offer(frame(diff(14, 15, [("100.00", "9")])))
    line.run()
    assert line.bbo()["state"] == BookState.DIRTY
    assert int(line.bbo()["bid_quantity"]) == 0
    line.feed.offer_snapshot(0, snapshot(12, BIDS, ASKS))  # too old: 13 is missing
    line.run()
    assert line.bbo()["state"] == BookState.DIRTY
    assert int(line.counters("feed")["snapshots_too_old"]) == 1
    line.feed.offer_snapshot(0, snapshot(13, BIDS, ASKS))
    line.run()
    assert line.bbo()["state"] == BookState.VALID
    assert int(line.bbo()["bid_quantity"]) == 900_000_000
    assert (int(line.counters("feed")["gaps"]), int(line.counters("feed")["resyncs"])) == (1, 1)


def test_a_gap_among_what_is_held_shows_when_it_is_released() -> None:
    """What is behind it waits for the next snapshot, which must not be older than that."""
    line = Stepped()
    line.feed.offer(b"".join(frame(diff(n, n, [("100.00", f"{n}")])) for n in (11, 12, 14, 15, 18, 19)))
    line.run()
    seen = []
    for last in (11, 12, 13, 16, 17):
        line.feed.offer_snapshot(0, snapshot(last, BIDS, ASKS))
        line.run()
        feed = line.counters("feed")
        counted = tuple(int(feed[name]) for name in ("gaps", "resyncs", "stale", "snapshots_too_old", "holding"))
        seen.append((BookState(int(line.bbo()["state"])).name, counted))
    assert seen == [
        ("DIRTY", (1, 0, 1, 0, 4)),  # 12 was applied, 13 is missing
        ("DIRTY", (1, 0, 1, 1, 4)),  # nothing but a snapshot of 13 or later joins to 14
        ("DIRTY", (2, 1, 1, 1, 2)),  # 14 and 15 were applied, 16 and 17 are missing
        ("DIRTY", (2, 1, 1, 2, 2)),
        ("VALID", (2, 2, 1, 2, 0)),
    ]
    assert (int(line.bbo()["last_id"]), int(line.bbo()["bid_quantity"])) == (19, 1_900_000_000)


def test_what_is_held_when_all_books_are_lost_counts_as_dropped_and_the_rest_goes_on() -> None:
    """Also what is on its way out: staging has room for some of it at a time, and the book's ring for less."""
    line = Stepped(feed_ring=2)
    line.feed.offer(b"".join(frame(diff(n, n, DEEP)) for n in range(11, 61)))
    line.run()
    line.feed.offer_snapshot(0, snapshot(10, BIDS, ASKS))
    line.step_feed()
    feed, state = line.counters("feed"), line.feed.context.state[0]
    holding = int(feed["holding"])
    assert 0 < holding < 50
    state["reset_wanted"] = 1
    line.feed.offer(frame(diff(61, 61, [("1.00", "7")])))
    line.run()
    assert (int(feed["dropped"]), int(feed["holding"]), int(line.counters("book")["half_events"])) == (holding, 1, 0)
    assert line.bbo()["state"] == BookState.DIRTY
    line.feed.offer_snapshot(0, snapshot(60, BIDS, ASKS))
    line.run()
    assert (int(line.bbo()["state"]), int(line.bbo()["last_id"]), int(feed["holding"])) == (BookState.VALID, 61, 0)


def test_a_feed_that_goes_on_for_another_holds_nothing() -> None:
    line = Stepped()
    line.feed.offer(frame(diff(11, 12)))
    line.run()
    assert int(line.counters("feed")["holding"]) == 1
    line.feed = line._new_feed(instruments("BTCUSDT"), FeedSettings(), "every", Format.BINANCE)
    line._attach(line.feed)
    assert int(line.counters("feed")["holding"]) == 0


def test_a_diff_that_cannot_be_read_shows_as_a_gap_and_heals() -> None:
    for damage in (
        diff(13, 13, [("1e5", "1")]).replace(b"1e5", b"1x5"),
        diff(13, 13)[:-5],
        diff(13, 13, [("92233720368.54775808", "1")]),
        diff(13, 13, [("1.123456789", "1")]),
        b"\xff\xfe\xfd",
        diff(13, 13).replace(b"btcusdt@", b"\xff\xfe@"),
    ):
        line = _synced()
        line.feed.offer(frame(damage) + frame(diff(14, 14)))
        line.run()
        assert line.bbo()["state"] == BookState.DIRTY, damage
        feed = line.counters("feed")
        assert int(feed["gaps"]) == 1
        assert sum(int(feed[name]) for name in ("malformed", "overflowed", "too_many_decimals")) == 1
        assert int(feed["frames"]) == 3
        line.feed.offer_snapshot(0, snapshot(13, BIDS, ASKS))
        line.run()
        assert line.bbo()["state"] == BookState.VALID


def test_unusual_but_right_messages_keep_their_place() -> None:
    line = _synced()
    spaced = diff(13, 13, [("100.00", "7")]).replace(b",", b" , ").replace(b":", b" : ")
    swapped = b'{"stream":"x","data":{"e":"depthUpdate","a":[],"b":[["100.00",8]],"u":14,"U":14,"s":"BTCUSDT","E":1}}'
    escaped = diff(15, 15, [("99.50", "3")]).replace(b"BTCUSDT", b"\\u0042TCUSDT")
    line.feed.offer(b"".join(map(frame, (spaced, swapped, escaped, diff(16, 16, [("98.00", "1")])))))
    line.run()
    bbo, feed = line.bbo(), line.counters("feed")
    assert (int(bbo["state"]), int(bbo["last_id"]), int(bbo["bid_quantity"])) == (BookState.VALID, 16, 800_000_000)
    assert (int(feed["unrecognised"]), int(feed["malformed"]), int(feed["gaps"])) == (3, 0, 0)
    assert int(feed["frames"]) == 5


def test_answers_to_requests_are_no_stream_payload() -> None:
    line = _synced()
    line.feed.offer(frame(b'{"result":null,"id":1}') + frame(b'{"e":"serverShutdown","E":1}'))
    line.run()
    feed = line.counters("feed")
    assert (int(feed["frames"]), int(feed["other_messages"]), int(feed["malformed"])) == (2, 2, 0)


def _events(records: np.ndarray) -> list[bytes]:
    """Records without the stamps that depend on when the test ran."""
    copy = records.copy()
    copy["read_ns"] = copy["publish_ns"] = 0
    return [record.tobytes() for record in copy]


def _script() -> bytes:
    wire = b""
    for number in range(20):
        deep = [(f"{50 + level}.00", f"{level + number}.5") for level in range(number * 3)]
        wire += frame(diff(13 + number, 13 + number, deep, ASKS))
        wire += frame(ticker(13 + number, BIDS[0], ASKS[0])) + frame(trade(number, "100.5", "0.25"))
    return wire


def test_back_pressure_delays_and_streams_but_changes_nothing() -> None:
    outputs = []
    for capacity in (2, 4, 1024):
        line = Stepped(feed_ring=capacity)
        line.feed.offer(frame(diff(11, 12)))
        line.step_feed()
        line.feed.offer_snapshot(0, snapshot(11, BIDS * 8, ASKS * 9))
        line.feed.offer(_script())
        taken = []
        for _ in range(3_000):
            line.step_feed()
            taken.append(popped(line.segments[FEED_TO_BOOK], MARKET, limit=1))
        outputs.append(_events(np.concatenate(taken)))
        assert (int(line.counters("feed")["backpressure"]) > 0) == (capacity < 1024)
    assert outputs[0] == outputs[1] == outputs[2]


def test_live_back_pressure_skips_at_an_event_boundary_and_marks_gaps() -> None:
    line = _synced(delivery="conflate", feed_ring=2)
    line.run()
    big = diff(13, 13, [(f"{level}.00", "1") for level in range(1, 41)])
    line.feed.offer(frame(big) + b"".join(frame(diff(n, n)) for n in range(14, 40)))
    line.now_ns = int(line.feed.context.state[0]["read_ns"])
    for _ in range(5):
        line.step_feed()  # two records of ten fit; nobody reads
    assert int(line.counters("feed")["dropped"]) == 0
    line.now_ns += 10_000_000_000
    for _ in range(5):
        line.step_feed()
    assert int(line.counters("feed")["dropped"]) == 26
    line.now_ns = 0
    for _ in range(200):
        line.step_book()
        line.step_feed()
    assert int(line.counters("book")["half_events"]) == 0
    assert int(line.counters("feed")["gaps"]) == 1
    assert line.bbo()["state"] == BookState.DIRTY
    line.feed.offer(frame(diff(40, 40)))
    line.run()
    line.feed.offer_snapshot(0, snapshot(39, BIDS, ASKS))
    line.run()
    assert (int(line.bbo()["state"]), int(line.bbo()["last_id"])) == (BookState.VALID, 40)


def test_a_replay_holds_whatever_comes_before_its_snapshot_and_releases_it_as_there_is_room() -> None:
    """More than the hold has room for at first, and more than staging has room for at once."""
    line = Stepped()
    wire = [frame(diff(n, n, DEEP)) for n in range(11, 111)]
    for begin in range(0, 100, 10):
        line.feed.offer(b"".join(wire[begin : begin + 10]))
        line.run()
    feed = line.counters("feed")
    assert int(feed["held"]) == 100
    assert int(line.feed.context.sync[0]["hold_records"]) > 50_000 > 2 * STAGING_RECORDS
    line.feed.offer_snapshot(0, snapshot(10, BIDS, ASKS))
    line.feed.offer(frame(diff(111, 111, [("1.00", "7")])))
    line.run()
    assert (int(feed["hold_overflows"]), int(feed["dropped"]), int(feed["gaps"])) == (0, 0, 0)
    assert (int(feed["events"]), int(line.bbo()["last_id"])) == (102, 111)


def test_room_for_what_is_held_grows_with_what_is_held_and_not_with_what_has_been() -> None:
    line = Stepped()
    for first in range(11, 211, 10):
        line.feed.offer(
            b"".join(frame(diff(n, n, DEEP)) for n in (*range(first, first + 4), *range(first + 5, first + 9)))
        )
        line.run()
        line.feed.offer_snapshot(0, snapshot(first - 1, BIDS, ASKS))  # what is behind the gap stays held
        line.run()
        assert int(line.counters("feed")["holding"]) == 4
        line.feed.offer_snapshot(0, snapshot(first + 4, BIDS, ASKS))
        line.feed.offer(frame(diff(first + 10, first + 10)))
        line.run()
    assert int(line.feed.context.sync[0]["hold_records"]) <= 2 * (8 * 500 + STAGING_RECORDS)


def test_what_a_replay_holds_has_a_limit(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("stages.feed.agent.HELD_BYTES_MAX", 1 << 20)
    line = Stepped(hold_records=64)
    for number in range(11, 111):
        line.feed.offer(frame(diff(number, number, DEEP)))
        line.run()
    feed = line.counters("feed")
    assert "no snapshot fits what has come" in caplog.text
    assert int(feed["hold_overflows"]) > 0
    line.feed.offer_snapshot(0, snapshot(109, BIDS, ASKS))
    line.run()
    assert (int(line.bbo()["state"]), int(line.bbo()["last_id"])) == (BookState.VALID, 110)


def test_a_live_hold_that_overflows_starts_anew() -> None:
    line = Stepped(delivery="conflate", hold_records=64)
    line.feed.offer(b"".join(frame(diff(n, n, BIDS * 4)) for n in range(11, 111)))
    line.run()
    assert int(line.counters("feed")["hold_overflows"]) > 0
    line.feed.offer_snapshot(0, snapshot(10, BIDS, ASKS))
    line.run()
    assert int(line.counters("feed")["snapshots_too_old"]) == 1
    line.feed.offer_snapshot(0, snapshot(106, BIDS, ASKS))
    line.run()
    assert (int(line.bbo()["state"]), int(line.bbo()["last_id"])) == (BookState.VALID, 110)


def test_symbols_are_synchronised_independently() -> None:
    line = Stepped("BTCUSDT", "ETHUSDT")
    line.feed.offer(frame(diff(11, 12)) + frame(diff(501, 502, symbol="ETHUSDT")))
    line.run()
    line.feed.offer_snapshot(1, snapshot(501, BIDS, ASKS))
    line.run()
    assert (int(line.bbo(0)["state"]), int(line.bbo(1)["state"])) == (BookState.EMPTY, BookState.VALID)
    line.feed.offer(frame(diff(504, 504, symbol="ETHUSDT")))
    line.feed.offer_snapshot(0, snapshot(12, BIDS, ASKS))
    line.run()
    assert (int(line.bbo(0)["state"]), int(line.bbo(1)["state"])) == (BookState.VALID, BookState.DIRTY)


def test_a_snapshot_in_another_style_is_read_and_a_broken_one_is_not() -> None:
    line = Stepped()
    line.feed.offer(frame(diff(11, 12)))
    line.run()
    for broken in (b"", b"{}", b"<html>", snapshot(11, BIDS, ASKS)[:-3], snapshot(11, [("x", "1")], [])):
        line.feed.offer_snapshot(0, broken)
        line.run()
        assert line.bbo()["state"] == BookState.EMPTY
    assert int(line.counters("feed")["snapshot_failures"]) == 5
    line.feed.offer_snapshot(0, b'{ "asks": [["101.00", "1.5"]], "bids": [[100.5, 1]], "lastUpdateId": 11 }')
    line.run()
    assert (int(line.bbo()["state"]), int(line.bbo()["bid_price"])) == (BookState.VALID, 10_050_000_000)


def _played(pieces: list[tuple[bytes, bytes | None]], late: list[int]) -> list[bytes]:
    """All events, each snapshot `late` pieces of the stream after it is there (the first diff asks for it)."""
    line = Stepped()
    due: list[tuple[int, bytes]] = []
    taken = []
    lateness = iter(late)
    for number in range(len(pieces) + 100):
        if number < len(pieces):
            wire, body = pieces[number]
            line.feed.offer(wire)
            if body is not None:
                due.append((number + next(lateness), body))
        while line.step_feed() != 0:
            pass
        while due and due[0][0] <= number and line.feed.context.sync[0]["status"] == UNSYNCED:
            line.feed.offer_snapshot(0, due.pop(0)[1])
            while line.step_feed() != 0:
                pass
        taken.append(popped(line.segments[FEED_TO_BOOK], MARKET))
    assert not due, "a snapshot that nobody wanted"
    assert int(line.counters("feed")["dropped"]) == int(line.counters("feed")["snapshots_too_old"]) == 0
    records = np.concatenate([each for each in taken if len(each)])
    return _events(records)


@settings(max_examples=40)
@given(
    gaps=st.lists(st.integers(1, 12), max_size=4),
    late=st.lists(st.integers(0, 40), min_size=5, max_size=5),
    behind=st.lists(st.integers(0, 2), min_size=5, max_size=5),
)
@example(gaps=[1], late=[30, 30, 0, 0, 0], behind=[0, 0, 0, 0, 0])
def test_replayed_events_come_in_one_order_whenever_the_snapshots_arrive(
    gaps: list[int], late: list[int], behind: list[int]
) -> None:
    """Runs of diffs with a gap between and a snapshot each, of one of its first three ids."""
    pieces: list[tuple[bytes, bytes | None]] = []
    number = 11
    for length, back in zip([*gaps, 4], behind, strict=False):
        for each in range(number, number + 3 * length):
            wire = frame(diff(each, each, BIDS)) + frame(trade(each, "1.5", "2"))
            body = snapshot(each + back, BIDS, ASKS) if each == number else None
            pieces.append((wire + frame(ticker(each, BIDS[0], ASKS[0])), body))
        number += 3 * length + 1  # an id is missing
    soon = _played(pieces, [0] * 5)
    assert sum(record[0] == MarketKind.RESET for record in soon) == len(gaps)
    assert _played(pieces, late) == soon
