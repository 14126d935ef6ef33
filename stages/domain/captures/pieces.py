"""The bytes of a recorded file in pieces, plain or packed, up to where it is damaged.

Packed is gzip, bzip2, xz, or a zip archive of one file.
"""

import bz2
import errno
import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

PIECE_BYTES = 1 << 20
LINE_BYTES_MAX = 1 << 24
"""Of a longer line, which no format here has, only the beginning is handed out."""
ZIP_MAGIC = b"PK\x03\x04"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNPACK_FIRST = {b"\x28\xb5\x2f\xfd": "Zstandard, which is not read here: unpack it first (zstd -d)",
                 b"7z\xbc\xaf\x27\x1c": "7-Zip, which is not read here: unpack it first (7z x)"}  # fmt: skip
_GZIP_MAGIC = b"\x1f\x8b"
_OPENERS: dict[bytes, Callable[[BinaryIO], IO[bytes]]] = {b"BZh": bz2.BZ2File, b"\xfd7zXZ\x00": lzma.LZMAFile}
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
    """The unpacked content, PIECE_BYTES or so at a time. Raises OSError, or DamagedFileError after the good part.

    A file is read more than once, so a pipe or a device is refused.
    """
    path = Path(file)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "a pipe or a device, which cannot be read twice: write it to a file first")
    with path.open("rb") as source:
        magic = source.read(6)
        source.seek(0)
        opener = next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)
        if magic.startswith(_GZIP_MAGIC):
            yield from _members(source)
        elif packed := next((what for start, what in _UNPACK_FIRST.items() if magic.startswith(start)), None):
            raise OSError(errno.ENOTSUP, f"packed with {packed}")
        elif magic.startswith(ZIP_MAGIC):
            yield from _only_member(source)
        elif opener is not None:
            yield from _unpacked(lambda: opener(source))
        else:
            yield from iter(lambda: source.read(PIECE_BYTES), b"")


def _unpacked(open_packed: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    given = 0
    try:
        with open_packed() as packed:
            while piece := packed.read1(PIECE_BYTES):  # type: ignore[attr-defined]  # read would lose what precedes a break
                given += len(piece)
                yield piece
    except (EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DamagedFileError(given, f"the packed data is damaged: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedFileError(given, f"the packed data is damaged: {error}") from None


def unzipped(file: str | Path | BinaryIO, member: str) -> Iterator[bytes]:
    """One file of a zip archive. Raises as `pieces`."""
    with _archive(file) as archive:
        yield from _unpacked(lambda: archive.open(member))


def zip_members(file: str | Path | BinaryIO) -> list[str]:
    """The files in a zip archive. Raises OSError, or DamagedFileError when it does not say what is in it."""
    with _archive(file) as archive:
        return [member.filename for member in archive.infolist() if not member.is_dir()]


def _archive(file: str | Path | BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise DamagedFileError(0, f"the zip archive is damaged: {error}") from None


def _only_member(source: BinaryIO) -> Iterator[bytes]:
    members = zip_members(source)
    if len(members) != 1:
        raise DamagedFileError(0, f"a zip archive of {len(members)} files, where one was expected")
    yield from unzipped(source, members[0])


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
    offset = dropped = 0
    rest = b""
    damage = None
    source = pieces(file)
    is_first = True
    while True:
        try:
            piece = next(source, None)
        except DamagedFileError as error:
            piece, damage = None, error
        if piece is None:
            break
        if is_first and piece.startswith(_BYTE_ORDER_MARK):
            piece, offset = piece[len(_BYTE_ORDER_MARK) :], len(_BYTE_ORDER_MARK)
        is_first = False
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield offset, line.rstrip(b"\r")
            offset += len(line) + 1 + dropped
            dropped = 0
        if len(rest) > LINE_BYTES_MAX:
            dropped += len(rest) - LINE_BYTES_MAX
            rest = rest[:LINE_BYTES_MAX]
    if damage is not None:  # it broke within a line: nothing can be said of that one
        raise damage
    if rest:
        yield offset, rest.rstrip(b"\r")
