"""Writing captures, compressed, in files of limited size that follow each other.

Text goes into lines `<receive ns> <raw JSON>`, binary frames into the packets of a pcap file. A file is a chain of gzip
members, each of whole lines or packets, each written and made durable at once: a crash tears at most the last member,
and every reader of gzip gets what is before it. A replay, a verification, zcat and Wireshark read the files.
"""

import errno
import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stages.domain.captures.datagrams import BARE_PAYLOAD, RAW_IP
from stages.domain.captures.pcap import packet_record, pcap_head


@dataclass(frozen=True)
class Form:
    """How frames are written down. `record(receive ns, frame)` is one, `head` begins a file."""

    suffix: str
    head: bytes
    record: Callable[[int, bytes], bytes]


def _line(receive_ns: int, raw: bytes) -> bytes:
    # A newline can stand between the tokens of a JSON text only, where a space is as good.
    return b"%d %s\n" % (receive_ns, raw.replace(b"\n", b" ") if b"\n" in raw else raw)


LINES = Form(".gz", b"", _line)
PACKETS = Form(".pcap.gz", pcap_head(BARE_PAYLOAD), packet_record)
DATAGRAMS = Form(".pcap.gz", pcap_head(RAW_IP), packet_record)
"""Frames are `datagrams.ip_packet`s."""

FLUSH_BYTES = 1 << 20
"""What is held back until the next `flush`, at most."""
COMPRESSION = 1
"""The fastest: 4 to 6 times smaller; the best is 6 to 8 times, at a tenth of the speed."""


class CaptureWriter:
    """Files `PREFIX-0001.gz`, `PREFIX-0002.gz`, ... in a folder; none of those already there is touched."""

    def __init__(self, folder: Path, prefix: str, rotate_bytes: int, form: Form = LINES) -> None:
        """Make the folder. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._prefix, self._rotate_bytes = folder, prefix, rotate_bytes
        self.form = form
        """To be set before anything is written."""
        self._records: list[bytes] = []
        self._held_bytes = 0
        self._descriptor = -1
        self._file_bytes = 0
        self._number = 0
        self._last_ns = 0
        self.files: list[Path] = []
        self.frames_written = 0
        self.bytes_written = 0

    def add(self, receive_ns: int, raw: bytes) -> None:
        """A frame more; times never go back. Raises OSError."""
        self._last_ns = max(self._last_ns, receive_ns)
        record = self.form.record(self._last_ns, raw)
        self._records.append(record)
        self._held_bytes += len(record)
        if self._held_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held back as one member. Raises OSError; what was whole before stays so."""
        if not self._records:
            return
        if self._descriptor < 0:
            self._open()
        head = b"" if self._file_bytes else self.form.head
        member = gzip.compress(head + b"".join(self._records), COMPRESSION, mtime=0)
        try:
            written = 0
            while written < len(member):
                written += os.write(self._descriptor, member[written:])
            os.fdatasync(self._descriptor)
            if os.fstat(self._descriptor).st_nlink == 0:  # written on, it would be a recording that nobody can read
                raise FileNotFoundError(errno.ENOENT, "removed while it was written", str(self.files[-1]))
        except OSError:
            os.ftruncate(self._descriptor, self._file_bytes)
            raise
        self.frames_written += len(self._records)
        self.bytes_written += len(member)
        self._file_bytes += len(member)
        self._records.clear()
        self._held_bytes = 0
        if self._file_bytes >= self._rotate_bytes:
            self._close_file()

    def close(self) -> None:
        """Write the rest. Raises OSError."""
        try:
            self.flush()
        finally:
            self._close_file()

    def _open(self) -> None:
        while self._descriptor < 0:
            self._number += 1
            path = self._folder / f"{self._prefix}-{self._number:04}{self.form.suffix}"
            try:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            self.files.append(path)
            self._file_bytes = 0

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
