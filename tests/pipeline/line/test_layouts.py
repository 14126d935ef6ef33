"""Where every shared byte stands: sizes, offsets and alignment of all that crosses a process, and who writes its lines.

A table of its own, not derived from the declarations: whoever moves a field sees it here.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from launch.plan import page_segment
from pipeline.line.agents import AGENT_CLASSES
from pipeline.line.segments import segment_layouts, segments_of
from shm import ring, seqlock
from shm.control import COMMAND, STATUS
from shm.errorlog import ERROR_LOG
from shm.histogram import HISTOGRAM
from shm.layout import CACHE_LINE_BYTES, WRITER_SEPARATION_BYTES
from shm.segment import HEADER_BYTES
from stages.domain.messages import (
    BBO,
    BOOK_CHECK,
    CHECK_REQUEST,
    DEPTH,
    MARKET,
    NOTICE,
    ORDER,
    POSITION,
    REPORT,
)
from stages.domain.orderbook import top
from tests.pipeline.line.agents import line_agents

WORDS = tuple(range(0, 128, 8))
SHARED: dict[str, tuple[np.dtype[Any], int, tuple[int, ...]]] = {
    "MARKET": (MARKET, 128, (0, 1, 2, 4, 6, *WORDS[1:9], 96)),
    "NOTICE": (NOTICE, 128, (0, 1, 2, 4, *WORDS[1:15])),
    "BBO": (BBO, 64, WORDS[:8]),
    "DEPTH": (DEPTH, 704, (*WORDS[:8], 64, 224, 384, 544)),
    "ORDER": (ORDER, 128, (0, 1, 2, 4, 5, 6, *WORDS[1:9])),
    "REPORT": (REPORT, 128, (0, 1, 2, 4, 6, 7, *WORDS[1:15])),
    "POSITION": (POSITION, 128, WORDS[:10]),
    "BOOK_CHECK": (BOOK_CHECK, 64, WORDS[:8]),
    "CHECK_REQUEST": (CHECK_REQUEST, 64, (0,)),
    "COMMAND": (COMMAND, 128, (0,)),
    "STATUS": (STATUS, 128, WORDS[:8]),
}


@pytest.mark.parametrize("name", SHARED)
def test_every_shared_record_is_whole_lines_with_each_field_where_it_is_said_to_be(name: str) -> None:
    dtype, size, offsets = SHARED[name]
    assert dtype.fields is not None
    assert (dtype.itemsize, dtype.itemsize % CACHE_LINE_BYTES) == (size, 0)
    assert tuple(dtype.fields[field][1] for field in dtype.names or ()) == offsets
    end = 0
    for field, offset in zip(dtype.names or (), offsets, strict=True):
        kind = dtype.fields[field][0]
        assert offset % kind.base.itemsize == 0, f"{field} is not aligned"
        assert offset >= end, f"{field} overlaps the field before it"
        end = offset + kind.itemsize
    assert end <= size


def test_a_symbols_best_prices_mid_and_spread_stand_in_one_line() -> None:
    hot = [top.BID_PRICE, top.BID_QUANTITY, top.ASK_PRICE, top.ASK_QUANTITY, top.MID_DOUBLED, top.SPREAD, top.STATE]
    assert hot == list(WORDS[:7])
    assert max(hot) + 8 <= CACHE_LINE_BYTES
    assert (top.SEQUENCE, top.KIND, top.BOOK_BYTES) == (64, 72, 128)
    for fields in (BBO.fields, NOTICE.fields):
        assert fields is not None
        assert (
            len(
                {
                    fields[side][1] // CACHE_LINE_BYTES
                    for side in ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
                }
            )
            == 1
        )


def test_the_books_of_a_stage_begin_on_lines_of_their_own() -> None:
    book = line_agents("BTCUSDT", "ETHUSDT", "BNBUSDT")["book"]
    tops = [int(address) for address in book.context.books["top"]]
    assert all(address % WRITER_SEPARATION_BYTES == 0 for address in tops)
    assert all(later - address >= top.BOOK_BYTES for address, later in pairwise(tops))


def test_cursors_of_a_rings_two_sides_are_apart_and_records_begin_behind_them() -> None:
    writer = (ring.TAIL, ring.CACHED_HEAD, ring.WRITER_EPOCH)
    reader = (ring.HEAD, ring.CACHED_TAIL, ring.READER_EPOCH)
    assert (writer, reader, ring.RECORDS) == ((128, 136, 144), (256, 264, 272), 384)
    assert {offset // WRITER_SEPARATION_BYTES for offset in writer}.isdisjoint(
        offset // WRITER_SEPARATION_BYTES for offset in reader
    )
    for layout in segment_layouts(3).values():
        if layout.kind == "ring":
            assert layout.sizes[1] % CACHE_LINE_BYTES == 0, "a record shares a line with its neighbour"


@pytest.mark.parametrize(("dtype", "row"), [(BBO, 384), (DEPTH, 1664), (POSITION, 512), (BOOK_CHECK, 384)])
def test_rows_of_latest_values_are_whole_pairs_of_lines(dtype: np.dtype[Any], row: int) -> None:
    assert seqlock.row_bytes(dtype.itemsize) == row
    assert row % WRITER_SEPARATION_BYTES == 0
    assert seqlock.CELLS == CACHE_LINE_BYTES
    assert seqlock.cell_bytes(dtype.itemsize) % CACHE_LINE_BYTES == 0


@pytest.mark.parametrize("stage", AGENT_CLASSES)
def test_the_parts_of_a_stages_page_begin_on_lines_of_their_own(stage: str) -> None:
    page = AGENT_CLASSES[stage].page()
    assert page.fields is not None
    assert list(page.fields) == ["status", "counters", "hops", "errors"]
    assert all(page.fields[name][1] % CACHE_LINE_BYTES == 0 for name in page.fields), "one process writes them all"
    counters = page.fields["counters"][0]
    assert [counters.fields[name][1] for name in counters.names] == [8 * index for index in range(len(counters.names))]
    assert [dtype.itemsize % CACHE_LINE_BYTES for dtype in (counters, HISTOGRAM, ERROR_LOG)] == [0, 0, 0]


def test_a_line_of_shared_memory_has_one_writer() -> None:
    agents = line_agents("BTCUSDT")
    writers: dict[str, list[str]] = {}
    for name, agent in agents.items():
        for segment, writable in segments_of([agent]).items():
            if writable:
                writers.setdefault(segment, []).append(name)
    layouts = segment_layouts(1)
    for segment, names in writers.items():
        # Both sides of a ring write to it, each in lines of its own: see above.
        assert len(names) == (2 if layouts[segment].kind == "ring" else 1), segment
    assert set(layouts) - set(writers) == {"command", "catalogue", "check-requests"}, "the supervisor's"
    assert all(writers[page_segment(name)] == [name] for name in agents)
    assert HEADER_BYTES % 4096 == 0
