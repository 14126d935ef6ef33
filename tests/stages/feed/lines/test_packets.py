"""MoldUDP64 over real sockets into books: loss, duplicates, any order over two lines, requests, sessions."""

import logging
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.atomics import poke
from stages.domain.codecs import moldudp64
from stages.domain.edges import BBO_TABLE
from stages.domain.messages import DEPTH_LEVELS, BookState, NoticeKind
from stages.feed import base
from stages.venue.markets.moldudp64 import MoldServer
from tests.oracle import itch as oracle
from tests.oracle.arbitration import Arbitration
from tests.stages.domain.codecs.itch_messages import coherent, order_stream
from tests.stages.feed.lines.support import MS, Lines, bound
from tests.stages.feed.test_itch import PRICE, SHARES, add, head

SESSION = b"DAY1"


def packet(messages: Sequence[bytes], first: int, count: int = 1, session: bytes = SESSION) -> bytes:
    """Messages number `first` and following, of all of a session's."""
    return moldudp64.packet(session, first, messages[first - 1 : first - 1 + count])


def assert_shows(line: Lines, messages: Sequence[bytes]) -> None:
    """The tables show the obvious books of `messages`."""
    books, named = oracle.Books(), set()
    for message in messages:
        letter, locate, *_ = oracle.unpack(message)
        if letter in "AFPQHRhYKJNOIL":  # type: ignore[operator]
            named.add(locate)
        if locate in named:
            books.apply(message)
    for symbol, locate in enumerate((1, 3)):
        for side, name in enumerate(("bid", "ask")):
            expected = [(price * PRICE, shares * SHARES) for price, shares in books.levels(locate, side).items()]
            assert line.levels(symbol, name) == expected[:DEPTH_LEVELS]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 80), st.sampled_from([64, 128]))
def test_books_are_those_of_the_messages_that_either_line_brings(seed: int, length: int, window: int) -> None:
    rng = random.Random(seed)
    messages = coherent(order_stream(seed, length))
    length = len(messages)
    arrivals: list[tuple[int, int, int, int]] = []
    for line in range(2):
        sequence = 1
        while sequence <= length:
            count = min(rng.randrange(1, 6), length + 1 - sequence)
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                arrivals.append((sequence + rng.choice([0, 0, 3, 20, 70]), line, sequence, count))
            sequence += count
    expected = Arbitration(window, 1)
    with Lines(gap_window_messages=window, first_sequence=1, gap_timeout_ms=50) as line:
        for _, number, first, count in sorted(arrivals):
            line.send(packet(messages, first, count), number)
            expected.packet(first, messages[first - 1 : first - 1 + count])
        line.send(moldudp64.header(SESSION, length + 1, 0))
        expected.packet(length + 1, [])
        while expected.known_end > expected.expected:
            expected.abandon()
            line.turn(50 * MS)
        handed_out = [message for _, message in expected.handed_out]
        assert line.count("messages_in") == len(handed_out)
        assert line.count("frames") == length
        assert (line.count("gaps"), line.count("lost")) == (expected.gaps, len(expected.lost))
        assert line.count("duplicates") == expected.duplicates
        assert_shows(line, handed_out)
        if expected.lost:
            assert {line.state(0), line.state(1)} == {BookState.STALE}
        else:
            assert BookState.STALE not in (line.state(0), line.state(1))


def test_a_multicast_line_is_joined() -> None:
    with Lines(multicast=True) as line:
        line.send(packet([add(1), add(2)], 1, 2))
        line.send(packet([add(1), add(2)], 1, 2), 1)
        assert line.levels(0, "bid") == [(100_0000 * PRICE, 200 * SHARES)]
        assert (line.count("datagrams"), line.count("duplicates")) == (2, 2)


def test_a_gap_is_filled_by_exactly_what_was_asked_for() -> None:
    messages = [add(number, price=100_0000 + 100 * number) for number in range(1, 21)]
    with bound() as (desk, address), Lines(request_server=address, request_interval_ms=10) as line:
        line.send(packet(messages, 1, 5))
        line.send(packet(messages, 9, 4))
        line.send(packet(messages, 15, 6))
        with pytest.raises(BlockingIOError):
            desk.recv(100)
        line.turn(10 * MS)
        request, asker = desk.recvfrom(100)
        assert request == moldudp64.header(SESSION, 6, 3)
        desk.sendto(packet(messages, 6, 3), asker)
        line.turn()
        assert line.count("messages_in") == 12
        line.turn(10 * MS)
        request, asker = desk.recvfrom(100)
        assert request == moldudp64.header(SESSION, 13, 2)
        line.turn(9 * MS)
        with pytest.raises(BlockingIOError):
            desk.recv(100)
        line.turn(MS)  # nobody has answered: once more
        assert desk.recv(100) == request
        desk.sendto(packet(messages, 13, 2), asker)
        line.turn()
        line.turn(1_000 * MS)
        assert_shows(line, messages)
        assert line.state() == BookState.VALID
        assert [line.count(name) for name in ("gaps", "lost", "requests", "duplicates")] == [0, 0, 3, 0]
        assert int(line.row(BBO_TABLE)[1]["last_id"]) == 20


def test_the_projects_server_fills_what_both_lines_lost(free_desk: str) -> None:
    messages = coherent(order_stream(7, 300))
    lossy = random.Random(7)
    server = MoldServer([], free_desk, session=SESSION)
    with Lines(request_server=free_desk, request_interval_ms=1, gap_window_messages=512, first_sequence=1) as line:
        for number, message in enumerate(messages, 1):
            server.send([message])
            if lossy.random() < 0.5:
                line.send(packet(messages, number))
        line.send(moldudp64.header(SESSION, len(messages) + 1, 0))
        for _ in range(len(messages)):
            line.turn(MS)
            server.answer()
        assert line.count("messages_in") == len(messages)
        assert (line.count("gaps"), line.count("duplicates")) == (0, 0)
        assert line.count("requests") == server.requests > 0
        assert_shows(line, messages)
    server.close()


@pytest.fixture
def free_desk() -> str:
    with bound() as (_, address):
        return address


def test_what_nobody_brings_in_time_makes_every_book_stale(caplog: pytest.LogCaptureFixture) -> None:
    messages = [add(1), add(2, b"S", 100, 101_0000), add(3, locate=3), add(4), add(5)]
    with bound() as (_, address), Lines(request_server=address, gap_timeout_ms=100) as line:
        line.send(packet(messages, 1, 3))
        line.send(packet(messages, 5))
        line.turn(99 * MS)
        assert (line.state(0), line.state(1)) == (BookState.VALID, BookState.VALID)
        assert line.levels(0, "bid") == [(100_0000 * PRICE, 100 * SHARES)]
        line.turn(MS)
        assert (line.state(0), line.state(1)) == (BookState.STALE, BookState.STALE)
        assert line.levels(0, "bid") == [(100_0000 * PRICE, 200 * SHARES)]  # with 5, without 4
        told = [notice for notice in line.notices if notice["kind"] == NoticeKind.BOOK][-3:]
        assert [int(notice["state"]) for notice in told] == [BookState.STALE] * 3
        assert (line.count("gaps"), line.count("lost")) == (1, 1)
        assert "1 messages are lost" in caplog.text
        line.send(packet(messages, 4), 1)
        assert line.state() == BookState.STALE


def test_a_feed_that_had_to_wait_reads_what_has_arrived_meanwhile_before_it_gives_up() -> None:
    messages = [add(1), add(2), add(3, locate=3), add(4)]
    with Lines(gap_timeout_ms=100) as line:
        line.send(packet(messages, 1))
        line.send(packet(messages, 4))
        line.senders[1].send(packet(messages, 4))
        line.senders[1].send(packet(messages, 2, 2))
        line.turn(5_000 * MS)
        assert (line.count("gaps"), line.count("lost"), line.count("messages_in")) == (0, 0, 4)
        assert (line.state(0), line.state(1)) == (BookState.VALID, BookState.VALID)


def test_a_heartbeat_shows_a_gap_at_the_tail() -> None:
    with bound() as (desk, address), Lines(request_server=address) as line:
        line.send(packet([add(1), add(2)], 1))
        line.turn(10 * MS)
        with pytest.raises(BlockingIOError):
            desk.recv(100)
        line.send(moldudp64.header(SESSION, 3, 0), 1)
        line.turn(10 * MS)
        request, asker = desk.recvfrom(100)
        assert request == moldudp64.header(SESSION, 2, 1)
        desk.sendto(packet([add(1), add(2)], 2), asker)
        line.turn()
        assert line.levels(0, "bid") == [(100_0000 * PRICE, 200 * SHARES)]


def test_a_new_session_begins_with_empty_books_and_new_locates(caplog: pytest.LogCaptureFixture) -> None:
    with Lines() as line:
        line.send(packet([add(1), add(2), add(3)], 1))
        line.send(packet([add(1), add(2), add(3)], 3))
        line.turn(100 * MS)
        assert line.state() == BookState.STALE
        messages = [
            oracle.pack("A", *head(9), 5, b"S", 300, b"STOCK1  ", 105_0000),
            oracle.pack("A", *head(1), 6, b"B", 300, b"OTHER   ", 95_0000),  # whose locate was that of STOCK1
            add(1, locate=3),
        ]
        line.send(packet(messages, 1, 3, b"DAY2"))
        assert (line.state(0), line.state(1)) == (BookState.VALID, BookState.VALID)
        assert (line.levels(0, "bid"), line.levels(0, "ask")) == ([], [(105_0000 * PRICE, 300 * SHARES)])
        line.send(packet([add(1)], 1))  # of the day before
        assert line.levels(0, "bid") == []
        assert (line.count("sessions"), line.count("gaps")) == (2, 1)
        warning = "session DAY{} began although the one before it had not ended"
        assert warning.format(2) in caplog.text
        line.send(moldudp64.header(b"DAY2", 4, moldudp64.END_OF_SESSION))
        line.send(packet(messages, 1, 3, b"DAY3"))
        assert (line.count("sessions"), warning.format(3) in caplog.text) == (3, False)


def test_what_befalls_a_session_fits_however_many_symbols_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "STAGING_RECORDS", 8)  # as 7 symbols to 8 records, so 10,000 to 16,384 and more
    with Lines(*(f"STOCK{number}" for number in range(1, 8))) as line:
        line.send(packet([add(1), add(2)], 1))
        line.senders[0].send(packet([add(number) for number in range(1, 6)], 4))  # 2 and 3 are missing when it ends,
        line.send(packet([add(1)] * 200, 101, session=b"DAY2"))  # and of the next one more than are waited for
        line.turn(100 * MS)
        assert {line.state(symbol) for symbol in range(7)} == {BookState.STALE}
        assert line.count("events") == line.count("messages_out") == 2 + 7 + 7  # two orders, a START each, a RESET each
        assert (line.count("gaps"), line.count("lost"), line.count("sessions")) == (2, 3 + 100, 2)


def test_books_that_are_stale_are_not_told_of_each_gap_that_follows(caplog: pytest.LogCaptureFixture) -> None:
    messages = [add(number) for number in range(1, 30)]
    with Lines() as line:
        for number in range(1, 30, 2):
            line.send(packet(messages, number))
            line.turn(100 * MS)
        assert line.count("gaps") == line.count("lost") == 14
        assert line.count("events") == 15 + 2
        assert caplog.text.count("messages are lost") == 3  # when 1, 3 and 7 were
        line.send(packet(messages, 1, session=b"DAY2"))
        assert line.state() == BookState.VALID
        line.send(packet(messages, 3, session=b"DAY2"))
        line.turn(100 * MS)
        assert (line.state(0), line.state(1)) == (BookState.STALE, BookState.STALE)
        assert caplog.text.count("messages are lost") == 4


def test_who_joins_a_session_that_is_under_way_has_stale_books() -> None:
    with Lines() as line:
        line.send(packet([add(1), add(2), add(3)], 3))
        assert (line.state(0), line.state(1)) == (BookState.STALE, BookState.STALE)
        assert (line.count("gaps"), line.count("lost"), line.count("messages_in")) == (1, 2, 1)
    with Lines(first_sequence=3) as line:  # who says where to begin knows why
        line.send(packet([add(1), add(2), add(3)], 3))
        assert (line.state(), line.count("lost")) == (BookState.VALID, 0)


@pytest.mark.parametrize("damaged", [add(2)[:-1], bytes(36), b""])
def test_a_message_that_cannot_be_read_is_lost_unless_its_type_is_a_letter_that_means_nothing_yet(
    damaged: bytes,
) -> None:
    with Lines() as line:
        line.send(packet([add(1)], 1))
        line.send(packet([add(1), b"Zwhat", add(3)], 2, 2))
        assert (line.state(), line.count("lost"), line.count("messages_in")) == (BookState.VALID, 0, 2)
        line.send(packet([add(1), add(2), add(3), damaged, add(5)], 4, 2))
        assert (line.state(0), line.state(1)) == (BookState.STALE, BookState.STALE)
        assert (line.count("gaps"), line.count("lost"), line.count("messages_in")) == (1, 1, 3)


@pytest.mark.parametrize("first", [0, 1])
def test_a_feed_that_goes_on_for_another_says_what_that_costs_and_counts_on(
    first: int, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [add(number) for number in range(1, 9)]
    counted = ("duplicates", "bad_packets", "malformed", "sessions", "gaps", "lost")
    with Lines(first_sequence=first) as line:
        line.send(packet([*messages, b"what"], 1, 9))
        line.send(packet(messages, 2, 3), 1)
        line.send(b"short")
        before = [line.count(name) for name in counted]
        assert before == [3, 1, 1, 1, 0, 0]
        line.restart_feed()
        line.turn()
        assert "all books are stale until the session ends" in caplog.text
        assert [line.count(name) for name in counted] == before
        line.send(packet(messages, 7))
        line.send(packet(messages, 7), 1)
        line.send(packet([*messages, b"what"], 8, 2))
        assert (line.state(0), line.state(1)) == (BookState.STALE, BookState.STALE)
        assert [line.count(name) for name in counted] == [4, 1, 2, 1, 0, 0]
        line.send(packet(messages, 1, session=b"DAY2"))
        assert (line.state(0), line.count("sessions")) == (BookState.VALID, 2)


def test_the_end_of_a_session_is_said_and_changes_no_book(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Lines() as line:
        line.send(packet([add(1)], 1))
        for _ in range(3):
            line.send(moldudp64.header(SESSION, 2, moldudp64.END_OF_SESSION))
        assert line.state() == BookState.VALID
        assert caplog.text.count("session DAY1 has ended with message 1") == 1


def test_bad_packets_and_bad_messages_are_counted_and_what_follows_is_used() -> None:
    messages = [add(1), b"what", b"Znew", add(3)]
    with Lines() as line:
        line.send(b"")
        line.send(b"short")
        line.send(packet(messages, 1, 4))
        assert (line.count("bad_packets"), line.count("malformed"), line.count("messages_in")) == (2, 2, 2)
        assert line.levels(0, "bid") == [(100_0000 * PRICE, 200 * SHARES)]
        assert line.state() == BookState.VALID


def test_the_canned_packet_of_rehearsals_is_taken_again_and_again() -> None:
    with Lines() as line:
        words = line.feed.open_rehearsal()
        line.turn()
        taken, best = line.count("messages_in"), line.levels(0, "bid")[0]
        for again in range(1, 4):
            for address, value in words:
                poke(address, value)
            line.turn(10_000 * MS)
            assert line.count("messages_in") == taken + again
            assert line.levels(0, "bid")[0] == (best[0], best[1] - again * SHARES)
        assert (line.count("gaps"), line.count("duplicates"), line.state()) == (0, 0, BookState.VALID)
