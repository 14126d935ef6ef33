"""The router's journal, cold side: files of entries in the run's folder, mapped, one after the other; and recovery.

    journal/00000001.journal    4096 bytes of header, then entries of 256 bytes
    journal/00000002.journal    begins with an entry for each order there is: files before the last two are history

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

from shm.layout import describe, fingerprint
from shm.segment import MADV_POPULATE_WRITE
from stages.agent import AgentError
from stages.domain.messages import POSITION
from stages.domain.orders import ORDER_SLOTS
from stages.router.journal import ENTRIES_PER_POLL, ENTRY, ENTRY_BYTES, MULTIPLIER, POSITION_WORDS, ROW_WORDS
from stages.router.records import ORDER_ROW

MAGIC = b"tickpipe-journal"
HEADER_BYTES = 4096
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
    usable = (len(raw) - HEADER_BYTES) // ENTRY_BYTES
    entries = np.frombuffer(raw, ENTRY, usable, HEADER_BYTES)
    used = int(np.argmax(entries["number"] == 0)) if (entries["number"] == 0).any() else usable
    entries = entries[:used]
    expected = entries["number"][0] + np.arange(used) if used else np.zeros(0, np.int64)
    good = (entries["checksum"] == checksums(entries)) & (entries["number"] == expected)
    whole = used if good.all() else int(np.argmin(good))
    return entries[:whole], says, used - whole


def recover(folder: Path, symbols: list[str], prefix: str) -> Recovered | None:
    """The newest truth of the journal in `folder`; None when there is none. Raises JournalError for another run's.

    The last two files are read: a process killed while it began the last one left only a part of its beginning there.
    """
    files = files_of(folder)
    if not files:
        return None
    parts = []
    for path in files[-2:]:
        entries, says, torn = read_entries(path)
        if says.get("symbols") != symbols or says.get("prefix") != prefix:
            raise JournalError(f"{path}: of {says.get('symbols')} with ids {says.get('prefix')}, not of this run")
        parts.append(entries)
    both = np.concatenate(parts)
    orders, positions = newest(both, len(symbols))
    number, taken = (int(both[name].max()) if len(both) else 0 for name in ("number", "taken_seq"))
    return Recovered(orders, positions, number, taken, torn, files[-1], len(parts[-1]))


def newest(entries: NDArray[np.void], symbols: int) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """(ORDER_ROW by slot, POSITION by symbol): the newest entry of each."""
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
    return orders, positions


class Journal:
    """The file that is being written: entries from address `begin` to `end`, the next one at `next`."""

    def __init__(self, path: Path, memory: mmap.mmap, used: int) -> None:
        self.path, self._memory = path, memory
        self.begin = int(np.frombuffer(memory, np.uint8).ctypes.data) + HEADER_BYTES
        self.end = self.begin + (len(memory) - HEADER_BYTES) // ENTRY_BYTES * ENTRY_BYTES
        self.next = self.begin + used * ENTRY_BYTES

    @classmethod
    def create(cls, folder: Path, symbols: list[str], prefix: str) -> "Journal":
        """Begin the file after the last one in `folder`, which is made if need be. Raises JournalError."""
        files = files_of(folder)
        path = folder / f"{int(files[-1].stem) + 1 if files else 1:08}{SUFFIX}"
        size = HEADER_BYTES + FILE_ENTRIES * ENTRY_BYTES
        says = json.dumps({"prefix": prefix, "symbols": symbols}).encode()
        if _HEADER.size + len(says) > HEADER_BYTES:
            raise JournalError(f"{path}: {len(symbols)} symbols do not fit its header")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Under another name until its header stands: a file without one is no journal.
            draft = path.with_suffix(".new")
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
                header = _HEADER.pack(MAGIC, _fingerprint(symbols, prefix), ENTRY_BYTES, len(says))
                os.pwrite(descriptor, header + says, 0)
                memory = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
            draft.rename(path)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}; {size >> 20} MB are needed") from error
        return cls(path, memory, 0)

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
        offset = (address - self.begin + HEADER_BYTES) & -mmap.PAGESIZE
        length = min(POPULATED_BYTES, len(self._memory) - offset)
        if length > 0:
            with contextlib.suppress(OSError):  # kernels before 5.14 lack it; first use then pays
                self._memory.madvise(MADV_POPULATE_WRITE, offset, length)

    def is_nearly_full(self, address: int) -> bool:
        """Whether the next file should be begun."""
        return self.end - address < (self.end - self.begin) // 8

    def finish(self, address: int) -> None:
        """To the disk, and cut behind the last entry, before the one at `address`: at the end of a run."""
        with contextlib.suppress(OSError):
            self._memory.flush()
            os.truncate(self.path, address - self.begin + HEADER_BYTES)


assert FILE_ENTRIES // 8 > ENTRIES_PER_POLL + ORDER_SLOTS
