"""ITCH files through the real server: the bytes, the pace, what is listed."""

from pathlib import Path

from tests.oracle import itch as oracle
from tests.stages.venue.venue_process import running

MS = 1_000_000


def add(number: int, time_ns: int, locate: int = 1, stock: bytes = b"STOCK1  ") -> bytes:
    return oracle.pack("A", locate, 0, time_ns, number, b"B", 100, stock, 100_0000 + number)


def test_a_file_comes_out_byte_for_byte_and_is_counted_in_frames(tmp_path: Path) -> None:
    content = oracle.framed(
        *(add(number, number, 2 - number % 2, b"STOCK%d  " % (2 - number % 2)) for number in range(1, 1001))
    )
    file = tmp_path / "day.itch"
    file.write_bytes(content)
    with running(replay=[str(file)], speed="max") as venue:
        listed = [(item["symbol"], item["quoteAsset"]) for item in venue.rest("GET", "exchangeInfo")[1]["symbols"]]
        assert listed == [("STOCK1", "USD"), ("STOCK2", "USD")]
        socket = venue.connect("/stream?streams=itch")
        found, frames = b"", 0
        while len(found) < len(content):
            found += socket.recv()
            frames += 1
        assert found == content
        finished = venue.wait_event()
        assert (finished["event"], finished["stream_messages"]) == ("replay_finished", frames)
        assert finished["recorded_messages"] == 1000


def test_messages_that_are_apart_come_in_frames_of_their_own(tmp_path: Path) -> None:
    content = [oracle.framed(add(1, 0), add(2, 1)), oracle.framed(add(3, 300 * MS))]
    file = tmp_path / "day.itch"
    file.write_bytes(b"".join(content))
    with running(replay=[str(file)], speed="10") as venue:
        socket = venue.connect("/stream?streams=itch")
        assert [socket.recv(), socket.recv()] == content
        assert venue.wait_event()["duration_ns"] >= 30 * MS
