"""Two lines of MoldUDP64 packets, arbitrated: against a dict, under loss, duplication and any order."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.domain.codecs import arbitration, moldudp64
from stages.domain.codecs.arbitration import ENDED, HEARTBEAT, MALFORMED, MESSAGES, OLD_SESSION, Arbiter
from tests.entered import entered
from tests.oracle.arbitration import Arbitration

SESSION = b"SESSION01"


def content_of(sequence: int) -> bytes:
    """A message that says which one it is."""
    return b"m%d" % sequence + b"." * (sequence % 7)


class Lines:
    """An arbiter, and what it has handed out."""

    def __init__(self, slots: int = 16, first_sequence: int = 1) -> None:
        self.arbiter = Arbiter(slots, first_sequence)
        self.messages: list[bytes] = []
        self.now_ns = 0

    def offer(self, packet: bytes, line: int = 0) -> int:
        """What `offer` says; all its messages are taken."""
        memory = np.frombuffer(packet or b"\0", np.uint8)
        at = memory.ctypes.data
        code = int(entered(arbitration.offer)(self.arbiter.address, line, at, at + len(packet), self.now_ns))
        self.take()
        return code

    def take(self) -> None:
        while block := int(entered(arbitration.take)(self.arbiter.address)):
            size = int.from_bytes(_bytes_at(block, 2), "big")
            self.messages.append(_bytes_at(block + 2, size))

    def abandon(self, patience_ns: int = 0) -> bool:
        is_given_up = bool(entered(arbitration.abandon)(self.arbiter.address, self.now_ns, patience_ns))
        self.take()
        return is_given_up

    def __getitem__(self, name: str) -> Any:
        value = self.arbiter.words[name][0]
        return value.tolist()


def _bytes_at(address: int, size: int) -> bytes:
    import ctypes

    return ctypes.string_at(address, size)


def packet(first: int, count: int, session: bytes = SESSION) -> bytes:
    return moldudp64.packet(session, first, [content_of(number) for number in range(first, first + count)])


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """(line, first sequence number, count) as they arrive: a stream cut differently on two lines, some of it lost,
    some doubled, the rest in a disturbed order. A count of 0 is a heartbeat, of -1 the patience's end."""
    length = draw(st.integers(1, 60))
    arrivals: list[tuple[float, int, int, int]] = []
    for line in range(2):
        sequence = 1
        while sequence <= length:
            count = min(draw(st.integers(1, 6)), length + 1 - sequence)
            for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2]))):
                delay = draw(st.sampled_from([0, 0, 0, 3, 10, 40]))
                arrivals.append((sequence + delay, line, sequence, count))
            if draw(st.integers(0, 9)) == 0:
                arrivals.append((sequence + draw(st.integers(0, 20)), line, sequence + count, 0))
            if draw(st.integers(0, 9)) == 0:
                arrivals.append((sequence + draw(st.integers(0, 20)), line, 0, -1))
            sequence += count
    return [arrival[1:] for arrival in sorted(arrivals)]


@given(deliveries(), st.sampled_from([1, 2, 8, 64]))
def test_each_message_is_handed_out_once_in_order_or_lost(arrivals: list[tuple[int, int, int]], slots: int) -> None:
    lines, oracle = Lines(slots), Arbitration(slots, 1)
    for line, first, count in arrivals:
        if count < 0:
            assert lines.abandon() == (oracle.known_end > oracle.expected)
            oracle.abandon()
            continue
        data = packet(first, count) if count else moldudp64.header(SESSION, first, 0)
        assert lines.offer(data, line) == (MESSAGES if count else HEARTBEAT)
        oracle.packet(first, [content_of(number) for number in range(first, first + count)])
        assert lines.messages == [message for _, message in oracle.handed_out]
        assert (lines["expected"], lines["known_end"]) == (oracle.expected, max(oracle.known_end, 1))
    assert (lines["gaps"], lines["lost"], lines["duplicates"]) == (oracle.gaps, len(oracle.lost), oracle.duplicates)
    # What must never happen, whatever the oracle says: a message twice, out of order, or gone without being counted.
    numbers = [int(message[1:].rstrip(b".")) for message in lines.messages]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + lines["lost"] == lines["expected"] - 1


@given(st.randoms(use_true_random=False), st.integers(1, 200))
def test_what_either_line_brings_is_not_lost(rng: random.Random, length: int) -> None:
    """Both lines lose packets, never the same: nothing is lost, and nobody has to ask for anything."""
    lines = Lines(slots=256)
    arrivals = []
    for number in range(1, length + 1):
        for line in [0, 1] if rng.random() < 0.6 else [rng.randrange(2)]:
            arrivals.append((number + rng.randrange(20), line, number))
    for _, line, number in sorted(arrivals):
        lines.offer(packet(number, 1), line)
    assert lines.messages == [content_of(number) for number in range(1, length + 1)]
    assert (lines["lost"], lines["gaps"]) == (0, 0)
    assert sum(lines["firsts"]) == length


def test_an_open_gap_says_where_it_begins_and_since_when() -> None:
    lines = Lines()
    lines.now_ns = 100
    lines.offer(packet(1, 2))
    lines.now_ns = 200
    lines.offer(packet(5, 2))
    lines.now_ns = 300
    lines.offer(packet(8, 1))
    assert (lines["expected"], lines["known_end"], lines["gap_since_ns"]) == (3, 9, 200)
    assert not lines.abandon(patience_ns=101)
    assert lines.abandon(patience_ns=100)
    assert lines.messages == [content_of(number) for number in (1, 2, 5, 6)]
    assert (lines["expected"], lines["gap_since_ns"], lines["lost"]) == (7, 300, 2)


def test_a_gap_that_is_filled_on_request_is_none() -> None:
    lines = Lines()
    lines.offer(packet(1, 2))
    lines.offer(packet(6, 3))
    lines.offer(packet(3, 3), line=2)
    assert lines.messages == [content_of(number) for number in range(1, 9)]
    assert not lines.abandon()
    assert (lines["gaps"], lines["held"], lines["firsts"]) == (0, 3, [5, 0, 3, 0])


def test_a_heartbeat_shows_what_was_lost_at_the_end() -> None:
    lines = Lines()
    lines.offer(packet(1, 2))
    assert lines.offer(moldudp64.header(SESSION, 5, 0)) == HEARTBEAT
    assert lines.abandon()
    assert (lines["expected"], lines["lost"]) == (5, 2)


def test_a_session_ends() -> None:
    lines = Lines()
    lines.offer(packet(1, 2))
    assert lines.offer(moldudp64.header(SESSION, 3, moldudp64.END_OF_SESSION)) == ENDED
    assert (lines["is_ended"], lines["known_end"] - lines["expected"]) == (1, 0)


def test_a_new_session_begins_with_its_first_message_and_the_old_one_stays_over() -> None:
    lines = Lines()
    lines.offer(packet(1, 2))
    lines.offer(packet(5, 1))  # 3 and 4 are missing, 5 is kept: lost when the session is over
    assert lines.offer(packet(2, 2, b"NEXT")) == MESSAGES
    assert lines.offer(packet(3, 3)) == OLD_SESSION
    assert lines.offer(packet(1, 1, b"NEXT")) == MESSAGES
    assert lines.messages == [content_of(number) for number in (1, 2, 1, 2, 3)]
    assert (lines["sessions"], lines["old_packets"], lines["gaps"], lines["lost"]) == (2, 1, 1, 3)


def test_a_stray_datagram_ends_no_session() -> None:
    lines = Lines()
    lines.offer(packet(1, 2))
    assert lines.offer(bytes(range(40))[:10] + bytes(30)) == OLD_SESSION
    lines.offer(packet(3, 1))
    assert (lines.messages[2:], lines["sessions"], lines["old_packets"]) == ([content_of(3)], 1, 1)


def test_without_a_first_sequence_number_it_joins_where_it_comes() -> None:
    lines = Lines(first_sequence=0)
    lines.offer(packet(1_000, 2))
    assert lines.messages == [content_of(1_000), content_of(1_001)]


def test_bad_packets_are_counted_and_what_they_lack_is_a_gap() -> None:
    lines = Lines()
    assert lines.offer(b"") == MALFORMED
    assert lines.offer(packet(1, 1)[:19]) == MALFORMED
    assert lines.offer(moldudp64.header(SESSION, 2**63, 1)) == MALFORMED
    assert lines.offer(packet(1, 3)[:-2]) == MESSAGES
    assert lines.messages == [content_of(1), content_of(2)]
    assert (lines["malformed"], lines["truncated"], lines["known_end"] - lines["expected"]) == (3, 1, 1)
    long = moldudp64.packet(SESSION, 4, [b"x" * 500])
    lines.offer(long)
    assert lines["oversized"] == 1
    lines.offer(packet(3, 1), line=1)
    lines.offer(long, line=1)
    assert lines.messages[2:] == [content_of(3), b"x" * 500]


def test_slots_are_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="slots=12"):
        Arbiter(12)
