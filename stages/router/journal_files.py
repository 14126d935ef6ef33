"""The router's journal, cold side: files of entries in the run's folder, mapped, one after the other; and recovery.

    journal/00000001.journal    a header of 4096 bytes, more where there are many symbols; then entries of 256 bytes
    journal/00000002.journal    begins with an entry for each order and position there is: earlier files are history
    journal/00000003.new        the next one, until that beginning stands in it

Space is reserved when a file is made, so that a full disk is an error then and not a SIGBUS later. The file survives
the process whatever kills it; against a power cut it is as old as the kernel's write-back (30 s by default).
"""

import contextlib
import json
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shm.layout import align_up, describe, fingerprint
from shm.segment import MADV_POPULATE_WRITE
from stages.agent import AgentError
from stages.domain.instruments import MAXIMUM_SYMBOLS
from stages.domain.messages import POSITION
from stages.domain.orders import ORDER_SLOTS
from stages.router.journal import ENTRIES_PER_POLL, ENTRY, ENTRY_BYTES, MULTIPLIER, POSITION_WORDS, ROW_WORDS
from stages.router.records import ORDER_ROW

MAGIC = b"tickpipe-journal"
HEADER_BYTES = 4096
"""The header is the least multiple of this that holds what it says."""
FILE_ENTRIES = 16_384
"""4 MB a file: about 4,000 orders."""
POPULATED_BYTES = 1 << 18
"""Pages ahead of the next entry that are faulted in a few times a second: a first touch costs the hot path 2 us."""
SUFFIX = ".journal"

_HEADER = struct.Struct("<16s32sqq")


class JournalError(AgentError):
    """The journal cannot be written, or is another one than expected."""


@dataclass(frozen=True)
class Recovered:
    """What a journal says: the newest entry of each order and of each position."""

    orders: NDArray[np.void]
    """ORDER_ROW by slot; state FREE where there was none."""
    positions: NDArray[np.void]
    """POSITION by symbol."""
    number: int
    """Of the last whole entry; 0 when there is none."""
    taken_seq: int
    """Of the last order record acted on."""
    torn: int
    """Entries at the end that were begun and not finished: 0 or 1."""
    path: Path
    """The file that is gone on with."""
    used: int
    """Whole entries in it."""


def _fingerprint(symbols: list[str], prefix: str) -> bytes:
    layout = describe(ORDER_ROW) | {f"position.{name}": text for name, text in describe(POSITION).items()}
    return fingerprint(layout | {"symbols": ",".join(symbols), "prefix": prefix})


def files_of(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def checksums(entries: NDArray[np.void]) -> NDArray[np.int64]:
    """What the checksum of each of `entries` must be; the twin of `journal.checksum`."""
    words = entries.view(np.int64).reshape(len(entries), ENTRY_BYTES // 8)[:, 1:]
    lanes = [np.full(len(entries), lane + 1, np.int64) for lane in range(4)]
    for index in range(words.shape[1]):
        lanes[index % 4] = _mix(lanes[index % 4], words[:, index])
    return _mix(_mix(_mix(lanes[0], lanes[1]), lanes[2]), lanes[3])


def _mix(value: NDArray[np.int64], word: NDArray[np.int64]) -> NDArray[np.int64]:
    mixed: NDArray[np.int64] = (value ^ word ^ (word >> 29)) * MULTIPLIER
    return mixed


def _header_bytes(length: int) -> int:
    """Where entries begin behind a header that says `length` bytes."""
    return align_up(_HEADER.size + length, HEADER_BYTES)


def read_entries(path: Path) -> tuple[NDArray[np.void], dict[str, object], int]:
    """(whole entries, what the header says, torn entries at the end). Raises JournalError for what is no journal."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from error
    magic, mark, entry_bytes, length = _HEADER.unpack(raw[: _HEADER.size].ljust(_HEADER.size, b"\0"))
    if magic != MAGIC or entry_bytes != ENTRY_BYTES or len(raw) < HEADER_BYTES:
        raise JournalError(f"{path}: not a journal of this version (entries of {entry_bytes} bytes, not {ENTRY_BYTES})")
    try:
        says = json.loads(raw[_HEADER.size : _HEADER.size + length])
    except ValueError as error:
        raise JournalError(f"{path}: its header is not readable") from error
    if mark != _fingerprint(says["symbols"], says["prefix"]):
        raise JournalError(f"{path}: not a journal of this version: its entries have other fields")
    begin = _header_bytes(length)
    usable = max(0, len(raw) - begin) // ENTRY_BYTES
    entries = np.frombuffer(raw, ENTRY, usable, begin) if usable else np.zeros(0, ENTRY)
    used = int(np.argmax(entries["number"] == 0)) if (entries["number"] == 0).any() else usable
    entries = entries[:used]
    expected = entries["number"][0] + np.arange(used) if used else np.zeros(0, np.int64)
    good = (entries["checksum"] == checksums(entries)) & (entries["number"] == expected)
    whole = used if good.all() else int(np.argmin(good))
    return entries[:whole], says, used - whole


def recover(folder: Path, symbols: list[str], prefix: str) -> Recovered | None:
    """The newest truth of the journal in `folder`; None when there is none. Raises JournalError for another run's.

    The last file says it all: it got its name when all that there was stood in it.
    """
    files = files_of(folder)
    if not files:
        return None
    path = files[-1]
    entries, says, torn = read_entries(path)
    if says.get("symbols") != symbols or says.get("prefix") != prefix:
        raise JournalError(f"{path}: of {says.get('symbols')} with ids {says.get('prefix')}, not of this run")
    orders, positions = newest(entries, len(symbols))
    number, taken = (int(entries[name].max()) if len(entries) else 0 for name in ("number", "taken_seq"))
    return Recovered(orders, positions, number, taken, torn, path, len(entries))


def newest(entries: NDArray[np.void], symbols: int) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """(ORDER_ROW by slot, POSITION by symbol): the newest entry of each. The slot beyond the table holds no order."""
    orders = np.zeros(ORDER_SLOTS + 1, ORDER_ROW)
    positions = np.zeros(symbols, POSITION)
    row_words = orders.view(np.int64).reshape(len(orders), -1)
    position_words = positions.view(np.int64).reshape(symbols, -1)
    for keys, words, target, width in (
        (entries["slot"], entries["row"], row_words, ROW_WORDS),
        (entries["row"][:, 2], entries["position"], position_words, POSITION_WORDS),  # the row's third word: symbol
    ):
        last = {int(key): index for index, key in enumerate(keys)}
        for key, index in last.items():
            target[key, :width] = words[index]
    orders[ORDER_SLOTS] = 0
    return orders, positions


class Journal:
    """The file that is being written: entries from address `begin` to `end`, the next one at `next`."""

    def __init__(self, path: Path, memory: mmap.mmap, used: int) -> None:
        self.path, self._memory = path, memory
        self._header_bytes = _header_bytes(_HEADER.unpack_from(memory)[-1])
        self.begin = int(np.frombuffer(memory, np.uint8).ctypes.data) + self._header_bytes
        self.end = self.begin + (len(memory) - self._header_bytes) // ENTRY_BYTES * ENTRY_BYTES
        self.next = self.begin + used * ENTRY_BYTES

    @classmethod
    def draft(cls, folder: Path, symbols: list[str], prefix: str) -> "Journal":
        """A file to follow the last one in `folder`, which is made if need be; it counts from `publish` on.

        May take as long as the disk does. Raises JournalError.
        """
        files = files_of(folder)
        path = folder / f"{int(files[-1].stem) + 1 if files else 1:08}{SUFFIX}"
        says = json.dumps({"prefix": prefix, "symbols": symbols}).encode()
        size = _header_bytes(len(says)) + FILE_ENTRIES * ENTRY_BYTES
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
                header = _HEADER.pack(MAGIC, _fingerprint(symbols, prefix), ENTRY_BYTES, len(says))
                os.pwrite(descriptor, header + says, 0)
                memory = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}; {size >> 20} MB are needed") from error
        return cls(draft, memory, 0)

    def publish(self) -> None:
        """Give a draft its name: from now on it is the last file. Raises JournalError."""
        path = self.path.with_suffix(SUFFIX)
        try:
            self.path.rename(path)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from error
        self.path = path

    @classmethod
    def go_on(cls, recovered: Recovered) -> "Journal":
        """With the file that an earlier process wrote. Raises JournalError."""
        try:
            with recovered.path.open("r+b") as file:
                memory = mmap.mmap(file.fileno(), 0)
        except OSError as error:
            raise JournalError(f"{recovered.path}: {error.strerror}") from error
        return cls(recovered.path, memory, recovered.used)

    def populate(self, address: int) -> None:
        """Fault in the pages from the entry at `address` on."""
        offset = (address - self.begin + self._header_bytes) & -mmap.PAGESIZE
        length = min(POPULATED_BYTES, len(self._memory) - offset)
        if length > 0:
            with contextlib.suppress(OSError):  # kernels before 5.14 lack it; first use then pays
                self._memory.madvise(MADV_POPULATE_WRITE, offset, length)

    def is_nearly_full(self, address: int) -> bool:
        """Whether the next file should be begun."""
        return self.end - address < (self.end - self.begin) // 8

    def flush(self) -> None:
        """To the disk: takes as long as that takes."""
        with contextlib.suppress(OSError):
            self._memory.flush()

    def cut(self, address: int) -> None:
        """Behind the last entry, before the one at `address`. Nothing may be written to it any more."""
        with contextlib.suppress(OSError):
            os.truncate(self.path, address - self.begin + self._header_bytes)


assert FILE_ENTRIES // 8 > ENTRIES_PER_POLL + ORDER_SLOTS
# A file that has just been begun, with everything there can be, is not nearly full.
assert FILE_ENTRIES - FILE_ENTRIES // 8 > ORDER_SLOTS + MAXIMUM_SYMBOLS
