"""The journal: what is appended is recovered, whatever was cut, and nothing else."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.clock import calibrate
from shm.kernel import kernel
from stages.agent import Attention
from stages.domain.instruments import INSTRUMENT, MAXIMUM_SYMBOLS
from stages.domain.messages import POSITION
from stages.domain.orders import ORDER_SLOTS, OrderState
from stages.helper import Helper
from stages.router import journal
from stages.router.agent import RouterAgent
from stages.router.journal import ENTRY, ENTRY_BYTES
from stages.router.journal_files import (
    FILE_ENTRIES,
    HEADER_BYTES,
    Journal,
    JournalError,
    checksums,
    files_of,
    read_entries,
    recover,
)
from stages.router.records import ORDER_ROW, Context
from stages.router.settings import RouterSettings
from tests.stages.private_memory import PrivateSegments, attach, instruments
from tests.stages.router.support import CREDENTIALS

CLOCK = calibrate(0.002)
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
URL = "ws://127.0.0.1:1/ws-api/v3"


@kernel
def append(context: Context, slot: int) -> None:
    journal.append(context, slot)


class Writer:
    """A router agent that only writes its journal."""

    def __init__(self, folder: Path, after: "Writer | None" = None, table: Any = None) -> None:
        table = instruments() if table is None else table
        self.agent = RouterAgent(table, RouterSettings(), URL, CREDENTIALS, 7, journal_folder=folder)
        self.segments = after.segments if after else PrivateSegments([self.agent])
        attach(self.agent, self.segments, CLOCK)
        assert self.agent._recovery is not None
        self.recovery = self.agent._recovery
        self.context = self.agent.context
        self.prefix = self.agent._prefix

    def write(self, order_id: int, state: OrderState, lots: int, held: int) -> None:
        row = self.context.orders[order_id % ORDER_SLOTS]
        row["order_id"], row["state"], row["symbol"] = order_id, state, order_id % 2
        row["cumulative_lots"] = lots
        self.context.positions[order_id % 2]["quantity_lots"] = held
        self.context.state[0]["taken_seq"] = order_id
        append(self.context, order_id % ORDER_SLOTS)

    def turn_over(self) -> None:
        """Have the next file made, as `service` does, and go on in it."""
        helper = Helper("router", Attention())
        try:
            self.recovery.tend(helper)
            end = time.monotonic() + 30
            while not (results := helper.results()):
                assert time.monotonic() < end, "the next file is not made"
            self.recovery.take_draft(results[0])
        finally:
            helper.close()


numbers = st.integers(-(2**63), 2**63 - 1)
entries = st.lists(
    st.tuples(st.integers(1, 3_000), st.sampled_from(OrderState), numbers, numbers), min_size=1, max_size=30
)


@settings(deadline=None, max_examples=40)
@given(entries, st.integers(0, ENTRY_BYTES - 1), st.integers(1, 255))
def test_every_whole_entry_is_recovered_and_a_torn_one_is_left_out(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], at: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    writer = Writer(folder)
    orders, positions = np.zeros(ORDER_SLOTS + 1, ORDER_ROW), np.zeros(2, POSITION)
    for index, step in enumerate(steps):
        writer.write(*step)
        if index < len(steps) - 1:
            orders[:], positions[:] = writer.context.orders, writer.context.positions
    whole = recover(folder, SYMBOLS, writer.prefix)
    assert whole is not None
    assert (whole.orders == writer.context.orders).all()
    assert (whole.positions == writer.context.positions).all()
    assert (whole.number, whole.taken_seq, whole.torn) == (len(steps), max(step[0] for step in steps), 0)
    # One byte of the last entry otherwise than it should be: as a kill in the middle of it leaves it.
    path = files_of(folder)[-1]
    raw = bytearray(path.read_bytes())
    raw[HEADER_BYTES + (len(steps) - 1) * ENTRY_BYTES + at] ^= flip
    path.write_bytes(raw)
    torn = recover(folder, SYMBOLS, writer.prefix)
    assert torn is not None
    assert (torn.number, torn.used) == (len(steps) - 1, len(steps) - 1)
    if len(steps) > 1:
        assert (torn.orders == orders).all()
        assert (torn.positions == positions).all()


def test_a_successor_goes_on_behind_the_last_whole_entry(tmp_path: Path) -> None:
    first = Writer(tmp_path)
    first.write(1, OrderState.WORKING, 0, 0)
    first.write(2, OrderState.FILLED, 5, 5)
    second = Writer(tmp_path, after=first)
    assert second.context.orders[2]["cumulative_lots"] == 5
    second.write(3, OrderState.WORKING, 0, 5)
    (path,) = files_of(tmp_path)
    found, _, torn = read_entries(path)
    assert (list(found["number"]), torn) == ([1, 2, 3], 0)


def test_a_full_file_is_followed_by_one_that_begins_with_all_there_is(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(FILE_ENTRIES * 7 // 8 + 1):
        writer.write(1 + number % 500, OrderState.WORKING, number, number)
    writer.context.positions[1]["fees_quote"] = 77  # of a symbol with no order in the table any more
    writer.context.orders["symbol"][:ORDER_SLOTS] = 0
    writer.turn_over()
    writer.write(600, OrderState.FILLED, 1, 9)
    assert [path.name for path in files_of(tmp_path)] == ["00000001.journal", "00000002.journal"]
    found, _, _ = read_entries(files_of(tmp_path)[-1])
    assert len(found) == 500 + len(SYMBOLS) + 1
    state = recover(tmp_path, SYMBOLS, writer.prefix)
    assert state is not None
    assert (state.orders[:ORDER_SLOTS] == writer.context.orders[:ORDER_SLOTS]).all()
    assert (state.positions == writer.context.positions).all()


def test_thousands_of_symbols_fit_and_only_what_was_traded_is_written_again(tmp_path: Path) -> None:
    many = np.zeros(MAXIMUM_SYMBOLS, INSTRUMENT)
    many[:] = instruments()[0]
    many["symbol"] = [b"SYMBOL%04d" % number for number in range(MAXIMUM_SYMBOLS)]
    writer = Writer(tmp_path, table=many)
    for number in range(FILE_ENTRIES * 7 // 8 + 1):
        writer.write(1, OrderState.WORKING, number, number)
    writer.context.positions[MAXIMUM_SYMBOLS - 1]["fees_quote"] = 77
    writer.turn_over()
    state = recover(tmp_path, [row.decode() for row in many["symbol"]], writer.prefix)
    assert state is not None
    assert (state.positions == writer.context.positions).all()
    assert state.used == 3  # the order, and the positions of two symbols


def test_a_file_that_was_begun_and_not_finished_counts_for_nothing(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(1, OrderState.WORKING, 0, 3)
    draft = Journal.draft(tmp_path, SYMBOLS, writer.prefix)
    state = recover(tmp_path, SYMBOLS, writer.prefix)
    assert state is not None
    assert (state.path.name, state.number) == ("00000001.journal", 1)
    writer.recovery.turn_over(draft)
    assert [path.name for path in files_of(tmp_path)] == ["00000001.journal", "00000002.journal"]


def test_without_room_for_the_next_file_the_full_one_is_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    writer = Writer(tmp_path)
    for number in range(FILE_ENTRIES * 7 // 8 + 1):
        writer.write(1 + number % 500, OrderState.WORKING, number, number)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(JournalError, match="No space left on device"):
        writer.turn_over()
    writer.write(600, OrderState.FILLED, 1, 9)  # behind the end of a file that was cut this would be a SIGBUS
    state = recover(tmp_path, SYMBOLS, writer.prefix)
    assert state is not None
    assert state.orders[600]["cumulative_lots"] == 1


def test_what_is_another_runs_or_no_journal_at_all_is_refused(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    with pytest.raises(JournalError, match="not of this run"):
        recover(tmp_path, ["BTCUSDT"], writer.prefix)
    with pytest.raises(JournalError, match="not of this run"):
        recover(tmp_path, SYMBOLS, "t8-")
    (path,) = files_of(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[16] ^= 1  # the fingerprint of the entries' fields
    path.write_bytes(raw)
    with pytest.raises(JournalError, match="its entries have other fields"):
        recover(tmp_path, SYMBOLS, writer.prefix)
    (tmp_path / "00000009.journal").write_bytes(b"something else")
    path.unlink()
    with pytest.raises(JournalError, match=r"not a journal of this version \(entries of"):
        recover(tmp_path, SYMBOLS, writer.prefix)


def test_a_full_disk_is_an_error_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(JournalError, match="No space left on device; 4 MB are needed"):
        Journal.draft(tmp_path, SYMBOLS, "t7-")
    assert files_of(tmp_path) == []


def test_the_checksum_of_nothing_is_not_that_of_zeros() -> None:
    assert checksums(np.zeros(1, ENTRY))[0] != 0
