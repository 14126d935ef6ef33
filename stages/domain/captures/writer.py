"""Writing captures: lines `<receive ns> <raw JSON>`, compressed, in files of limited size that follow each other.

A file is a chain of gzip members, each of whole lines, each written and made durable at once: a crash tears at most the
last member, and every reader of gzip gets the lines before it. A replay, a verification and zcat read the files.
"""

import gzip
import os
from pathlib import Path

FLUSH_BYTES = 1 << 20
"""Lines that are held back until the next `flush`, at most."""
COMPRESSION = 1
"""The fastest: 4 to 6 times smaller; the best is 6 to 8 times, at a tenth of the speed."""


class CaptureWriter:
    """Files `PREFIX-0001.gz`, `PREFIX-0002.gz`, ... in a folder; none of those already there is touched."""

    def __init__(self, folder: Path, prefix: str, rotate_bytes: int) -> None:
        """Make the folder. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._prefix, self._rotate_bytes = folder, prefix, rotate_bytes
        self._lines: list[bytes] = []
        self._held_bytes = 0
        self._descriptor = -1
        self._file_bytes = 0
        self._number = 0
        self._last_ns = 0
        self.files: list[Path] = []
        self.lines_written = 0
        self.bytes_written = 0

    def add(self, receive_ns: int, raw: bytes) -> None:
        """A line more; times never go back. Raises OSError."""
        self._last_ns = max(self._last_ns, receive_ns)
        # A newline can stand between the tokens of a JSON text only, where a space is as good.
        line = b"%d %s\n" % (self._last_ns, raw.replace(b"\n", b" ") if b"\n" in raw else raw)
        self._lines.append(line)
        self._held_bytes += len(line)
        if self._held_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held back as one member. Raises OSError; what was whole before stays so."""
        if not self._lines:
            return
        if self._descriptor < 0:
            self._open()
        member = gzip.compress(b"".join(self._lines), COMPRESSION, mtime=0)
        try:
            written = 0
            while written < len(member):
                written += os.write(self._descriptor, member[written:])
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._file_bytes)
            raise
        self.lines_written += len(self._lines)
        self.bytes_written += len(member)
        self._file_bytes += len(member)
        self._lines.clear()
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
            path = self._folder / f"{self._prefix}-{self._number:04}.gz"
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
