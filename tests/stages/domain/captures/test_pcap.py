"""Captures of the network: containers, links, and what is no datagram."""

import gzip
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.domain.captures.datagrams import ANYWHERE, Endpoint, datagrams, ip_packet
from stages.domain.captures.pcap import Packet, is_pcap, packet_record, packets, pcap_head
from stages.domain.captures.pieces import DamagedFileError
from tests.stages.domain.captures.packets import (
    COOKED,
    COOKED_2,
    ETHERNET,
    LOOPBACK,
    RAW_IP,
    pcap,
    pcapng,
    udp,
)

CONTENTS = [bytes([number]) * (60 + number) for number in range(9)]


def file(folder: Path, content: bytes) -> Path:
    path = folder / "capture"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit_ns"), [(0xA1B2C3D4, 1_000), (0xA1B23C4D, 1)])
def test_pcap_in_either_byte_order_and_unit(tmp_path: Path, order: str, magic: int, unit_ns: int) -> None:
    content = pcap(CONTENTS, order=order, magic=magic, link=RAW_IP)
    assert is_pcap(content)
    found = list(packets(file(tmp_path, gzip.compress(content))))
    assert [(packet.time_ns, packet.link_type, packet.content) for packet in found] == [
        (number * 10**9 + 5 * unit_ns, RAW_IP, packet) for number, packet in enumerate(CONTENTS)
    ]
    assert found[1].offset == 24 + 16 + len(CONTENTS[0])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("power", "unit_ns"), [(None, 1_000), (9, 1), (6, 1_000), (0x80 | 9, 10**9 / 512)])
def test_pcapng_with_every_kind_of_packet(tmp_path: Path, order: str, power: int | None, unit_ns: float) -> None:
    content = pcapng(CONTENTS, order=order, power=power) + pcapng(CONTENTS[:1], order="<>"[order == "<"], link=RAW_IP)
    assert is_pcap(content)
    *found, last = packets(file(tmp_path, content))
    assert [packet.content for packet in found] == CONTENTS
    assert [packet.time_ns for packet in found] == [
        int(number * unit_ns) if number % 3 < 2 else 0 for number in range(len(CONTENTS))
    ]
    assert {packet.link_type for packet in found} == {ETHERNET}
    assert (last.content, last.link_type) == (CONTENTS[0], RAW_IP)


def good_part(path: Path) -> tuple[list[Packet], DamagedFileError | None]:
    found: list[Packet] = []
    try:
        found.extend(packets(path))
    except DamagedFileError as error:
        return found, error
    return found, None


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_file_damaged_anywhere_gives_its_good_part(tmp_path: Path, make: Callable[..., bytes]) -> None:
    content = make(CONTENTS)
    whole, damage = good_part(file(tmp_path, content))
    assert damage is None
    for cut in random.Random(1).sample(range(4, len(content)), 60):
        found, damage = good_part(file(tmp_path, content[:cut]))
        assert found == whole[: len(found)]
        is_between = cut in {packet.offset for packet in whole} | {24, 28, 48, 76}
        assert damage.offset <= cut if damage is not None else is_between
    for seed in range(60):
        rng = random.Random(seed)
        body = bytearray(content)
        at = rng.randrange(4, len(body))
        body[at : at + 4] = rng.randbytes(4)
        found, damage = good_part(file(tmp_path, bytes(body)))
        assert damage is None or damage.offset <= len(content)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="no capture file"):
        list(packets(file(tmp_path, b"hello there")))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", [ETHERNET, COOKED, COOKED_2, LOOPBACK, RAW_IP])
def test_datagrams_come_by_every_link(tmp_path: Path, link: int, version: int) -> None:
    vlans = (0, 1, 2) if link == ETHERNET else (0,)
    sent = [udp(b"payload %d" % number, 9, link=link, version=version, vlans=number) for number in vlans]
    others: Counter[str] = Counter()
    found = list(datagrams(file(tmp_path, pcap(sent, link=link)), lambda name, _: others.update([name])))
    assert [datagram.payload for datagram in found] == [b"payload %d" % number for number in vlans]
    assert {datagram.flow for datagram in found} == {(b"\x09" * (4 if version == 4 else 16), 9)}
    assert not others


def test_what_is_no_whole_datagram_is_counted(tmp_path: Path) -> None:
    good = udp(b"x" * 100)
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    tcp = bytearray(good)
    tcp[14 + 9] = 6
    sent = [good, arp, bytes(tcp), udp(b"y", fragment=0x2000), udp(b"y", fragment=7), good[:60], good[:20], b"", good]
    others: Counter[str] = Counter()
    at: list[int] = []
    found = list(datagrams(file(tmp_path, pcap(sent)), lambda name, offset: (others.update([name]), at.append(offset))))
    assert len(found) == 2
    assert others == {"other_protocol": 2, "fragment": 2, "cut_short": 3}
    assert at[:2] == [len(pcap(sent[:number])) for number in (1, 2)]


@pytest.mark.parametrize("link", [ETHERNET, COOKED, COOKED_2, LOOPBACK, RAW_IP])
def test_no_bytes_at_all_upset_it(tmp_path: Path, link: int) -> None:
    rng = random.Random(link)
    sent = [rng.randbytes(rng.randrange(100)) for _ in range(300)]
    for version in (4, 6):
        for _ in range(300):
            packet = bytearray(udp(b"z" * 30, link=link, version=version))
            packet[rng.randrange(len(packet))] = rng.randrange(256)
            sent.append(bytes(packet))
    others: Counter[str] = Counter()
    found = list(datagrams(file(tmp_path, pcap(sent, link=link)), lambda name, _: others.update([name])))
    assert len(found) + others.total() == len(sent)


@pytest.mark.parametrize("size", [0, 1, 29, 1_400, 65_507])
@pytest.mark.parametrize("target", [ANYWHERE, (b"\xef\x01\x01\x01", 26_400), (b"\xff" * 4, 0xFFFF)])
def test_packets_that_are_made_here_are_read_here(tmp_path: Path, size: int, target: Endpoint) -> None:
    payload = random.Random(size).randbytes(size)
    packet = ip_packet((b"\x7f\0\0\1", 26_402), target, payload)
    content = pcap_head(RAW_IP) + packet_record(7, packet)
    found = [(each.time_ns, each.flow, each.payload) for each in datagrams(file(tmp_path, content), pytest.fail)]
    assert found == [(7, target, payload)]
    total = sum(int.from_bytes(packet[at : at + 2], "big") for at in range(0, 20, 2))
    assert total % 0xFFFF == 0, "the header's checksum"
