"""The run report from pages and tables filled by hand, against values computed by hand."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from launch.host.topology import Topology
from launch.placement.affinity import place
from launch.plan import Line, Plan, build_plan, page_segment
from launch.settings import LaunchSettings
from launch.supervision.facts import ProcessFacts
from launch.supervision.supervised import Restart
from pipeline.reports import run_report
from pipeline.reports.books import book_document, ladder_document, position_document
from pipeline.reports.hops import HOP_ORDER, PERCENTILES, hop_line
from pipeline.reports.machine import clock_document
from pipeline.reports.run_report import MARKET_DATA, ORDERS, build_report, take_snapshot
from pipeline.reports.seqlock_rows import read_row, read_rows
from pipeline.reports.status import SYMBOLS_SHOWN, status_line
from pipeline.reports.text import SYMBOLS_LISTED, nanoseconds, positions_table, print_report
from shm import clock
from shm.atomics import poke
from shm.counters import Counter
from shm.histogram import BUCKET_COUNT, HIGHEST_NS, HISTOGRAM
from shm.ring import READER_EPOCH
from shm.segment import Segment, record_layout, seqlock_layout, unlink
from shm.seqlock import CELLS, cell_bytes, row_bytes
from stages.agent import Agent, Hop
from stages.domain.edges import DEPTH_TABLE, FEED_TO_BOOK, POSITION_TABLE, RINGS
from stages.domain.instruments import INSTRUMENT
from stages.domain.messages import DEPTH, POSITION, BookState

STAGES = ("feed", "book", "strategy", "risk", "router")


def histogram(values: list[int]) -> Any:
    made = np.zeros(1, HISTOGRAM)[0]
    for value in values:
        assert value < 2048, "buckets below 2048 are single values: no rounding in what is expected"
        made["counts"][value] += 1
    made["total_count"] = len(values)
    made["min"], made["max"] = min(values, default=0), max(values, default=0)
    return made


def instrument() -> Any:
    row = np.zeros(1, INSTRUMENT)[0]
    row["symbol"], row["price_exponent"], row["quantity_exponent"] = b"BTCUSDT", -8, -8
    row["tick"], row["lot"] = 1_000_000, 1_000
    return row


def depth(bid: int = 6_000_000_000_000, ask: int = 6_000_001_000_000) -> Any:
    made = np.zeros(1, DEPTH)
    row = made[0]
    row["bid_levels"], row["ask_levels"], row["bid_count"], row["ask_count"] = 1, 1, 1209, 2196
    row["last_id"], row["state"] = 50093421584, int(BookState.VALID)
    row["bid_price"][0], row["bid_quantity"][0] = bid, 150_000_000
    row["ask_price"][0], row["ask_quantity"][0] = ask, 1
    return made


def position(lots: int, cost: int, realized: int = 0, fees: int = 0) -> Any:
    made = np.zeros(1, POSITION)
    made[0]["quantity_lots"], made[0]["cost_quote"] = lots, cost
    made[0]["realized_quote"], made[0]["fees_quote"] = realized, fees
    return made


def test_a_hops_figures_are_those_of_its_samples() -> None:
    values = list(range(1, 1001))
    line = hop_line(Hop("x", 600), histogram(values))
    assert (line["count"], line["min"], line["max"], line["mean"]) == (1000, 1, 1000, 500.5)
    assert (line["p50"], line["p90"], line["p99"], line["p999"]) == (500, 900, 990, 999)
    assert (line["budget"], line["within_budget"]) == (600, True)
    assert hop_line(Hop("x", 499), histogram(values))["within_budget"] is False
    assert hop_line(Hop("x"), histogram(values))["within_budget"] is None


def test_the_extremes_of_a_stage_that_died_while_it_recorded_are_those_of_what_is_counted() -> None:
    torn = histogram([10, 20, 30])
    torn["min"], torn["max"], torn["total_count"] = 1, 2000, 2
    line = hop_line(Hop("x"), torn)
    assert (line["count"], line["min"], line["p50"], line["max"]) == (3, 10, 20, 30)


def test_a_hop_without_samples_has_no_figures_and_no_verdict() -> None:
    line = hop_line(Hop("x", 600), histogram([]))
    assert line["count"] == 0
    assert line["p50"] is line["max"] is line["within_budget"] is None
    assert line["budget"] == 600


@settings(max_examples=30)
@given(st.lists(st.integers(0, HIGHEST_NS), min_size=1, max_size=50))
def test_percentiles_lie_within_what_was_seen_and_within_a_bucket_of_the_truth(values: list[int]) -> None:
    made = np.zeros(1, HISTOGRAM)[0]
    for value in values:
        exponent = max(0, value.bit_length() - 11)
        made["counts"][(exponent << 10) + (value >> exponent)] += 1
    made["total_count"], made["min"], made["max"] = len(values), min(values), max(values)
    line = hop_line(Hop("x"), made)
    ordered = sorted(values)
    for name, percentile in (("p50", 50.0), ("p90", 90.0), ("p99", 99.0)):
        rank = max(1, int(percentile * len(values) / 100 + 0.5))
        assert min(values) <= line[name] <= max(values)
        assert abs(line[name] - ordered[rank - 1]) <= ordered[rank - 1] / 1000 + 1


@settings(max_examples=30)
@given(st.lists(st.integers(0, HIGHEST_NS) | st.integers(0, 5000), min_size=1, max_size=50))
def test_a_hops_figures_are_those_of_the_hdrhistogram_package(values: list[int]) -> None:
    made = np.zeros(1, HISTOGRAM)[0]
    theirs = HdrHistogram(1, HIGHEST_NS, 3)
    for value in values:
        theirs.record_value(value)
    for bucket in range(BUCKET_COUNT):
        made["counts"][bucket] = theirs.counts[bucket]
    made["min"], made["max"] = min(values), max(values)
    line = hop_line(Hop("x"), made)
    assert line["mean"] == pytest.approx(theirs.get_mean_value(), abs=0.051)
    for name, percentile in PERCENTILES.items():
        assert line[name] == max(min(values), min(max(values), theirs.get_value_at_percentile(percentile))), name


def test_a_book_is_decimal_strings() -> None:
    assert book_document(depth(), instrument()) == {
        "bid": "60000", "bid_qty": "1.5", "ask": "60000.01", "ask_qty": "0.00000001", "bid_levels": 1209,
        "ask_levels": 2196, "last_update_id": 50093421584, "state": "valid",
    }  # fmt: skip


def test_a_ladder_is_the_book_and_its_best_levels() -> None:
    made = depth()
    made[0]["bid_levels"], made[0]["ask_levels"] = 2, 1
    made[0]["bid_price"][1], made[0]["bid_quantity"][1] = 5_999_999_000_000, 200_000_000
    ladder = ladder_document(made, instrument())
    assert ladder == {
        **book_document(made, instrument()), "bids": [["60000", "1.5"], ["59999.99", "2"]],
        "asks": [["60000.01", "0.00000001"]],
    }  # fmt: skip
    assert ladder_document(None, instrument())["bids"] == []


def test_an_empty_side_has_no_price() -> None:
    made = depth()
    made[0]["bid_levels"] = 0
    assert book_document(made, instrument())["bid"] is None
    assert book_document(None, instrument())["state"] == "empty"


def test_a_long_position_is_valued_at_the_mid() -> None:
    # 2 lots of 0.00001 bought for 1.18: average 59000; at a mid of 60000.005 worth 1.2000001.
    book = book_document(depth(), instrument())
    assert position_document(position(2, 118_000_000, 7, 5), book, instrument()) == {
        "quantity": "0.00002", "average_price": "59000", "realized_pnl": "0.00000007",
        "unrealized_pnl": "0.0200001", "fees": "0.00000005",
    }  # fmt: skip


def test_a_short_position_gains_when_the_price_falls() -> None:
    book = book_document(depth(), instrument())
    held = position_document(position(-2, -122_000_000), book, instrument())
    assert (held["quantity"], held["average_price"]) == ("-0.00002", "61000")
    assert held["unrealized_pnl"] == "0.0199999"


def test_no_mid_means_no_valuation_but_a_flat_position_needs_none() -> None:
    book = book_document(None, instrument())
    assert position_document(position(1, 1), book, instrument())["unrealized_pnl"] is None
    assert position_document(position(0, 0), book, instrument())["unrealized_pnl"] == "0"


class _Synthetic(Agent):
    def uses(self) -> list[Any]:
        return []

    def attach(self, segments: Any, page: Any, clock: Any) -> None:
        raise NotImplementedError


def agent_class(stage: str) -> type[Agent]:
    names = ["messages_in", "messages_out"]
    names += [counter for owner, counter in (*MARKET_DATA.values(), *ORDERS.values()) if owner == stage]
    counters = tuple(Counter(name, name) for name in dict.fromkeys(names))
    return type(f"Synthetic{stage}", (_Synthetic,), {"name": stage, "counters": counters, "hops": HOPS.get(stage, ())})


HOPS = {
    "router": (Hop("order_to_ack"), Hop("tick_to_trade", 15_000)),
    "book": (Hop("book.update", 100, "ns_per_level"),),
    "feed": (Hop("feed.parse", 1000),),
}
CLASSES = [agent_class(stage) for stage in STAGES]
CLOCK = {
    "source": "tsc", "tsc_refused": None, "frequency_hz": 2_596_138_200, "rate_error_ppm": 0.711, "base_error_ns": 23,
}  # fmt: skip


@pytest.fixture
def segments() -> Iterator[dict[str, Segment]]:
    layouts = {page_segment(agent.name): record_layout(agent.page()) for agent in CLASSES}
    layouts |= RINGS | {DEPTH_TABLE: seqlock_layout(DEPTH, 1), POSITION_TABLE: seqlock_layout(POSITION, 1)}
    made = {name: Segment.create(f"tickpipe.reports-{os.getpid()}.{name}", layout) for name, layout in layouts.items()}
    yield made
    for segment in made.values():
        unlink(segment.name)


def write_row(segment: Segment, value: Any, version: int) -> None:
    """A complete value, written as the protocol of shm.seqlock says."""
    cell = CELLS + (version & 1) * cell_bytes(value.dtype.itemsize)
    segment.view(value.dtype, 1, cell + 8)[0] = value[0]
    poke(segment.address + cell, 2 * version)
    poke(segment.address, version)


def plan() -> Plan:
    line = Line(
        hosted={stage: (stage,) for stage in STAGES}, agents=STAGES, start_order=STAGES, segments={},
        access={stage: {} for stage in STAGES}, quiesce_order=(), source="feed", stop_order=STAGES[1:],
        outlives=frozenset(),
    )  # fmt: skip
    made = build_plan("synthetic", line, place(STAGES, Topology((0, 1))), LaunchSettings())
    return replace(made)


def report(segments: dict[str, Segment]) -> dict[str, Any]:
    for number, agent in enumerate(CLASSES):
        page = segments[page_segment(agent.name)].view(agent.page())[0]
        for place_, name in enumerate(page["counters"].dtype.names):
            page["counters"][name] = 100 * number + place_
        for index, _ in enumerate(agent.hops):
            page["hops"][index] = histogram([10, 20, 30])
    write_row(segments[DEPTH_TABLE], depth(), 3)
    write_row(segments[POSITION_TABLE], position(2, 118_000_000), 1)
    poke(segments[FEED_TO_BOOK].address + READER_EPOCH, 2)
    snapshot = take_snapshot(segments, CLASSES, np.array([instrument()]))
    return build_report(
        run="synthetic", placement="dedicated", exit_word="clean", plan=plan(),
        facts={"feed": ProcessFacts(77, (1,), "fifo", 50, 4096, 0, 1, 8192)}, agents=CLASSES, snapshot=snapshot,
        restarts=[Restart("feed", "crash", 1_000, 30, 90)],
        extras={"duration_s": 1.0, "reason": "test", "clock_read_ns": 13.0, "clock": CLOCK},
    )  # fmt: skip


def test_the_document_has_the_fixed_names_and_the_counters_values(segments: dict[str, Segment]) -> None:
    made = json.loads(json.dumps(report(segments)))
    planned = plan().process_of("feed")
    assert list(made)[:8] == ["run", "placement", "exit", "stages", "hops", "market_data", "orders", "books"]
    assert made["stages"]["feed"] == {
        "pid": 77, "cpu": 1, "policy": "fifo", "priority": 50, "idle": "yield", "restarts": 1, "messages_in": 0,
        "messages_out": 1, "rss_bytes": 4096, "nice": 0, "timer_slack_ns": 1, "locked_bytes": 8192,
        "why": planned.why, "not_taken": planned.schedule.document()["not_taken"], "cycle_ns_max": 0, "stalls": 0,
    }  # fmt: skip
    assert made["restarts"] == [
        {"process": "feed", "cause": "crash", "down_ns": 1_000, "restart_gap_ns": 30, "resync_ns": 90}
    ]
    assert made["rings"]["feed-book"] == {"writer_epoch": 0, "reader_epoch": 2}
    assert made["stages"]["router"]["pid"] is None
    assert set(made["market_data"]) == set(MARKET_DATA)
    assert set(made["orders"]) == set(ORDERS)
    assert (made["market_data"]["events"], made["market_data"]["gaps"]) == (2, 3)
    assert (made["orders"]["submitted"], made["orders"]["denied_by_risk"], made["orders"]["sent"]) == (202, 302, 403)
    assert made["books"]["BTCUSDT"]["last_update_id"] == 50093421584
    assert made["positions"]["BTCUSDT"]["average_price"] == "59000"


def test_hops_come_in_the_order_a_tick_takes(segments: dict[str, Segment]) -> None:
    names = [line["name"] for line in report(segments)["hops"]]
    assert names == ["feed.parse", "book.update", "tick_to_trade", "order_to_ack"]
    assert names == sorted(names, key=HOP_ORDER.index)


def test_people_get_the_same_figures_as_tables(segments: dict[str, Segment]) -> None:
    console = Console(record=True, width=140, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - for the process's life
    print_report(report(segments), console)
    text = console.export_text()
    for part in ("book.update (per level)", "15.0 µs", "50093421584", "60000.01", "13.0 ns", "59000", "fifo 50",
                 "2,596.138 MHz, known to 0.71 ppm"):  # fmt: skip
        assert part in text, text


def test_people_are_told_why_stamps_are_dear(segments: dict[str, Segment]) -> None:
    refused = {"source": "clock_gettime", "tsc_refused": "the reason", "frequency_hz": None, "rate_error_ppm": None}
    console = Console(record=True, width=140, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - for the process's life
    print_report(report(segments) | {"clock": refused}, console)
    assert "clock_gettime, not the TSC: the reason." in console.export_text()


def test_people_are_told_that_a_commission_is_not_known(segments: dict[str, Segment]) -> None:
    console = Console(record=True, width=140, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - for the process's life
    found = report(segments)
    print_report(found, console)
    assert "commission" not in console.export_text()
    found["counters"]["router"]["fills_without_fee"] = 3
    print_report(found, console)
    assert "The commission of 3 fills was never reported" in console.export_text()


def test_the_clocks_document_is_what_its_calibration_says() -> None:
    calibrated = clock.calibrate(0.002)
    document = json.loads(json.dumps(clock_document(calibrated)))
    assert set(document) == set(CLOCK)
    if clock.TSC_REFUSAL is None:
        assert (document["source"], document["tsc_refused"]) == ("tsc", None)
        assert document["frequency_hz"] == pytest.approx(clock.frequency_hz(calibrated), abs=1)
        assert document["rate_error_ppm"] == clock.rate_error_ppm(calibrated) > 0
    else:
        assert (document["source"], document["tsc_refused"]) == ("clock_gettime", clock.TSC_REFUSAL)
        assert document["frequency_hz"] is document["rate_error_ppm"] is None


def test_the_status_line_needs_nothing_published_yet(segments: dict[str, Segment]) -> None:
    line = status_line(segments, CLASSES, np.array([instrument()]))
    assert "BTCUSDT empty -/- 0" in line


@pytest.mark.parametrize(("state", "said"), [("STALE", "BTCUSDT stale "), ("VALID", "BTCUSDT ")])
def test_the_status_line_says_which_book_is_not_traded_on(segments: dict[str, Segment], state: str, said: str) -> None:
    row = depth()
    row["state"] = BookState[state]
    write_row(segments[DEPTH_TABLE], row, 4)
    line = status_line(segments, CLASSES, np.array([instrument()]))
    assert f"{said}60000/60000.01 0" in line


def test_of_thousands_of_symbols_the_status_line_reads_a_few_and_the_tables_list_some(
    segments: dict[str, Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def read_rows(segment: Segment, dtype: np.dtype, count: int) -> Any:
        read.append(count)
        return np.zeros(count, dtype), np.zeros(count, np.bool_)

    monkeypatch.setattr(run_report, "read_rows", read_rows)
    traded = np.array([instrument()] * 8_000)
    traded["symbol"] = [b"S%04d" % number for number in range(len(traded))]
    assert "S0003 empty -/- 0" in status_line(segments, CLASSES, traded)
    assert set(read) == {SYMBOLS_SHOWN}
    held = take_snapshot(segments, CLASSES, traded).positions
    table = positions_table({"positions": held})
    assert (table.row_count, table.caption) == (SYMBOLS_LISTED, "7,960 symbols more: --json has them all")
    held["S7777"] = held["S7777"] | {"quantity": "3"}
    assert positions_table({"positions": held}).row_count == 1


def test_a_torn_row_is_not_read(segments: dict[str, Segment]) -> None:
    segment = segments[DEPTH_TABLE]
    assert read_row(segment, DEPTH, 0) is None
    write_row(segment, depth(), 4)
    assert read_row(segment, DEPTH, 0) is not None
    values, is_there = read_rows(segment, DEPTH, 1)
    assert is_there.all()
    assert (values == read_row(segment, DEPTH, 0)).all()
    poke(segment.address + CELLS, 2 * 6 + 1)  # version 6 is being written over the cell that 4 stands in
    assert read_row(segment, DEPTH, 0) is None
    assert not read_rows(segment, DEPTH, 1)[1].any()
    assert row_bytes(DEPTH.itemsize) % 128 == 0


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (950, "950 ns"), (15_000, "15.0 µs"), (12_500_000, "12.5 ms"), (2e10, "20.0 s")]
)
def test_times_are_shown_in_a_unit_that_suits_them(value: float | None, text: str) -> None:
    assert nanoseconds(value) == text
