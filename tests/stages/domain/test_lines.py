"""Addresses of lines, and real sockets on loopback at both of their ends."""

import socket

import pytest

from stages.domain.lines import LineAddress, LineError, drop_count, open_receiver, open_sender, parse_address

GROUP = "239.255.77.1"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_an_address_is_a_host_or_a_group_on_an_interface() -> None:
    assert parse_address("udp://10.0.0.5:26400") == LineAddress("10.0.0.5", 26400, "")
    group = parse_address("udp://239.1.2.3:5000?interface=127.0.0.1")
    assert group == LineAddress("239.1.2.3", 5000, "127.0.0.1")
    assert group.is_multicast


@pytest.mark.parametrize(
    "text",
    ["tcp://127.0.0.1:1", "udp://127.0.0.1", "udp://:5", "udp://feed.example:5", "udp://239.1.2.3:5?interface=eth0",
     "udp://127.0.0.1:5?interface=127.0.0.1", "udp://239.1.2.3:5?ttl=3", "udp://127.0.0.1:99999", "127.0.0.1:5"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"127|udp|Port|239|feed"):
        parse_address(text)


@pytest.mark.parametrize("where", ["127.0.0.1:{}", GROUP + ":{}?interface=127.0.0.1"])
def test_what_is_sent_to_a_line_arrives(where: str) -> None:
    address = parse_address("udp://" + where.format(free_port()))
    receiver, findings = open_receiver(address, 65_536)
    with receiver, open_sender(address) as sender:
        assert findings == []
        assert sender.send(b"first") == 5
        assert receiver.recv(100) == b"first"
        with pytest.raises(BlockingIOError):
            receiver.recv(100)


def test_two_receivers_of_this_machine_join_one_group() -> None:
    address = parse_address(f"udp://{GROUP}:{free_port()}?interface=127.0.0.1")
    with open_receiver(address, 65_536)[0] as one, open_receiver(address, 65_536)[0] as two, open_sender(address) as to:
        to.send(b"both")
        assert (one.recv(10), two.recv(10)) == (b"both", b"both")


def test_a_buffer_that_is_not_granted_is_a_finding_and_one_that_is_full_counts_what_it_drops() -> None:
    address = parse_address(f"udp://127.0.0.1:{free_port()}")
    receiver, findings = open_receiver(address, 1 << 40 >> 10)
    receiver.close()
    assert len(findings) == 1
    assert "net.core.rmem_max" in findings[0]
    receiver, _ = open_receiver(address, 4_096)
    with receiver, open_sender(address) as sender:
        for _ in range(100):
            sender.send(bytes(1_000))
        arrived = 0
        try:
            while receiver.recv(2_000):
                arrived += 1
        except BlockingIOError:
            pass
        assert arrived < 100
        assert drop_count(receiver) == 100 - arrived


def test_what_cannot_be_opened_says_where_and_why() -> None:
    with pytest.raises(LineError, match=r"udp://203\.0\.113\.1:5000: Cannot assign.*address of this machine"):
        open_receiver(parse_address("udp://203.0.113.1:5000"), 4_096)
    with pytest.raises(LineError, match=r"interface=203\.0\.113\.1: .*name with \?interface"):
        open_receiver(parse_address(f"udp://{GROUP}:5000?interface=203.0.113.1"), 4_096)
