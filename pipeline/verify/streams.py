"""A file's bytes through a decoder that takes them piece by piece."""

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.verify.report import FileReport
from stages.domain.captures.pieces import DamagedFileError, pieces

Take = Callable[[bytes, int, bool], int]
"""take(content, offset of its first byte, is there nothing behind it) -> bytes at its end that were not read.

What was not read comes again, with what follows it.
"""


def play(path: Path, report: FileReport, take: Take) -> None:
    """Give the whole file to `take`; a file that breaks is given as far as it goes. Raises UsageError."""
    rest, offset = b"", 0
    try:
        for piece in pieces(path):
            content = rest + piece
            used = len(content) - take(content, offset, False)
            rest, offset = content[used:], offset + used
    except DamagedFileError as error:
        report.problem("damaged_file", error.what, offset=error.offset)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "give a file that can be read") from None
    report.bytes_left = take(rest, offset, True)
