"""The bytes of a recorded file in pieces, plain or gzip, up to where it is damaged."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PIECE_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's number for "with a gzip header"
_READ_BYTES = 1 << 16
_STEP_BYTES = 64


class DamagedFileError(Exception):
    """A file ends or breaks within its compression. What came before it has been given out.

    `offset` counts the bytes given out, `what` says what happened.
    """

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(what)
        self.offset = offset
        self.what = what


def pieces(file: str | Path) -> Iterator[bytes]:
    """The unpacked content, about PIECE_BYTES at a time. Raises OSError, or DamagedFileError after the good part."""
    with Path(file).open("rb") as source:
        is_gzip = source.read(2) == _GZIP_MAGIC
        source.seek(0)
        yield from _members(source) if is_gzip else iter(lambda: source.read(PIECE_BYTES), b"")


def _members(source: BinaryIO) -> Iterator[bytes]:
    """The content of the gzip members in `source`, one after the other."""
    given = 0
    unread = source.read(_READ_BYTES)
    while unread:
        if not unread.startswith(_GZIP_MAGIC):
            if len(unread) == 1 and (more := source.read(_READ_BYTES)):
                unread += more
                continue
            if unread.strip(b"\0"):  # zeros may pad the last member
                raise DamagedFileError(given, "other bytes behind the gzip data")
            unread = source.read(_READ_BYTES)
            continue
        member = zlib.decompressobj(_GZIP_WINDOW)
        while not member.eof:
            if not unread:
                raise DamagedFileError(given, "the gzip data is cut short")
            before = member.copy()
            try:
                piece = member.decompress(unread)
            except zlib.error as error:
                piece = _good_part(before, unread)
                if piece:
                    yield piece
                raise DamagedFileError(given + len(piece), f"the gzip data is damaged: {error}") from None
            given += len(piece)
            if piece:
                yield piece
            unread = member.unused_data if member.eof else source.read(_READ_BYTES)
        unread = unread or source.read(_READ_BYTES)


def _good_part(member: "zlib._Decompress", compressed: bytes) -> bytes:
    """What comes out of `compressed` before the place where it breaks."""
    found = []
    for begin in range(0, len(compressed), _STEP_BYTES):
        try:
            found.append(member.decompress(compressed[begin : begin + _STEP_BYTES]))
        except zlib.error:
            break
    return b"".join(found)


def lines(file: str | Path) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its end) of the content; the last one may lack its end. Raises as `pieces`."""
    offset = 0
    rest = b""
    damage = None
    source = pieces(file)
    while True:
        try:
            piece = next(source, None)
        except DamagedFileError as error:
            piece, damage = None, error
        if piece is None:
            break
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield offset, line.rstrip(b"\r")
            offset += len(line) + 1
    if damage is not None:  # it broke within a line: nothing can be said of that one
        raise damage
    if rest:
        yield offset, rest.rstrip(b"\r")
