"""The bytes of files however they are packed, and lines however long."""

import bz2
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path

import pytest

from stages.domain.captures.pieces import LINE_BYTES_MAX, PIECE_BYTES, DamagedFileError, lines, pieces

CONTENT = b"".join(b"%d some text\n" % number for number in range(200_000))


def file(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def archive(*members: tuple[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members:
            written.writestr(name, content)
    return target.getvalue()


PACKED = {
    "plain": CONTENT,
    "gzip": gzip.compress(CONTENT),
    "bzip2": bz2.compress(CONTENT),
    "xz": lzma.compress(CONTENT),
    "zip": archive(("folder/", b""), ("folder/a", CONTENT)),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_files_come_out(tmp_path: Path, name: str) -> None:
    found = list(pieces(file(tmp_path, PACKED[name])))
    assert b"".join(found) == CONTENT
    assert max(map(len, found)) <= 2 * PIECE_BYTES


@pytest.mark.parametrize("name", [name for name in PACKED if name not in ("plain", "zip")])
def test_of_a_file_cut_short_the_good_part_comes_out(tmp_path: Path, name: str) -> None:
    found = []
    with pytest.raises(DamagedFileError) as error:  # noqa: PT012 - what came before the error counts
        for piece in pieces(file(tmp_path, PACKED[name][: len(PACKED[name]) * 3 // 4])):
            found.append(piece)
    whole = b"".join(found)
    assert CONTENT.startswith(whole)
    assert error.value.offset == len(whole)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="a zip archive of 2 files"):
        list(pieces(file(tmp_path, archive(("a", b"1"), ("b", b"2")))))
    with pytest.raises(DamagedFileError, match="zip archive is damaged"):
        list(pieces(file(tmp_path, PACKED["zip"][:-40])))
    with pytest.raises(OSError, match="zstd -d"):
        list(pieces(file(tmp_path, b"\x28\xb5\x2f\xfd" + bytes(100))))
    with pytest.raises(OSError, match="7z x"):
        list(pieces(file(tmp_path, b"7z\xbc\xaf\x27\x1c" + bytes(100))))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(OSError, match="a pipe or a device"):
            list(pieces(path))


def test_lines_begin_behind_a_byte_order_mark_and_end_as_anywhere(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfone\r\n\ntwo\nthree"
    assert list(lines(file(tmp_path, content))) == [(3, b"one"), (8, b""), (9, b"two"), (13, b"three")]


def test_of_a_line_without_an_end_only_the_beginning_is_kept(tmp_path: Path) -> None:
    long = b"x" * (2 * LINE_BYTES_MAX)
    first, second = lines(file(tmp_path, long + b"\nnext\n"))
    assert (first[0], long.startswith(first[1])) == (0, True)
    assert LINE_BYTES_MAX <= len(first[1]) <= LINE_BYTES_MAX + PIECE_BYTES
    assert second == (len(long) + 1, b"next")
