"""ITCH files verified: against a dict of orders, damaged in every way, and as recorded."""

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.verify import itch
from pipeline.verify.report import FileReport
from stages.domain.instruments import decimal_string
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import order_stream

pytestmark = pytest.mark.timeout(600)  # the first of them compiles the books


def verified(path: Path) -> tuple[FileReport, dict[str, Any]]:
    books: dict[str, Any] = {}
    (report,) = itch.verify(path, books)
    return report, books


def write(folder: Path, content: bytes, name: str = "day.itch") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def problems(report: FileReport) -> dict[str, tuple[int, int | None]]:
    return {problem.name: (problem.count, problem.offset) for problem in report.problems}


@pytest.mark.parametrize("seed", range(6))
def test_streams_of_every_type_give_what_a_dict_of_orders_gives(tmp_path: Path, seed: int) -> None:
    messages = order_stream(seed, 3_000)
    expected = oracle.Books()
    for message in messages:
        expected.apply(message)
    report, books = verified(write(tmp_path, oracle.framed(*messages), "day.itch.gz"))
    assert report.messages == expected.counts
    assert set(expected.counts) == set(oracle.FORMATS)
    assert (report.compared, report.matched) == (expected.compared, expected.matched)
    assert report.matched < report.compared
    assert (report.unknown_orders, report.details["orders_of_unknown_side"]) == (expected.unknown, expected.sideless)
    assert problems(report).get("not_taken", (0, 0))[0] == expected.refused
    assert report.bytes_left == 0
    for locate in range(1, 5):
        book = books[f"STOCK{locate}"]
        for side, name in enumerate(("bid", "ask")):
            levels = expected.levels(locate, side)
            best = next(iter(levels.items()), None)
            found = (book[name], book[f"{name}_qty"])
            assert found == ((decimal_string(best[0], -4), str(best[1])) if best else (None, None))
            assert book[f"{name}_levels"] == len(levels)


def stream(count: int = 500) -> list[bytes]:
    return order_stream(seed=7, count=count, excess=0)


def test_another_day_begins_with_empty_books_and_locates_of_its_own(tmp_path: Path) -> None:
    def day(stock: bytes, shares: int) -> list[bytes]:
        return [
            oracle.pack("S", 0, 0, 5, b"O"),
            oracle.pack("A", 1, 0, 10, 77, b"B", shares, stock, 1_230_000),
            oracle.pack("E", 1, 0, 11, 77, 100, 1),
            oracle.pack("D", 1, 0, 12, 78),
        ]

    report, books = verified(write(tmp_path, oracle.framed(*day(b"ABC     ", 300), *day(b"XYZ     ", 500)[:3])))
    assert (report.compared, report.matched, report.details["days"]) == (2, 2, 2)
    assert problems(report) == {}
    assert {name: (book["bid_qty"], book["state"]) for name, book in books.items()} == {"XYZ": ("400", "valid")}


def test_an_execution_of_more_than_is_left_is_explained(tmp_path: Path) -> None:
    add = oracle.pack("A", 3, 0, 10, 77, b"B", 500, b"ABC     ", 1_230_000)
    good = oracle.pack("E", 3, 0, 11, 77, 200, 1)
    bad = oracle.pack("E", 3, 0, 12, 77, 301, 2)
    report, books = verified(write(tmp_path, oracle.framed(add, good, bad)))
    assert (report.compared, report.matched) == (2, 1)
    assert report.differs
    assert report.first_mismatch == {
        "offset": len(oracle.framed(add, good)) + 2, "type": "E", "symbol": "ABC", "order_reference": 77,
        "why": "the message executes 301 shares of order 77, which has 300 left",
        "expected": {"shares": 300}, "found": {"shares": 301},
    }  # fmt: skip
    assert books["ABC"]["state"] == "valid"


def test_where_an_executed_order_stood_is_told(tmp_path: Path) -> None:
    adds = [
        oracle.pack("A", 3, 0, 10, reference, b"S", 100, b"ABC     ", price)
        for reference, price in ((1, 20), (2, 20), (3, 30))
    ]
    executions = [oracle.pack("E", 3, 0, 11, reference, 50, 1) for reference in (1, 2, 3)]
    report, _ = verified(write(tmp_path, oracle.framed(*adds, *executions)))
    assert report.details["executions"] == {"compared": 3, "at_best_price": 2, "first_in_queue": 2}
    assert not report.differs


def test_an_order_that_replaced_a_stranger_is_known_but_on_neither_side(tmp_path: Path) -> None:
    replaced = oracle.pack("U", 3, 0, 10, 1, 2, 100, 50)
    report, books = verified(
        write(
            tmp_path,
            oracle.framed(
                replaced,
                oracle.pack("X", 3, 0, 11, 2, 40),
                oracle.pack("D", 3, 0, 12, 2),
                oracle.pack("D", 3, 0, 13, 2),
            ),
        )
    )
    assert (report.unknown_orders, report.details["orders_of_unknown_side"], report.compared) == (2, 1, 1)
    assert books == {}


def test_a_file_cut_short_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    messages = stream()
    whole = oracle.framed(*messages)
    report, _ = verified(write(tmp_path, whole[:-5]))
    assert sum(report.messages.values()) == len(messages) - 1
    last = len(oracle.framed(*messages[:-1]))
    assert (report.bytes_left, problems(report)) == (len(whole) - 5 - last, {"truncated": (1, last)})

    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(whole)[:-2_000])
    report, _ = verified(path)
    assert 0 < sum(report.messages.values()) < len(messages)
    assert problems(report).keys() <= {"damaged_file", "truncated"}
    assert report.problems[0].what == "the gzip data is cut short"


def test_what_is_wrong_within_a_file_is_told_with_its_offset(tmp_path: Path) -> None:
    messages = stream()
    before, behind = oracle.framed(*messages[:200]), oracle.framed(*messages[200:])
    for name, bad in (
        ("garbage", random.Random(1).randbytes(333) + b"\xff\xff"),
        ("wrong_length", oracle.framed(messages[0] + b"?")),
        ("unknown_type", oracle.framed(b"z" + bytes(30))),
    ):
        report, _ = verified(write(tmp_path, before + bad + behind))
        assert sum(report.messages.values()) == len(messages), name
        assert problems(report) == {name: (1, len(before))}
        assert report.bytes_left == 0


def test_time_that_goes_back_is_told(tmp_path: Path) -> None:
    messages = [oracle.pack("S", 0, 0, time_ns, b"Q") for time_ns in (5, 9, 7, 8, 3)]
    report, _ = verified(write(tmp_path, oracle.framed(*messages)))
    assert problems(report) == {"time_went_back": (2, 2 * 14 + 2)}
    assert report.problems[0].what == "7 ns after 9 ns"
    assert report.why_not_compared


def test_orders_that_no_book_takes_are_told(tmp_path: Path) -> None:
    add = oracle.pack("A", 3, 0, 10, 77, b"B", 500, b"ABC     ", 1_230_000)
    empty = oracle.pack("A", 3, 0, 10, 78, b"B", 0, b"ABC     ", 1_230_000)
    report, _ = verified(write(tmp_path, oracle.framed(add, add, empty)))
    assert problems(report) == {"not_taken": (2, 38 + 2)}
    assert report.problems[0].what == "the books refused it: duplicate_ids"


def test_a_file_without_a_message_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no ITCH message"):
        verified(write(tmp_path, b"\xff" * 100))


@pytest.mark.parametrize(
    ("name", "counts", "unknown", "symbols"),
    [
        (
            "12302019_SNIPPET.NASDAQ_ITCH50",
            {"D": 167, "E": 28, "S": 1, "U": 225, "A": 367, "F": 193, "I": 4, "P": 4, "C": 1, "Q": 4, "X": 6},
            394, 322,
        ),
        (
            "AAPL_20191230_reencoded.itch50.gz",
            {"A": 22_121, "D": 24_150, "E": 2_162, "U": 1_130, "P": 281, "X": 98, "C": 4, "F": 1},
            3_904, 1,
        ),
    ],
)  # fmt: skip
def test_recorded_files_come_out(
    recorded_data: Path, name: str, counts: dict[str, int], unknown: int, symbols: int
) -> None:
    report, _ = verified(recorded_data / "itch" / name)
    assert report.messages == counts
    assert (report.bytes_left, report.unknown_orders, report.symbols, report.problems) == (0, unknown, symbols, [])
    assert report.compared == report.matched
    if symbols == 1:
        assert report.compared == 1_713
        assert set(report.details["executions"].values()) == {1_622}
