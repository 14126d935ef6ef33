"""Captures of the network (pcap, pcapng): the feeds in their UDP datagrams, each through its format's own verifier."""

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.verify import itch, raw
from pipeline.verify.report import FileReport
from pipeline.verify.streams import Take
from stages.domain.captures.pcap import is_pcap
from stages.domain.captures.pieces import DamagedFileError
from stages.domain.captures.udp_feeds import UdpFeeds
from stages.domain.messages import BookState

__all__ = ["is_pcap", "verify"]

HINT = "what is read of UDP: ITCH 5.0 in MoldUDP64 packets or alone, and raw 29-byte messages"
CHUNK_BYTES = 1 << 18


def verify(path: Path, books: dict[str, dict[str, Any]]) -> list[FileReport]:
    """A report for ITCH and one for raw messages, as far as there are any. Raises UsageError when there are none."""
    feeds = UdpFeeds(path)
    itch_part, raw_part = _Part(path, "itch"), _Part(path, "raw")
    itch_verifier, raw_verifier = itch.Verifier(path.stat().st_size), raw.Verifier()
    itch_verifier.warm_up()
    damage = None
    try:
        for content in feeds.read():
            part, take = (raw_part, raw_verifier.take) if content.is_raw else (itch_part, itch_verifier.take)
            part.add(content.content, content.offset, take)
    except DamagedFileError as error:
        damage = error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "give a file that can be read") from None
    found: dict[str, dict[str, Any]] = {}
    parts = (
        (itch_part, itch_verifier.take, lambda report: itch_verifier.conclude(report, found)),
        (raw_part, raw_verifier.take, raw_verifier.conclude),
    )
    reports = [part.concluded(take, conclude) for part, take, conclude in parts if part.has_content]
    if not reports:
        counts = ", ".join(f"{count:,} {name}" for name, count in feeds.packets.items()) or "no packet"
        raise UsageError(f"{path}: no market data in it that is known here: {counts}"
                         + (f"; {damage.what} at offset {damage.offset:,}" if damage else ""), HINT)  # fmt: skip
    report = reports[0]
    report.gaps = feeds.count("gaps")
    report.details |= {"packets": dict(feeds.packets), "duplicates": feeds.count("duplicates")}
    if report.gaps:
        for book in found.values():  # nobody knows which of them lacks something
            if book["state"] == BookState.VALID.name.lower():
                book["state"] = BookState.DIRTY.name.lower()
    for oddity in feeds.oddities:
        report.problem(oddity.name, oddity.what, count=oddity.times, offset=oddity.offset)
    if damage is not None:
        report.problem("damaged_file", damage.what, offset=damage.offset)
    books |= found
    return reports


class _Part:
    """The bytes of one format on their way to a verifier, and where in the file each of them comes from."""

    def __init__(self, path: Path, name: str) -> None:
        self._report = FileReport(str(path), name)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._rest, self._offset, self._end = b"", 0, 0
        self._begins: list[int] = []
        self._places: list[int] = []
        self.has_content = False

    def add(self, content: bytes, place: int, take: Take) -> None:
        """`content` came with the packet at offset `place` of the file."""
        self.has_content = True
        self._begins.append(self._end)
        self._places.append(place)
        self._end += len(content)
        self._waiting.append(content)
        self._waiting_bytes += len(content)
        if self._waiting_bytes >= CHUNK_BYTES:
            self._play(take, is_last=False)

    def concluded(self, take: Take, conclude: Callable[[FileReport], None]) -> FileReport:
        """The report, with places in the file."""
        self._play(take, is_last=True)
        report = self._report
        report.bytes_left = len(self._rest)
        conclude(report)
        for problem in report.problems:
            if problem.offset is not None:
                problem.offset = self._place(problem.offset)
        if report.first_mismatch is not None:
            report.first_mismatch["offset"] = self._place(report.first_mismatch["offset"])
        return report

    def _play(self, take: Take, *, is_last: bool) -> None:
        content = self._rest + b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        left = take(content, self._offset, is_last)
        self._offset += len(content) - left
        self._rest = content[len(content) - left :]

    def _place(self, offset: int) -> int:
        """Where the packet begins that brought the byte at `offset` of the stream."""
        return self._places[max(bisect_right(self._begins, offset) - 1, 0)]
