"""Reading recorded ITCH files, and saying clearly where a bad one ends."""

import gzip
from pathlib import Path

import pytest

from stages.domain.captures import itch as capture
from stages.domain.captures.binance import CaptureError
from tests.oracle import itch as oracle
from tests.stages.domain.captures.packets import pcap
from tests.stages.domain.captures.test_udp_feeds import LINE_A
from tests.stages.domain.codecs.itch_messages import order_stream

MESSAGES = order_stream(1, 60)


def write(folder: Path, content: bytes, name: str = "day.itch") -> str:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


@pytest.mark.parametrize("name", ["day.itch", "day.itch.gz"])
def test_a_file_gives_its_messages_their_times_and_their_names(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, oracle.framed(*MESSAGES), name)
    found = list(capture.messages(file))
    assert found == MESSAGES
    for message in found:
        letter, locate, _, time_ns, *rest = oracle.unpack(message)
        assert (capture.locate(message), capture.time_ns(message)) == (locate, time_ns)
        assert list(capture.fields(message).values())[5:] == rest
        assert (capture.stock(message) is not None) == (letter in "RHYLKJhAFPQINO")
    assert capture.is_itch(file)


@pytest.mark.parametrize(
    ("damage", "words"),
    [(b"\x00\x24A" + bytes(9), "cut short, 12 bytes"), (b"\x00\x05Zabcd" + bytes(40), "no ITCH message at offset")],
)
def test_what_comes_before_the_damage_is_used(tmp_path: Path, damage: bytes, words: str) -> None:
    good = oracle.framed(*MESSAGES)
    description = capture.describe([write(tmp_path, good + damage)])
    assert description.message_count == len(MESSAGES)
    (what,) = description.damage
    assert words in what
    assert str(len(good)) in what
    assert capture.is_itch(write(tmp_path, oracle.framed(MESSAGES[0]) + damage)), "however little is good"


def test_a_description_counts_messages_by_name(tmp_path: Path) -> None:
    other = oracle.pack("D", 9, 0, 5, 77)
    description = capture.describe([write(tmp_path, oracle.framed(other, *MESSAGES, other))])
    by_locate = {number: sum(capture.locate(message) == number for message in MESSAGES) for number in range(1, 5)}
    for number, count in by_locate.items():
        assert description.symbols[f"STOCK{number}"] >= count
    assert description.first_ns == 5


def test_a_description_of_two_days_has_the_names_of_both(tmp_path: Path) -> None:
    def day(name: bytes) -> bytes:
        return oracle.framed(oracle.pack("S", 0, 0, 5, b"O"), oracle.pack("A", 1, 0, 9, 1, b"B", 5, name, 7))

    files = [write(tmp_path, day(b"ABC     ") + day(b"XYZ     "))]
    assert capture.describe(files).symbols == {"ABC": 1, "XYZ": 1}


def test_other_files_are_not_itch_and_no_file_is_an_error(tmp_path: Path) -> None:
    assert not capture.is_itch(write(tmp_path, b'1005 {"lastUpdateId":12,"bids":[],"asks":[]}\n'))
    assert not capture.is_itch(write(tmp_path, b""))
    with pytest.raises(CaptureError, match="nothing"):
        list(capture.messages(str(tmp_path / "nothing")))
    with pytest.raises(CaptureError, match="no ITCH message names"):
        capture.describe([write(tmp_path, oracle.framed(oracle.pack("D", 1, 0, 5, 7)))])


def test_what_a_capture_of_the_network_lacks_is_said(tmp_path: Path) -> None:
    file = write(tmp_path, pcap([*LINE_A[:4], *LINE_A[6:]]))
    (warning,) = capture.describe([file]).warnings
    assert "messages 41 to 60 of their session, which no line has brought" in warning
    assert capture.describe([write(tmp_path, pcap(LINE_A))]).warnings == []
