"""Blocks of raw messages through feed and book, turned by hand: trades are told, and nothing else happens."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.line.stepped import SteppedLine, frame, pop
from stages.domain.codecs.raw_market import symbol_name
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY
from stages.domain.messages import BookState, NoticeKind
from stages.feed.context import Format
from tests.stages.feed.lines.test_raw_datagrams import QUOTE, SHARES, TRADE, raw
from tests.stages.feed.stepped import instruments, observed

BINARY = 2
IDS = (3, 70_000)


class Line(SteppedLine):
    """Feed and book of the symbols with IDS; keeps the trades that are told."""

    def __init__(self) -> None:
        super().__init__(instruments(*map(symbol_name, IDS)), stream_format=Format.RAW)
        self.trades: list[tuple[int, ...]] = []
        self.rest()

    def play(self, *blocks: bytes) -> None:  # type: ignore[override]
        self.feed.offer(b"".join(frame(block, BINARY) for block in blocks))
        idle = 0
        while idle < 4:
            moved = [self.step_feed(), self.step_book()]
            while pop(self.segments[BOOK_TO_STRATEGY].address, self.notice.ctypes.data):
                self._keep(self.notice[0])
                moved.append(1)
            idle = 0 if any(moved) else idle + 1

    def _keep(self, notice: np.void) -> None:
        if notice["kind"] == NoticeKind.TRADE:
            names = ("symbol", "trade_price", "trade_quantity", "exchange_time_ns")
            self.trades.append(tuple(int(notice[name]) for name in names))

    def count(self, name: str) -> int:
        return int(self.counters("feed")[name])


_messages = st.tuples(
    st.sampled_from([TRADE, QUOTE, 0, 9]), st.sampled_from([0, 3, 70_000, 2**32 - 1]), st.integers(1, 10**12),
    st.integers(1, 1_000), st.integers(0, 2**63 - 1),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.lists(_messages, max_size=6), st.integers(0, 28)), max_size=8))
def test_trades_are_told_and_the_rest_is_counted(blocks: list[tuple[list[Any], int]]) -> None:
    line, trades = Line(), []
    counts = dict.fromkeys(("messages_in", "unknown_types", "unknown_symbol", "other_messages", "short_datagrams"), 0)
    for messages, rest in blocks:
        counts["short_datagrams"] += int(rest > 0)
        for kind, symbol, price, quantity, time_ns in messages:
            is_known = kind in (TRADE, QUOTE)
            counts["messages_in"] += int(is_known)
            counts["unknown_types"] += int(not is_known)
            counts["unknown_symbol"] += int(is_known and symbol not in IDS)
            counts["other_messages"] += int(kind == QUOTE and symbol in IDS)
            if kind == TRADE and symbol in IDS:
                trades.append((IDS.index(symbol), price, quantity * SHARES, time_ns))
    line.play(*(b"".join(raw(*message) for message in messages) + bytes(rest) for messages, rest in blocks))
    assert line.trades == trades
    assert {name: line.count(name) for name in counts} == counts
    assert line.count("frames") == len(blocks)
    assert int(line.row(BBO_TABLE)[1]["state"]) == BookState.EMPTY


def test_every_block_is_shown_to_whoever_observes() -> None:
    line = Line()
    reader = observed(line)
    blocks = [raw(TRADE, 3, 5) * number for number in (1, 40, 2)]
    line.play(*blocks)
    assert [each.content for each in reader.read()] == blocks
