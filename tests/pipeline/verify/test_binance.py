"""Binance captures verified: through the line's feed and book, with everything that can be wrong with a file."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.verify import binance
from pipeline.verify.report import FileReport
from shm.atomics import JIT
from tests.stages.feed.stepped import diff, snapshot, ticker, trade

pytestmark = [
    pytest.mark.timeout(600),  # the first of them compiles feed and book
    pytest.mark.skipif(not JIT, reason="the feed's kernel takes minutes when it is interpreted"),
]

SNAPSHOT = snapshot(10, [("100", "1"), ("99", "2")], [("101", "3"), ("102", "4")])
START = [
    diff(9, 10, [("98", "1")]),
    SNAPSHOT,
    ticker(10, ("100", "1"), ("101", "3")),
    ticker(12, ("100", "5"), ("101", "3")),
    diff(11, 12, [("100", "5")]),
    trade(7, "101", "0.5"),
    ticker(14, ("100", "5"), ("102", "4")),
    diff(13, 14, [], [("101", "0")]),
    diff(15, 15, [("97", "1")]),
]


def write(folder: Path, *bodies: bytes, name: str = "capture", stamps: list[int] | None = None) -> str:
    lines = (b"%d %s\n" % (stamps[i] if stamps else 1_000 + i, body) for i, body in enumerate(bodies))
    path = folder / name
    content = b"".join(lines)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


def verified(*files: str) -> tuple[list[FileReport], dict[str, Any]]:
    books: dict[str, Any] = {}
    return binance.verify(files, books), books


def problems(report: FileReport) -> dict[str, tuple[int, int | None]]:
    return {problem.name: (problem.count, problem.line) for problem in report.problems}


def test_a_good_capture_agrees(tmp_path: Path) -> None:
    (report,), books = verified(write(tmp_path, *START, name="good.gz"))
    assert report.messages == {"depthUpdate": 4, "bookTicker": 3, "trade": 1, "snapshot": 1}
    assert (report.compared, report.matched, report.first_mismatch) == (3, 3, None)
    assert (report.gaps, report.resyncs, report.symbols, report.problems) == (0, 0, 1, [])
    assert report.details["stale_diffs"] == 1
    assert books == {
        "BTCUSDT": {
            "bid": "100", "bid_qty": "5", "ask": "102", "ask_qty": "4", "bid_levels": 3, "ask_levels": 1,
            "last_update_id": 15, "state": "valid",
        }
    }  # fmt: skip


def test_a_difference_is_explained(tmp_path: Path) -> None:
    wrong = ticker(12, ("100", "6"), ("101", "3"))
    (report,), _ = verified(write(tmp_path, *START[:3], wrong, *START[4:]))
    assert (report.compared, report.matched) == (3, 2)
    assert report.first_mismatch == {
        "line": 5, "offset": sum(5 + len(body) + 1 for body in [*START[:3], wrong]),
        "symbol": "BTCUSDT", "update_id": 12,
        "why": "the best prices of the book at update 12 are not those of the bookTicker 12",
        "expected": {"bid": "100", "bid_qty": "6", "ask": "101", "ask_qty": "3"},
        "found": {"bid": "100", "bid_qty": "5", "ask": "101", "ask_qty": "3"},
    }  # fmt: skip


def test_what_the_snapshot_did_not_reach_is_no_difference(tmp_path: Path) -> None:
    """All bids of the snapshot go; the ticker then knows one below them, of which nobody has told."""
    gone = diff(16, 18, [("100", "0"), ("99", "0"), ("98", "0")])
    (report,), _ = verified(write(tmp_path, *START, ticker(18, ("98.5", "9"), ("102", "4")), gone))
    assert (report.compared, report.matched, report.details["beyond_snapshot"]) == (3, 3, 1)
    assert report.details["first_beyond_snapshot"]["expected"]["bid"] == "98.5"
    assert report.details["first_beyond_snapshot"]["found"]["bid"] == "97"


def test_files_whose_ids_join_are_one_stream(tmp_path: Path) -> None:
    one = write(tmp_path, *START, name="1")
    two = write(tmp_path, ticker(16, ("100", "8"), ("102", "4")), diff(16, 16, [("100", "8")]), name="2")
    (first, second), books = verified(one, two)
    assert (first.compared, second.compared, second.matched, second.gaps) == (3, 1, 1, 0)
    assert books["BTCUSDT"]["last_update_id"] == 16


def test_files_that_do_not_join_are_verified_each_on_its_own(tmp_path: Path) -> None:
    one = write(tmp_path, *START, name="1")
    (first, second), _ = verified(one, write(tmp_path, *START, name="2"))
    assert (first.compared, second.compared, second.gaps) == (3, 3, 0)
    assert "verified on its own" in second.details["stream"]


def test_a_file_without_a_snapshot_and_nothing_before_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no snapshot, and no file before it") as error:
        verified(write(tmp_path, *START[2:]))
    assert "precedes" in error.value.hint


def test_a_gap_is_told_with_its_line_and_healed_by_the_next_snapshot(tmp_path: Path) -> None:
    again = snapshot(30, [("100", "7")], [("101", "7")])
    (report,), books = verified(
        write(
            tmp_path, *START, diff(20, 30), again, ticker(31, ("100", "8"), ("101", "7")), diff(31, 31, [("100", "8")])
        )
    )
    assert (report.gaps, report.resyncs, report.compared, report.matched) == (1, 1, 4, 4)
    assert problems(report) == {"gap": (1, 10)}
    assert books["BTCUSDT"]["state"] == "valid"
    (report,), books = verified(write(tmp_path, *START, diff(20, 30)))
    assert problems(report) == {"gap": (1, 10), "not_synchronised": (1, None)}
    assert books["BTCUSDT"]["state"] == "dirty"


def test_gaps_behind_a_gap_count_though_no_snapshot_shows_them(tmp_path: Path) -> None:
    gaps = [diff(20, 30), diff(29, 32), diff(33, 33), diff(40, 41), diff(43, 43)]
    (report,), books = verified(write(tmp_path, *START, *gaps))
    assert (report.gaps, problems(report)) == (3, {"gap": (3, 10), "not_synchronised": (1, None)})
    more = write(tmp_path, snapshot(33, [("100", "7")], []), diff(44, 45), name="more")
    (first, second), books = verified(write(tmp_path, *START, *gaps), more)
    assert (first.gaps, second.gaps, books["BTCUSDT"]["state"]) == (3, 0, "dirty")


def test_a_snapshot_in_an_unbroken_stream_is_passed_over_but_heals_a_gap_behind_it(tmp_path: Path) -> None:
    passed_over = snapshot(14, [("1", "1")], [("2", "1")])
    spare = snapshot(25, [("100", "7")], [("101", "7")])
    (report,), books = verified(write(tmp_path, *START, passed_over, spare, diff(16, 16)))
    assert (report.gaps, report.resyncs, report.matched, report.details["snapshots_passed_over"]) == (0, 0, 4, 2)
    assert (books["BTCUSDT"]["bid"], books["BTCUSDT"]["bid_levels"]) == ("100", 3)
    (report,), books = verified(write(tmp_path, *START, passed_over, spare, diff(24, 26, [("100", "8")])))
    assert (report.gaps, report.resyncs, problems(report)) == (1, 1, {"gap": (1, 12)})
    assert (books["BTCUSDT"]["bid_qty"], books["BTCUSDT"]["state"]) == ("8", "valid")


def test_ids_that_begin_anew_are_a_new_book(tmp_path: Path) -> None:
    anew = [
        diff(3, 4),
        snapshot(4, [("50", "1")], [("51", "1")]),
        ticker(5, ("50", "2"), ("51", "1")),
        diff(5, 5, [("50", "2")]),
    ]
    (report,), books = verified(write(tmp_path, *START, *anew))
    assert problems(report).keys() == {"ids_went_back", "sequence_reset"}
    assert problems(report)["sequence_reset"] == (1, 11)
    assert (report.compared, report.matched) == (4, 4)
    assert books["BTCUSDT"]["bid"] == "50"


def test_bad_lines_are_told_and_the_others_used(tmp_path: Path) -> None:
    bodies = [*START[:4], b"hello", *START[4:], START[8][:60]]
    (report,), _ = verified(write(tmp_path, *bodies, stamps=[*range(100, 106), 7, *range(107, 120)]))
    assert (report.compared, report.matched) == (3, 3)
    assert problems(report) == {"malformed_line": (2, 5), "time_went_back": (1, 7)}


def test_messages_that_the_feed_refuses_are_told_with_their_line(tmp_path: Path) -> None:
    strange = [
        diff(16, 16, [("100.123456789", "1")]),
        trade(8, "99999999999999999999", "1"),
        ticker(16, ("1", "1"), ("2", "1"), symbol="ETHUSDT").replace(b"ethusdt@", b"btcusdt@"),
        b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","s":"BTCUSDT"}}',
    ]
    (report,), _ = verified(write(tmp_path, *START, *strange))
    assert problems(report) == {
        "too_many_decimals": (1, 10), "overflowed": (1, 11), "unknown_symbol": (1, 12), "other_message": (1, 13),
    }  # fmt: skip
    assert (report.compared, report.matched) == (3, 3)


def test_a_capture_cut_short_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    path = Path(write(tmp_path, *START, *(trade(number, "101", "1") for number in range(2_000)), name="cut.gz"))
    path.write_bytes(path.read_bytes()[:-2_000])
    (report,), _ = verified(str(path))
    assert (report.compared, report.matched) == (3, 3)
    assert 0 < report.messages["trade"] < 2_001
    assert report.problems[0].what == "the gzip data is cut short"


def test_two_symbols_are_kept_apart(tmp_path: Path) -> None:
    eth = [
        diff(900, 901, [("9", "1")], symbol="ETHUSDT"), snapshot(901, [("10", "1")], [("11", "1")]),
        ticker(902, ("10", "2"), ("11", "1"), symbol="ETHUSDT"), diff(902, 902, [("10", "2")], symbol="ETHUSDT"),
    ]  # fmt: skip
    (report,), books = verified(
        write(tmp_path, *(body for pair in zip(START, [*eth, *START[:0]], strict=False) for body in pair), *START[4:])
    )
    assert (report.symbols, report.compared, report.matched) == (2, 4, 4)
    assert (books["BTCUSDT"]["bid"], books["ETHUSDT"]["bid"]) == ("100", "10")


def test_what_waits_for_a_snapshot_is_remembered_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [ticker(12, ("100", "6"), ("101", "3")), diff(11, 12, [("100", "5")])]
    late = [START[0], *wrong, *START[6:], SNAPSHOT]
    assert (verified(write(tmp_path, *late))[0][0].first_mismatch or {})["line"] == 3
    monkeypatch.setattr(binance, "LINES_KEPT", 2)
    monkeypatch.setattr(binance, "CHUNK_FRAMES", 1)
    (report,), _ = verified(write(tmp_path, *late))
    assert report.first_mismatch is not None
    assert (report.first_mismatch["update_id"], report.first_mismatch["line"]) == (12, None)


def test_without_tickers_nothing_is_compared(tmp_path: Path) -> None:
    (report,), _ = verified(write(tmp_path, *(body for body in START if b"bookTicker" not in body)))
    assert (report.compared, report.why_not_compared) == (
        0,
        "there is no bookTicker, which says what the best prices were",
    )


def test_what_holds_no_market_data_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello\n"):
        path = tmp_path / "nothing"
        path.write_bytes(content)
        with pytest.raises(UsageError, match="holds no market data"):
            verified(str(path))


def test_both_recorded_files_come_out(recorded_data: Path) -> None:
    files = [str(recorded_data / "binance" / f"btcusdt_2024080{day}.gz") for day in (8, 9)]
    (first, second), books = verified(*files)
    assert first.messages == {"depthUpdate": 3_451, "bookTicker": 28_040, "trade": 9_757, "snapshot": 1}
    assert (first.compared, first.matched, first.gaps, first.details["stale_diffs"]) == (3_449, 3_449, 0, 2)
    assert second.messages == {"depthUpdate": 3_044, "bookTicker": 45_134, "trade": 10_147}
    assert (second.compared, second.matched, second.gaps, second.resyncs) == (3_042, 3_042, 0, 0)
    assert second.details["beyond_snapshot"] == 2  # bids below 61631.55, the deepest of the only snapshot
    assert first.problems == second.problems == []
    assert (books["BTCUSDT"]["bid"], books["BTCUSDT"]["ask"]) == ("61602.01", "61602.02")
    (alone,), books = verified(files[0])
    assert (alone.compared, alone.matched) == (3_449, 3_449)
    assert {key: books["BTCUSDT"][key] for key in ("bid", "ask", "bid_levels", "ask_levels", "last_update_id")} == {
        "bid": "61685.99", "ask": "61686", "bid_levels": 1_209, "ask_levels": 2_196, "last_update_id": 50_093_421_584,
    }  # fmt: skip


def test_names_of_symbols_are_any_that_fit(tmp_path: Path) -> None:
    chinese = [body.replace(b"BTCUSDT", "币安人生USDT".encode()).replace(b"btcusdt", "币安人生usdt".encode())
               for body in START]  # fmt: skip
    long = diff(900, 901, symbol="ABCDEFGHIJKLMUSDT")
    escaped = json.dumps(json.loads(chinese.pop())).encode()
    assert b"\\u" in escaped
    (report,), books = verified(write(tmp_path, *chinese, long, escaped))
    assert (report.compared, report.matched) == (3, 3)
    assert problems(report) == {"symbol_not_read": (1, 9)}
    assert books.keys() == {"币安人生USDT"}
    assert books["币安人生USDT"]["last_update_id"] == 15


def futures(body: bytes, before: int, first: int) -> bytes:
    """A Spot diff as futures send it: `pu` names the diff before, and ids have holes."""
    return body.replace(b'"U":%d,' % (before + 1), b'"U":%d,' % first).replace(b',"b":', b',"pu":%d,"b":' % before)


def test_diffs_of_futures_join_by_pu(tmp_path: Path) -> None:
    typed = b'"data":{"e":"bookTicker","u":'
    tickers = [body.replace(b'"data":{"u":', typed) for body in START if b"bookTicker" in body]
    bodies = [
        futures(START[0], 8, 7), SNAPSHOT, *tickers, futures(START[4], 10, 11), START[5],
        futures(START[7], 12, 13), futures(diff(15, 20, [("97", "1")]), 14, 18), futures(diff(21, 30), 20, 28),
    ]  # fmt: skip
    (report,), books = verified(write(tmp_path, *bodies))
    assert (report.compared, report.matched, report.gaps, report.problems) == (4, 4, 0, [])
    assert report.messages["bookTicker"] == 3
    assert books["BTCUSDT"]["last_update_id"] == 30
    (report,), _ = verified(write(tmp_path, *bodies[:-2], bodies[-1]))
    assert problems(report) == {"gap": (1, len(bodies) - 1), "not_synchronised": (1, None)}


def test_other_spacing_and_order_of_keys_give_the_same(tmp_path: Path) -> None:
    for dump in ({"sort_keys": True}, {"separators": (" ,", " : ")}):
        bodies = [json.dumps(json.loads(body), **dump).encode() for body in START]  # type: ignore[arg-type]
        (report,), books = verified(write(tmp_path, *bodies))
        assert (report.compared, report.matched, report.problems) == (3, 3, [])
        assert books["BTCUSDT"]["last_update_id"] == 15


def test_snapshots_alone_are_refused_with_the_first_problem(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no stream that says of which symbol; malformed_line \(line 2"):
        verified(write(tmp_path, SNAPSHOT, b"hello"))
