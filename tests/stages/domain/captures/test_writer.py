"""Captures written: whole lines in whole members, in files that follow each other, whatever tears the last."""

import contextlib
import gzip
import os
import random
from pathlib import Path

import pytest

from stages.domain.captures import binance as capture
from stages.domain.captures.binance import Damage
from stages.domain.captures.pieces import DamagedFileError
from stages.domain.captures.udp_feeds import Content, UdpFeeds
from stages.domain.captures.writer import PACKETS, CaptureWriter
from tests.oracle import itch as oracle
from tests.stages.domain.captures.test_udp_feeds import MESSAGES


def line(number: int) -> bytes:
    return b'{"stream":"ab@trade","data":{"e":"trade","s":"AB","t":%d,"p":"1","q":"1"}}' % number


def test_what_is_written_is_read(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path / "new" / "folder", "run", 1 << 30)
    for number in range(50):
        writer.add(1_000 + number, line(number))
        if number % 20 == 0:
            writer.flush()
    writer.add(900, b'{"lastUpdateId":7,\n"bids":[],"asks":[]}')
    writer.close()
    (file,) = writer.files
    assert file.name == "run-0001.gz"
    found = list(capture.records(str(file), pytest.fail))
    assert [record.raw for record in found[:-1]] == [line(number) for number in range(50)]
    assert [record.receive_ns for record in found] == [*range(1_000, 1_050), 1_049]  # times never go back
    assert (found[-1].last_id, writer.frames_written) == (7, 51)
    assert writer.bytes_written == file.stat().st_size


def test_files_are_followed_by_others_and_none_is_touched(tmp_path: Path) -> None:
    taken = tmp_path / "run-0002.gz"
    taken.write_bytes(b"another's")
    writer = CaptureWriter(tmp_path, "run", 500)
    for number in range(100):
        writer.add(number, line(number) + os.urandom(40).hex().encode())
        writer.flush()
    writer.close()
    assert taken.read_bytes() == b"another's"
    assert taken not in writer.files
    assert len(writer.files) > 5
    assert all(file.stat().st_size < 1_000 for file in writer.files)
    stamps = [int(text.split()[0]) for file in writer.files for text in gzip.decompress(file.read_bytes()).splitlines()]
    assert stamps == list(range(100))


def test_a_file_cut_anywhere_gives_all_whole_members(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, "run", 1 << 30)
    ends = []
    for number in range(10):
        writer.add(number, line(number))
        writer.flush()
        ends.append(writer.bytes_written)
    writer.close()
    (file,) = writer.files
    content = file.read_bytes()
    for cut in random.Random(1).sample(range(1, len(content)), 60):
        torn: list[Damage] = []
        file.write_bytes(content[:cut])
        found = [record.receive_ns for record in capture.records(str(file), torn.append)]
        whole = sum(end <= cut for end in ends)
        assert found[:whole] == list(range(whole))
        assert len(found) <= whole + 1
        assert bool(torn) == (cut not in ends), cut


def test_nothing_written_is_no_file(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, "run", 1_000)
    writer.close()
    assert (writer.files, list(tmp_path.iterdir())) == ([], [])


def test_a_full_disk_leaves_whole_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CaptureWriter(tmp_path, "run", 1 << 30)
    writer.add(1, line(1))
    writer.flush()
    real = os.write

    def some(descriptor: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:20])

    monkeypatch.setattr(os, "write", some)
    writer.add(2, line(2))
    with pytest.raises(OSError, match="No space left"):
        writer.flush()
    assert [record.receive_ns for record in capture.records(str(writer.files[0]), pytest.fail)] == [1]


def test_a_file_that_is_removed_while_it_is_written_is_an_error(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, "run", 1 << 20)
    writer.add(1, line(1))
    writer.flush()
    writer.files[0].unlink()
    writer.add(2, line(2))
    with pytest.raises(FileNotFoundError, match=r"removed while it was written: '.*run-0001\.gz'"):
        writer.flush()


BLOCKS = [oracle.framed(*MESSAGES[at : at + 7]) for at in range(0, 280, 7)]


def test_binary_frames_are_packets_of_pcap_files(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, "run", 3_000, PACKETS)
    for number, block in enumerate(BLOCKS):
        writer.add(10**18 + number, block)
        writer.flush()
    writer.close()
    assert len(writer.files) > 2
    assert writer.files[0].name == "run-0001.pcap.gz"
    found = [content for file in writer.files for content in UdpFeeds(file).read()]
    assert [content.content for content in found] == BLOCKS
    assert [content.time_ns for content in found] == [10**18 + number for number in range(len(BLOCKS))]


def test_a_pcap_file_cut_anywhere_gives_all_whole_members(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, "run", 1 << 30, PACKETS)
    ends = []
    for number, block in enumerate(BLOCKS):
        writer.add(number, block)
        writer.flush()
        ends.append(writer.bytes_written)
    writer.close()
    (file,) = writer.files
    content = file.read_bytes()
    for cut in random.Random(1).sample(range(1, len(content)), 30):
        file.write_bytes(content[:cut])
        found: list[Content] = []
        with contextlib.suppress(DamagedFileError):
            found.extend(UdpFeeds(file).read())
        whole = sum(end <= cut for end in ends)
        assert [each.content for each in found] == BLOCKS[: len(found)]
        assert whole <= len(found) <= whole + 1
