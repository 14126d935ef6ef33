"""Feeds in captured datagrams: redundant lines, losses, sessions that begin anew, and other ways to send the same."""

import random
from pathlib import Path

import pytest

from stages.domain.captures.pieces import DamagedFileError
from stages.domain.captures.udp_feeds import UdpFeeds
from stages.domain.codecs.moldudp64 import END_OF_SESSION, header, packet
from tests.oracle import itch as oracle
from tests.stages.domain.captures.packets import pcap, udp
from tests.stages.domain.codecs.itch_messages import order_stream
from tests.stages.domain.codecs.test_raw import GOOD

MESSAGES = order_stream(5, 300, excess=0)
SESSION = b"20191230AB"
PER_PACKET = 10
SENT = [packet(SESSION, 1 + at, MESSAGES[at : at + PER_PACKET]) for at in range(0, 300, PER_PACKET)]
LINE_A, LINE_B = ([udp(each, flow) for each in SENT] for flow in (1, 2))


def feeds_of(folder: Path, *packets: bytes, cut_bytes: int = 0) -> tuple[UdpFeeds, bytes, bytes]:
    """(feeds, ITCH frames, raw messages)."""
    path = folder / "capture"
    content = pcap(packets)
    path.write_bytes(content[: len(content) - cut_bytes])
    feeds = UdpFeeds(path)
    found: dict[bool, list[bytes]] = {False: [], True: []}
    try:
        for content_ in feeds.read():
            found[content_.is_raw].append(content_.content)
    except DamagedFileError:
        assert cut_bytes
    return feeds, b"".join(found[False]), b"".join(found[True])


def oddities(feeds: UdpFeeds) -> dict[str, int]:
    names = [oddity.name for oddity in feeds.oddities]
    return {name: names.count(name) for name in names}


@pytest.mark.parametrize("seed", range(5))
def test_two_lines_that_lose_and_reorder_give_every_message_once_in_order(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lost = [rng.randrange(3) for _ in SENT]  # by nobody, by A, by B
    both = [(number, line) for number in range(len(SENT)) for line in (0, 1) if lost[number] != line + 1]
    both.sort(key=lambda sent: sent[0] + rng.random() * 6)
    if both[0][0] != 0:  # where it joins, it joins
        both.insert(0, (0, 0))
    feeds, frames, _ = feeds_of(tmp_path, *((LINE_A, LINE_B)[line][number] for number, line in both))
    assert frames == oracle.framed(*MESSAGES)
    assert (feeds.count("gaps"), feeds.packets["datagrams"]) == (0, len(both))
    assert feeds.count("duplicates") == (len(both) - len(SENT)) * PER_PACKET
    assert oddities(feeds).keys() <= {"out_of_order"}


def test_what_no_line_brings_is_a_gap_and_the_rest_is_used(tmp_path: Path) -> None:
    place = len(pcap(LINE_A[:4]))
    feeds, frames, _ = feeds_of(tmp_path, *LINE_A[:4], *LINE_A[6:])
    assert frames == oracle.framed(*MESSAGES[:40], *MESSAGES[60:])
    assert (feeds.count("gaps"), feeds.count("lost"), oddities(feeds)) == (1, 20, {"gap": 1})
    (words,) = feeds.words()
    assert words.endswith(f": messages 41 to 60 of their session, which no line has brought (offset {place:,})")


def test_each_gap_has_its_place_and_its_numbers(tmp_path: Path) -> None:
    sent = [*LINE_A[:4], *LINE_B[:5], *LINE_A[6:12], *LINE_B[7:9], *LINE_A[13:]]
    feeds, _, _ = feeds_of(tmp_path, *sent)
    places = [len(pcap(sent[: sent.index(LINE_A[number])])) for number in (6, 13)]
    assert [(oddity.what.split(" of")[0], oddity.offset) for oddity in feeds.oddities if oddity.name == "gap"] == [
        ("messages 51 to 60", places[0]), ("messages 121 to 130", places[1]),
    ]  # fmt: skip


def test_a_file_cut_short_gives_what_is_kept_too(tmp_path: Path) -> None:
    feeds, frames, _ = feeds_of(tmp_path, *LINE_A[:4], *LINE_A[6:], cut_bytes=7)
    assert frames == oracle.framed(*MESSAGES[:40], *MESSAGES[60:-PER_PACKET])
    assert feeds.count("gaps") == 1


def test_a_session_that_begins_anew_is_told_and_used(tmp_path: Path) -> None:
    anew = [udp(packet(SESSION, 1 + at, MESSAGES[100 + at : 110 + at])) for at in range(0, 50, 10)]
    feeds, frames, _ = feeds_of(tmp_path, *LINE_A[:10], *anew)
    assert frames == oracle.framed(*MESSAGES[:150])
    assert oddities(feeds) == {"sequence_reset": 1}


def test_one_wild_sequence_number_costs_no_other_message(tmp_path: Path) -> None:
    wild = udp(packet(SESSION, 2**61, MESSAGES[:1]))
    feeds, frames, _ = feeds_of(tmp_path, *LINE_A[:10], wild, *LINE_A[10:])
    assert frames == oracle.framed(*MESSAGES[:100], MESSAGES[0], *MESSAGES[100:])
    assert oddities(feeds) == {"gap": 1, "sequence_reset": 1}


@pytest.mark.parametrize("seed", range(5))
def test_answers_to_requests_are_a_line_of_their_own_however_they_are_cut_and_repeated(
    tmp_path: Path, seed: int
) -> None:
    """As a recorder sees them: packets of both lines, each of them lost by both at times, and what was asked for."""
    rng = random.Random(seed)
    sent: list[bytes] = []
    for number, packets in enumerate(zip(LINE_A, LINE_B, strict=True)):
        sent += [each for each in packets if not number or rng.random() < 0.4]
        missing = range(1 + number * PER_PACKET, 1 + (number + 1) * PER_PACKET)
        begins = [missing.start, *(rng.choice(missing) for _ in range(3))]
        for begin in rng.sample(begins, rng.randrange(1, 4)) if rng.random() < 0.5 else []:
            end = rng.randrange(begin, missing.stop) + 1
            sent.append(udp(packet(SESSION, begin, MESSAGES[begin - 1 : end - 1]), 9))
        sent.append(udp(packet(SESSION, missing.start, MESSAGES[missing.start - 1 : missing.stop - 1]), 9))
    feeds, frames, _ = feeds_of(tmp_path, *sent)
    assert frames == oracle.framed(*MESSAGES)
    assert (feeds.count("gaps"), oddities(feeds).keys() <= {"out_of_order"}) == (0, True)


@pytest.mark.parametrize("late", [1, 7])
def test_what_was_asked_for_because_the_feed_came_late_is_the_beginning(tmp_path: Path, late: int) -> None:
    answers = [udp(packet(SESSION, 1 + at, MESSAGES[at : at + 7]), 9) for at in range(0, 10 * late, 7)]
    feeds, frames, _ = feeds_of(tmp_path, *LINE_A[late : late + 3], *answers, *LINE_B[late + 3 :])
    assert frames == oracle.framed(*MESSAGES)
    assert (feeds.count("gaps"), oddities(feeds)) == (0, {})
    feeds, frames, _ = feeds_of(tmp_path, *LINE_A[late : late + 3], *answers[:-1], *LINE_B[late + 3 :])
    assert frames == oracle.framed(*MESSAGES[10 * late :])
    assert (feeds.count("gaps"), oddities(feeds)) == (0, {})


def test_heartbeats_and_the_end_of_a_session_bring_nothing(tmp_path: Path) -> None:
    beat, end = (udp(header(SESSION, 301, count)) for count in (0, END_OF_SESSION))
    first = udp(header(SESSION, 1, 0))
    feeds, frames, _ = feeds_of(tmp_path, first, *LINE_A, beat, end)
    assert (frames, oddities(feeds), feeds.count("gaps")) == (oracle.framed(*MESSAGES), {}, 0)


def test_packets_that_lack_something_are_told(tmp_path: Path) -> None:
    short, torn = udp(SENT[3][:15]), udp(SENT[3][:-9])
    far = udp(packet(SESSION, 2**63, MESSAGES[:1]))
    strange = udp(b"\xff" * 40)
    feeds, frames, _ = feeds_of(tmp_path, *LINE_A[:3], short, far, strange, torn, *LINE_A[4:])
    assert frames == oracle.framed(*MESSAGES[:39], *MESSAGES[40:])
    assert oddities(feeds) == {"malformed_packet": 3, "truncated_packet": 1, "gap": 1}


def test_sessions_side_by_side_are_kept_apart(tmp_path: Path) -> None:
    other = [udp(packet(b"OTHER", 1 + at, MESSAGES[at : at + 10]), 3) for at in range(0, 300, 10)]
    feeds, frames, _ = feeds_of(tmp_path, *LINE_A[:15], *other, *LINE_A[15:])
    assert frames == oracle.framed(*MESSAGES[:150], *MESSAGES, *MESSAGES[150:])
    assert feeds.count("duplicates") == feeds.count("gaps") == 0


@pytest.mark.parametrize("name", [b"", b"S", b"S\0\0\0\0\0\0\0\0\0", bytes(10)])
def test_names_of_sessions_are_padded_with_anything(tmp_path: Path, name: bytes) -> None:
    sent = [udp(packet(name, 1 + at, MESSAGES[at : at + 10])) for at in range(0, 300, 10)]
    feeds, frames, _ = feeds_of(tmp_path, *sent)
    assert (frames, oddities(feeds)) == (oracle.framed(*MESSAGES), {})


def test_messages_come_alone_and_framed_too(tmp_path: Path) -> None:
    alone = [udp(message, 5) for message in MESSAGES[:9]]
    framed = [udp(oracle.framed(*MESSAGES[at : at + 3]), 6) for at in range(9, 30, 3)]
    feeds, frames, _ = feeds_of(tmp_path, *alone, *framed, udp(b"hello", 7))
    assert frames == oracle.framed(*MESSAGES[:30])
    assert feeds.packets == {"datagrams": 16, "other_datagrams": 1}


def test_raw_messages_come_beside_them(tmp_path: Path) -> None:
    sent = [udp(message, 8) for message in GOOD]
    bad = [udp(GOOD[0][:20], 8), udp(GOOD[0] + b"zz", 8), udp(b"", 8), udp(b"\x07" + GOOD[0][1:], 8)]
    feeds, frames, raw = feeds_of(tmp_path, *sent, *LINE_A, *bad)
    assert frames == oracle.framed(*MESSAGES)
    assert raw == b"".join(GOOD) + GOOD[0] + b"\x07" + GOOD[0][1:]
    assert oddities(feeds) == {"short_datagram": 1, "bytes_behind": 1}
