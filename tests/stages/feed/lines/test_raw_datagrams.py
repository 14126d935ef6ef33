"""Raw 29-byte messages over a real socket: trades are told; what is none is counted."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.domain.codecs.itch_market import NOT_TRADED
from stages.domain.codecs.raw_market import SymbolTable, _symbol_of
from stages.domain.messages import NoticeKind
from tests.entered import entered
from tests.stages.feed.lines.support import Lines
from tests.stages.feed.stepped import instruments

SHARES = 10**8
TRADE, QUOTE = 1, 2
_find = entered(_symbol_of)


def raw(kind: int, symbol: int, price: int = 1, quantity: int = 1, time_ns: int = 0) -> bytes:
    return struct.pack("<BIqQQ", kind, symbol, price, quantity, time_ns)


def lines(**settings_: Any) -> Lines:
    return Lines("ONE", "TWO", source="raw", lines=1, **settings_)


def told(line: Lines) -> list[tuple[int, int, int, int]]:
    trades = [notice for notice in line.notices if notice["kind"] == NoticeKind.TRADE]
    names = ("symbol", "trade_price", "trade_quantity", "exchange_time_ns")
    return [tuple(int(notice[name]) for name in names) for notice in trades]  # type: ignore[misc]


_messages = st.tuples(
    st.sampled_from([TRADE, TRADE, QUOTE, 0, 3, 255]), st.sampled_from([0, 1, 2, 2**32 - 1]),
    st.integers(-(2**63), 2**63 - 1) | st.integers(1, 10**12), st.integers(0, 2**64 - 1) | st.integers(1, 1000),
    st.integers(0, 2**63 - 1),
)  # fmt: skip


@example([([], 0)])
@example([([(TRADE, 0, -(2**63), 0, 0)], 0)])
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.lists(_messages, max_size=3), st.integers(0, 28)), max_size=12))
def test_what_is_told_and_counted_is_what_was_sent(datagrams: list[tuple[list[Any], int]]) -> None:
    trades, counts = [], dict.fromkeys(("short_datagrams", "unknown_types", "unknown_symbol", "overflowed"), 0)
    counts["other_messages"] = 0
    with lines() as line:
        for messages, rest in datagrams:
            line.send(b"".join(raw(*message) for message in messages) + bytes(rest))
            counts["short_datagrams"] += int(rest > 0 or not messages)
            for kind, symbol, price, quantity, time_ns in messages:
                if kind not in (TRADE, QUOTE):
                    counts["unknown_types"] += 1
                elif symbol > 1:
                    counts["unknown_symbol"] += 1
                elif kind == QUOTE:
                    counts["other_messages"] += 1
                elif quantity >= 2**62 // SHARES or abs(price) >= 2**62:
                    counts["overflowed"] += 1
                else:
                    trades.append((symbol, price, quantity * SHARES, time_ns))
        assert told(line) == trades
        assert {name: line.count(name) for name in counts} == counts
        assert line.count("frames") == line.count("datagrams") == len(datagrams)


def test_symbols_have_the_ids_that_the_settings_give() -> None:
    with lines(symbol_ids=(70_000, 1)) as line:
        line.send(raw(TRADE, 1, 5) + raw(TRADE, 70_000, 6) + raw(TRADE, 0, 7))
        assert [trade[:2] for trade in told(line)] == [(1, 5), (0, 6)]
        assert line.count("unknown_symbol") == 1


@given(st.lists(st.integers(0, 40) | st.integers(0, 2**32 - 1), min_size=1, max_size=30, unique=True))
def test_a_symbol_is_found_by_its_id_whatever_the_ids_are(ids: list[int]) -> None:
    table = SymbolTable(instruments(*(f"S{index}" for index in range(len(ids)))), ids)
    found = {wanted: _find(table.address, wanted) for wanted in [*ids, *range(45), 2**32 - 1]}
    assert found == {wanted: ids.index(wanted) if wanted in ids else NOT_TRADED for wanted in found}


def test_ids_are_as_many_as_symbols() -> None:
    with pytest.raises(ValueError, match="symbol_ids has 1 ids for 2 symbols"):
        lines(symbol_ids=(5,))


def test_no_trade_waits_for_room_that_the_book_does_not_have() -> None:
    with lines() as line:
        for number in range(1, 300):
            line.senders[0].send(raw(TRADE, 0, number))
        line.turn()
        assert [trade[1] for trade in told(line)] == list(range(1, 300))
        assert np.all([line.count("datagrams") == 299, line.count("socket_drops") == 0])
