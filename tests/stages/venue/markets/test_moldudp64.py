"""The MoldUDP64 server over real sockets: packets on each line, heartbeats, the end, requests, loss on purpose."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.domain.codecs import moldudp64
from stages.domain.lines import open_receiver, open_sender, parse_address
from stages.venue.errors import VenueConfigurationError
from stages.venue.markets.moldudp64 import PACKET_BYTES_MAX, MoldServer, packets
from tests.stages.domain.test_lines import free_port

Unpacked = tuple[int, int, list[bytes]]


def unpack(packet: bytes) -> Unpacked:
    """(sequence number, count, messages)."""
    assert packet[:10] == b"PAPER     "
    sequence, count = int.from_bytes(packet[10:18], "big"), int.from_bytes(packet[18:20], "big")
    found, at = [], 20
    while at < len(packet):
        end = at + 2 + int.from_bytes(packet[at : at + 2], "big")
        found.append(packet[at + 2 : end])
        at = end
    return sequence, count, found


def received(sock: socket.socket) -> list[Unpacked]:
    found = []
    while True:
        try:
            found.append(unpack(sock.recv(65_536)))
        except BlockingIOError:
            return found


@contextmanager
def serving(**settings: int) -> Iterator[tuple[MoldServer, list[socket.socket], socket.socket]]:
    """(server, a receiver per line, a socket to ask from)."""
    lines = [f"udp://127.0.0.1:{free_port()}" for _ in range(2)]
    desk = f"udp://127.0.0.1:{free_port()}"
    receivers = [open_receiver(parse_address(line), 1 << 20)[0] for line in lines]
    server = MoldServer(lines, desk, **settings)
    asker = open_sender(parse_address(desk))
    yield server, receivers, asker
    server.close()
    for sock in (*receivers, asker):
        sock.close()


@given(st.integers(1, 10**6), st.lists(st.binary(min_size=1, max_size=60), max_size=120))
def test_messages_are_cut_into_packets_that_join(first: int, messages: list[bytes]) -> None:
    following, found = first, []
    for packet in packets(b"PAPER", first, messages):
        assert len(packet) <= PACKET_BYTES_MAX
        sequence, count, content = unpack(packet)
        assert (sequence, count) == (following, len(content))
        found += content
        following += count
    assert found == messages


def test_each_line_has_every_message_then_heartbeats_then_the_end() -> None:
    with serving() as (server, receivers, _):
        server.send([b"one", b"two"])
        server.heartbeat()
        server.end()
        server.heartbeat()
        expected = [(1, 2, [b"one", b"two"]), (3, 0, []), (3, 65_535, []), (3, 65_535, [])]
        assert [received(sock) for sock in receivers] == [expected, expected]


def test_requests_are_answered_with_what_is_kept_of_them() -> None:
    with serving(kept=4) as (server, _, asker):
        for number in range(1, 11):
            server.send([b"%d" % number])
        for first, count in ((8, 2), (1, 100), (2, 3), (11, 5)):
            asker.send(moldudp64.header(b"PAPER", first, count))
        asker.send(moldudp64.header(b"OTHER", 8, 2))
        asker.send(b"?")
        server.answer()
        assert received(asker) == [(8, 2, [b"8", b"9"]), (7, 4, [b"7", b"8", b"9", b"10"])]
        assert server.requests == 4


def test_lines_lose_on_purpose_each_its_own() -> None:
    with serving(loss_permille=300) as (server, receivers, _):
        for number in range(500):
            server.send([b"%d" % number])
        arrived = [{sequence for sequence, _, _ in received(sock)} for sock in receivers]
        assert all(250 < len(line) < 450 for line in arrived)
        assert arrived[0] != arrived[1]


def test_it_hears_whether_somebody_receives() -> None:
    lines = [f"udp://127.0.0.1:{free_port()}" for _ in range(2)]
    server = MoldServer(lines, "")
    with open_receiver(parse_address(lines[0]), 4_096)[0] as one:
        assert [server.is_heard() for _ in range(3)] == [False] * 3
        with open_receiver(parse_address(lines[1]), 4_096)[0] as two:
            assert server.is_heard()
            assert received(one) == [(1, 0, [])] * 4
            assert received(two) == [(1, 0, [])]
    server.close()


def test_an_address_in_use_is_a_configuration_error() -> None:
    desk = f"udp://127.0.0.1:{free_port()}"
    with open_receiver(parse_address(desk), 4_096)[0], pytest.raises(VenueConfigurationError, match="in use"):
        MoldServer([], desk)
