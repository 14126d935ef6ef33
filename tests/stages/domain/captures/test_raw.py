"""Files of raw messages as they are played: plain, packed, or captured; up to where they are damaged."""

import gzip
from pathlib import Path

import pytest

from stages.domain.captures.binance import CaptureError
from stages.domain.captures.raw import describe, is_raw, messages, played, unpack
from tests.oracle import itch as oracle
from tests.stages.domain.captures.packets import pcap, udp
from tests.stages.domain.codecs.itch_messages import order_stream
from tests.stages.feed.lines.test_raw_datagrams import QUOTE, TRADE, raw

SENT = [raw((TRADE, QUOTE)[number % 2], number % 3, 100 * number, number, 10**9 + number) for number in range(1, 40)]
STRANGE = raw(7, 1)


def file(folder: Path, content: bytes) -> str:
    path = folder / "file"
    path.write_bytes(content)
    return str(path)


def test_messages_come_out_as_they_are_in_whatever_they_are_kept(tmp_path: Path) -> None:
    with_unknown = [*SENT[:5], STRANGE, *SENT[5:]]
    for content in (b"".join(with_unknown), gzip.compress(b"".join(with_unknown)),
                    pcap([udp(b"".join(with_unknown[at : at + 3])) for at in range(0, 40, 3)])):  # fmt: skip
        kept = file(tmp_path, content)
        assert is_raw(kept)
        assert list(messages(kept)) == with_unknown
    assert unpack(SENT[1]) == (TRADE, 2, 200, 2, 10**9 + 2)


def test_unknown_types_are_messages_where_they_stand_first_and_in_a_row(tmp_path: Path) -> None:
    strange = [raw(9, 1, 100, 5, 16 * 10**17 + number) for number in range(4)]
    sent = [*strange, *[raw(TRADE, 1, 100, 5, 16 * 10**17 + number) for number in range(20)], *strange]
    kept = file(tmp_path, b"".join(sent))
    assert is_raw(kept)
    assert list(messages(kept)) == sent


@pytest.mark.parametrize(
    ("content", "good", "what"),
    [
        (b"".join(SENT)[:-1], len(SENT) - 1, "28 bytes are left over at offset 1102"),
        (b"".join(SENT[:20]) + b"garbage" * 11 + b"".join(SENT[20:]), 20, "no raw message at offset 580"),
        (gzip.compress(b"".join(SENT))[:-9], None, "file"),
        (b"".join(SENT[:2])[:-1], 1, "28 bytes are left over at offset 29"),
    ],
)
def test_a_damaged_file_is_played_up_to_the_damage(tmp_path: Path, content: bytes, good: int | None, what: str) -> None:
    damage: list[str] = []
    kept = file(tmp_path, content)
    assert is_raw(kept)
    found = list(played([kept, kept], damage))
    assert found == SENT[: len(found)]
    assert good is None or len(found) == good
    assert len(damage) == 1
    assert what in damage[0]
    assert any(what in warning for warning in describe([kept]).warnings)


@pytest.mark.parametrize(
    "content", [b"", b"\x01" * 20, b"1723161255208000000 {}", oracle.framed(*order_stream(1, 40)), b"PK", bytes(99)]
)
def test_other_files_are_none(tmp_path: Path, content: bytes) -> None:
    assert not is_raw(file(tmp_path, content))


def test_what_files_hold(tmp_path: Path) -> None:
    found = describe([file(tmp_path, b"".join(SENT))])
    assert (found.message_count, found.first_ns, found.symbols) == (39, 10**9 + 1, {"ID0": 13, "ID1": 13, "ID2": 13})
    assert found.steps == {"ID0": 600, "ID1": 200, "ID2": 200}
    assert "no book is filled" in found.warnings[0]
    with pytest.raises(CaptureError, match="No such file"):
        describe([str(tmp_path / "nowhere")])
    with pytest.raises(CaptureError, match="holds no raw message"):
        describe([file(tmp_path, b"")])
