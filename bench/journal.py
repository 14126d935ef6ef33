"""An entry appended to the router's journal: in a file as the line has it, beside SQLite and a plain write().

Every round's entries are read back and must be the ones written, with the checksums of the slow twin.
"""

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import machine
from bench.laps import OURS, Race, budget, pinned
from shm.clock import calibrate
from shm.kernel import kernel
from stages.domain.instruments import INSTRUMENT
from stages.domain.orders import ORDER_SLOTS
from stages.private_memory import PrivateSegments, attach
from stages.router import journal
from stages.router.agent import RouterAgent
from stages.router.credentials import Credentials
from stages.router.journal import ENTRY, ENTRY_BYTES
from stages.router.journal_files import FILE_ENTRIES, HEADER_BYTES, checksums, files_of
from stages.router.records import Context
from stages.router.settings import RouterSettings

APPEND_NS_MAX = 100.0
SYMBOLS = 2


@kernel
def _append(context: Context, count: int) -> None:
    begin = context.state[0]["journal_at"]
    for index in range(count):
        if context.state[0]["journal_end"] - context.state[0]["journal_at"] < ENTRY_BYTES:
            context.state[0]["journal_at"] = begin
        context.orders[index & (ORDER_SLOTS - 1)]["cumulative_lots"] = index
        journal.append(context, index & (ORDER_SLOTS - 1))


class _Journal:
    """The journal of a router that does nothing else; the file starts over when it is full."""

    def __init__(self, folder: Path) -> None:
        instruments = np.zeros(SYMBOLS, INSTRUMENT)
        instruments["symbol"], instruments["tick"], instruments["lot"] = [b"A", b"B"], 10**6, 10**3
        self._agent = RouterAgent(
            instruments, RouterSettings(), "ws://127.0.0.1:1", Credentials.generate(), 1, journal_folder=folder
        )
        self._folder = folder
        self._segments = PrivateSegments([self._agent])
        self._page = attach(self._agent, self._segments, calibrate(0.01))
        self._context = self._agent.context
        self._begin = int(self._context.state[0]["journal_at"])

    def lap(self, count: int) -> Callable[[], int]:
        state = self._context.state[0]
        first = int(state["journal_number"])
        state["journal_at"] = self._begin
        _append(self._context, count)
        return lambda: self._wrong(first, count)

    def _wrong(self, first: int, count: int) -> int:
        """Entries of the last pass over the file that are not what was written."""
        (path,) = files_of(self._folder)
        passes = (count - 1) // FILE_ENTRIES
        expected = count - passes * FILE_ENTRIES
        entries = np.frombuffer(path.read_bytes(), ENTRY, expected, HEADER_BYTES)
        numbers = first + passes * FILE_ENTRIES + 1 + np.arange(expected)
        return int(((entries["number"] != numbers) | (entries["checksum"] != checksums(entries))).sum())


def _write_lap(folder: Path) -> Callable[[int], Callable[[], int]]:
    record = bytes(ENTRY_BYTES)

    def lap(count: int) -> Callable[[], int]:
        with (folder / "plain").open("wb", buffering=0) as file:
            for _ in range(count):
                file.write(record)
        return lambda: abs((folder / "plain").stat().st_size - count * ENTRY_BYTES)

    return lap


def _sqlite_lap(folder: Path) -> Callable[[int], Callable[[], int]]:
    def lap(count: int) -> Callable[[], int]:
        database = sqlite3.connect(folder / "sqlite", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")
        database.execute("DROP TABLE IF EXISTS entries")
        database.execute("CREATE TABLE entries (number INTEGER PRIMARY KEY, entry BLOB)")
        record = bytes(ENTRY_BYTES)
        for number in range(count):
            database.execute("INSERT INTO entries VALUES (?, ?)", (number, record))
        found = database.execute("SELECT count(*) FROM entries").fetchone()[0]
        database.close()
        return lambda: abs(found - count)

    return lap


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modes = {
            "append": {
                OURS: _Journal(folder / "journal").lap,
                "write() of 256 bytes": _write_lap(folder),
                "sqlite3, a transaction each, not synchronous": _sqlite_lap(folder),
            }
        }
        race = Race(modes, quick=quick)
        with pinned(0):
            race.run()
    return {
        "bench": "journal",
        "machine": machine(),
        "results": race.results(),
        "ratios": race.ratios(),
        "budgets": [budget("append of an entry, ns", race.ours("append"), APPEND_NS_MAX)],
    }
