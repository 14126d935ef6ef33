"""Captures of the network verified: the same books as from a file of the same messages; places in the capture."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import UsageError
from pipeline.verify import itch, pcap
from pipeline.verify.detect import format_of
from stages.domain.codecs.moldudp64 import packet
from tests.oracle import itch as oracle
from tests.stages.domain.captures import packets
from tests.stages.domain.captures.packets import udp
from tests.stages.domain.captures.test_udp_feeds import LINE_A, LINE_B, MESSAGES, SESSION
from tests.stages.domain.codecs.test_raw import GOOD

pytestmark = pytest.mark.timeout(600)  # the first of them compiles


def file(folder: Path, content: bytes) -> Path:
    path = folder / "capture"
    path.write_bytes(content)
    return path


def test_two_lines_give_the_books_of_the_plain_file(tmp_path: Path) -> None:
    both = [each for pair in zip(LINE_A, LINE_B, strict=True) for each in pair]
    found, expected = {}, {}
    path = file(tmp_path, packets.pcapng(both))
    assert format_of(path) == "pcap"
    (report,) = pcap.verify(path, found)
    plain = tmp_path / "plain"
    plain.write_bytes(oracle.framed(*MESSAGES))
    (other,) = itch.verify(plain, expected)
    assert found == expected
    assert (report.format, report.messages, report.compared, report.matched, report.unknown_orders) == (
        "itch", other.messages, other.compared, other.matched, other.unknown_orders,
    )  # fmt: skip
    assert (report.gaps, report.bytes_left, report.problems) == (0, 0, [])
    assert report.details["duplicates"] == len(MESSAGES)


def test_problems_stand_where_their_packet_begins_and_a_gap_leaves_no_book_valid(tmp_path: Path) -> None:
    bad = packet(SESSION, 101, [MESSAGES[100], b"z??", *MESSAGES[102:110]])
    content = packets.pcap([*LINE_A[:10], udp(bad), *LINE_A[11:20], *LINE_A[21:]])
    books = {}
    (report,) = pcap.verify(file(tmp_path, content + b"\0" * 5), books)
    found = {problem.name: (problem.count, problem.offset) for problem in report.problems}
    place = len(packets.pcap(LINE_A[:10]))
    assert found == {
        "unknown_type": (1, place), "gap": (1, content.index(LINE_A[21]) - 16), "damaged_file": (1, len(content)),
    }  # fmt: skip
    assert "messages 201 to 210 of their session" in str(report.problems[1])
    assert report.gaps == 1
    assert "valid" not in {book["state"] for book in books.values()}


def test_packets_that_are_not_whole_are_a_problem(tmp_path: Path) -> None:
    cut, part = LINE_A[5][:70], udp(b"y" * 40, fragment=0x2000)
    content = packets.pcap([*LINE_A[:5], cut, *LINE_A[6:8], cut, part])
    (report,) = pcap.verify(file(tmp_path, content), {})
    found = {problem.name: (problem.count, problem.offset) for problem in report.problems}
    assert found == {
        "cut_short": (2, len(packets.pcap(LINE_A[:5]))), "fragment": (1, len(content) - len(part) - 16),
        "gap": (1, content.index(LINE_A[6]) - 16),
    }  # fmt: skip


def test_both_kinds_in_one_file_are_two_reports(tmp_path: Path) -> None:
    sent = [*LINE_A, *(udp(message, 8) for message in GOOD), udp(b"what is this", 9)]
    done = CliRunner().invoke(cli, ["verify", str(file(tmp_path, packets.pcap(sent))), "--json", "--format", "raw"])
    assert done.exit_code == 0, done.output
    first, second = json.loads(done.stdout)["files"]
    assert (first["format"], second["format"]) == ("itch", "raw")
    assert first["packets"] == {"datagrams": len(LINE_A) + len(GOOD), "other_datagrams": 1}
    assert sum(second["messages"].values()) == len(GOOD)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (packets.pcap([]), "no packet"),
        (packets.pcap([udp(b"hello there")] * 3), "3 other_datagrams"),
        (packets.pcap(LINE_A)[:100], "ends within a packet"),
    ],
)
def test_a_file_without_market_data_is_refused_with_a_hint(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        pcap.verify(file(tmp_path, content), {})
    assert "MoldUDP64" in error.value.hint
