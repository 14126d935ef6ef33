"""Finding and reading LOBSTER samples: a message file and the order book file that tells what came of each message.

Names are `TICKER_DATE_START_END_message_LEVELS.csv` and the same with `orderbook`, plain or gzip, alone, in a folder,
or in a zip archive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.domain.captures.pieces import ZIP_MAGIC, DamagedFileError, pieces, unzipped, zip_members
from stages.domain.codecs.lobster import books_of, messages_of

_MESSAGE, _BOOK = "_message", "_orderbook"


@dataclass(frozen=True)
class Source:
    """A file, or a member of a zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        return Path(self.member).name if self.member else self.path.name

    @property
    def folder(self) -> str:
        return str(Path(self.member or self.path).parent)

    def text(self) -> tuple[bytes, DamagedFileError | None]:
        """(content, what cut it short). Raises OSError."""
        found: list[bytes] = []
        try:
            found.extend(self._pieces())
        except DamagedFileError as error:
            return b"".join(found), error
        return b"".join(found), None

    def _pieces(self) -> Iterator[bytes]:
        yield from unzipped(self.path, self.member) if self.member else pieces(self.path)


@dataclass(frozen=True)
class Sample:
    """A message file and its order book file, if there is one."""

    messages: Source
    book: Source | None

    @property
    def ticker(self) -> str:
        """From the file's name; the whole name if it has another form."""
        return self.messages.name.partition("_")[0].removesuffix(".csv") or "LOBSTER"

    def read(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """(messages, order books) for research: MESSAGE of shape (rows,) and int64 of shape (rows, 4 * levels).

        Row k of both belongs together: the book is the state after the message. Raises ValueError when a line of
        either file is no row or there is no order book, OSError when a file cannot be read.
        """
        if self.book is None:
            raise ValueError(f"{self.messages}: there is no order book file beside it")
        texts = [source.text() for source in (self.messages, self.book)]
        for source, (_, damage) in zip((self.messages, self.book), texts, strict=True):
            if damage is not None:
                raise ValueError(f"{source}: {damage.what} after {damage.offset} bytes")
        messages, books = messages_of(texts[0][0]), books_of(texts[1][0])
        for source, lines in (
            (self.messages, messages[messages["kind"] == 0]["line"]),
            (self.book, books[books[:, 0] == 0][:, 2]),
        ):
            if len(lines):
                raise ValueError(f"{source}:{lines[0]}: no row of integers")
        if len(messages) != len(books):
            raise ValueError(f"{self.messages} has {len(messages)} rows, {self.book} has {len(books)}")
        return messages, books[:, 3:]


def samples(path: Path) -> list[Sample]:
    """The samples in a zip archive, in a folder, or the one that a file belongs to.

    Raises OSError, or DamagedFileError for an archive that does not say what is in it.
    """
    if path.is_dir():
        sources = [Source(file) for file in sorted(path.iterdir()) if file.is_file()]
    elif _is_archive(path):
        sources = [Source(path, name) for name in zip_members(path)]
    else:
        return _of_file(path)
    # What macOS puts beside a file, under its name behind `._`, is none.
    by_place = {(source.folder, source.name): source for source in sources if not source.name.startswith("._")}
    return [
        Sample(source, by_place.get((folder, _swapped(name, _MESSAGE, _BOOK))))
        for (folder, name), source in by_place.items()
        if _MESSAGE in name and ".csv" in name.lower()
    ]


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def _swapped(name: str, old: str, new: str) -> str:
    """The name with the last `old` in it replaced."""
    before, found, behind = name.rpartition(old)
    return before + new + behind if found else ""


def _of_file(path: Path) -> list[Sample]:
    """The sample that a single file belongs to; empty when it is an order book without messages."""
    if _BOOK in path.name:
        messages = path.with_name(_swapped(path.name, _BOOK, _MESSAGE))
        return [Sample(Source(messages), Source(path))] if messages.is_file() else []
    swapped = _swapped(path.name, _MESSAGE, _BOOK)
    book = path.with_name(swapped) if swapped else None
    return [Sample(Source(path), Source(book) if book is not None and book.is_file() else None)]
