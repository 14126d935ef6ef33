"""LOBSTER samples verified: generated against sorted dicts, broken in every way, and as recorded."""

import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.verify import lobster
from pipeline.verify.report import FileReport
from stages.domain.captures.lobster import samples

LEVELS = 3
NAMES = "XYZ_2012-06-21_34200000_57600000_{}_3.csv"


def row_of(bids: dict[int, int], asks: dict[int, int]) -> str:
    """An order book row of what is in view."""
    columns: list[int] = []
    best_asks, best_bids = sorted(asks)[:LEVELS], sorted(bids, reverse=True)[:LEVELS]
    for level in range(LEVELS):
        columns += [best_asks[level], asks[best_asks[level]]] if level < len(best_asks) else [9_999_999_999, 0]
        columns += [best_bids[level], bids[best_bids[level]]] if level < len(best_bids) else [-9_999_999_999, 0]
    return ",".join(map(str, columns))


def sample(seed: int, count: int) -> tuple[list[str], list[str]]:
    """(message lines, order book lines) of a market that is deeper than what is in view."""
    rng = random.Random(seed)
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    messages, rows = [], []
    while len(messages) < count:
        time_s = 34_200 + len(messages) / 1_000
        side = rng.randrange(2)
        direction = 1 - 2 * side
        book = sides[side]
        kind = rng.choice([1, 1, 1, 2, 3, 4, 5, 7])
        price = 1_000_000 + 100 * (rng.randrange(8) if side else -1 - rng.randrange(8))
        size = 10 * rng.randrange(1, 5)
        if kind in (2, 3, 4):
            if not book:
                continue
            price = rng.choice(list(book))
            size = book[price] if kind == 3 else rng.randrange(1, book[price] + 1)
            book[price] -= size
            if not book[price]:
                del book[price]
        elif kind == 1:
            book[price] = book.get(price, 0) + size
        elif kind == 7:
            price, size, direction = -1, 0, -1
        messages.append(f"{time_s:.9f},{kind},{len(messages)},{size},{price},{direction}")
        rows.append(row_of(*sides))
    return messages, rows


def write(folder: Path, messages: list[str], rows: list[str], *, end: str = "\n") -> Path:
    path = folder / NAMES.format("message")
    path.write_text("".join(line + end for line in messages), newline="")
    (folder / NAMES.format("orderbook")).write_text("".join(line + end for line in rows), newline="")
    return path


def verified(path: Path) -> tuple[FileReport, dict[str, Any]]:
    books: dict[str, Any] = {}
    (report,) = lobster.verify(path, books)
    return report, books


def problems(report: FileReport) -> dict[str, tuple[int, int | None]]:
    return {problem.name: (problem.count, problem.line) for problem in report.problems}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_generated_market_agrees_row_by_row(tmp_path: Path, seed: int, end: str) -> None:
    messages, rows = sample(seed, 2_000)
    report, books = verified(write(tmp_path, messages, rows, end=end))
    assert (report.compared, report.matched, report.first_mismatch) == (1_999, 1_999, None)
    assert report.problems == []
    assert books["XYZ"]["last_update_id"] == 2_000


@pytest.mark.parametrize("seed", range(20))
def test_any_number_that_is_changed_is_found(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    messages, rows = sample(seed, 100)
    row, columns = 0, [0]
    while not columns[-1]:
        row = rng.randrange(1, 100)
        level, side = rng.randrange(LEVELS), rng.randrange(2)
        columns = list(map(int, rows[row].split(",")))
        place = 4 * level + 2 * side + 1
        columns.append(columns[place])
    columns[place] += 1
    rows[row] = ",".join(map(str, columns[:-1]))
    report, _ = verified(write(tmp_path, messages, rows))
    assert report.matched in (97, 98)  # the row itself, unless its level is new in view, and the one after it
    assert report.first_mismatch is not None
    assert report.first_mismatch["line"] in (row + 1, row + 2)
    assert report.first_mismatch["expected"] != report.first_mismatch["found"]


def test_a_message_that_takes_what_is_not_there_is_explained(tmp_path: Path) -> None:
    before = row_of({100: 5}, {200: 7})
    report, _ = verified(write(tmp_path, ["1,1,1,5,100,1", "2.5,4,9,6,100,1", "3,3,9,1,150,-1"], [before] * 3))
    assert (report.compared, report.matched, report.unknown_orders) == (2, 0, 2)
    assert report.first_mismatch == {
        "line": 2, "offset": 14, "book_line": 2,
        "why": "the message takes more from a bid level than the row before shows",
        "message": {"type": 4, "order_id": 9, "size": 6, "price": "0.01", "direction": 1},
        "expected": {"price": "0.01", "size": 6}, "found": {"price": "0.01", "size": 5},
    }  # fmt: skip


def test_a_damaged_line_spoils_its_row_and_one_put_in_is_passed_over(tmp_path: Path) -> None:
    messages, rows = sample(1, 100)
    spoilt = [*messages[:50], "not a row", *messages[51:]]
    report, _ = verified(write(tmp_path, spoilt, rows))
    assert (report.compared, report.matched) == (98, 98)
    assert problems(report) == {"malformed_line": (1, 51)}
    report, _ = verified(write(tmp_path, [*messages[:50], "", "put in", *messages[50:]], rows))
    assert (report.compared, report.matched) == (99, 99)
    assert problems(report) == {"malformed_line": (1, 52)}


def test_files_of_different_length_are_compared_as_far_as_both_go(tmp_path: Path) -> None:
    messages, rows = sample(1, 100)
    report, _ = verified(write(tmp_path, messages, [*rows[:60], rows[60][:9]]))
    assert (report.compared, report.matched) == (59, 59)
    assert report.problems[1].what == "100 messages, but 61 rows in the order book file"


def test_time_that_goes_back_is_told(tmp_path: Path) -> None:
    messages, rows = sample(1, 100)
    messages[30], messages[31] = messages[31].split(",")[0] + messages[30][12:], messages[31]
    messages[40] = "34199.5" + messages[40][messages[40].index(",") :]
    report, _ = verified(write(tmp_path, messages, rows))
    assert problems(report) == {"time_went_back": (1, 41)}


def test_archives_folders_and_either_file_are_found(tmp_path: Path) -> None:
    path = write(tmp_path, *sample(1, 100))
    archive = tmp_path / "sample.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in tmp_path.glob("*.csv"):
            target.write(file, file.name)
    for given in (path, tmp_path, archive, tmp_path / NAMES.format("orderbook")):
        report, _ = verified(given)
        assert (report.file, report.compared, report.matched) == (str(given), 99, 99)
    (tmp_path / NAMES.format("orderbook")).unlink()
    report, _ = verified(path)
    assert (report.compared, report.why_not_compared) == (0, "there is no order book file beside the message file")
    cut = tmp_path / "cut.zip"
    shutil.copy(archive, cut)
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(UsageError, match="zip archive is damaged"):
        verified(cut)


def test_in_an_archive_every_folder_has_samples_and_macos_adds_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "sample.zip", "w") as target:
        for number, folder in enumerate(("one", "two", "__MACOSX/one")):
            write(tmp_path, *sample(number, 50 + 10 * number))
            for file in tmp_path.glob("*.csv"):
                is_real = folder in ("one", "two")
                target.writestr(f"{folder}/{'' if is_real else '._'}{file.name}", file.read_text() if is_real else "x")
    reports = lobster.verify(tmp_path / "sample.zip", {})
    assert [(report.compared, report.matched) for report in reports] == [(49, 49), (59, 59)]


def test_what_is_no_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no LOBSTER message file"):
        verified(tmp_path)
    (tmp_path / "a_message_1.csv").write_text("nothing\n")
    with pytest.raises(UsageError, match="no line of it is a LOBSTER message"):
        verified(tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "levels"), [("AAPL_L10", 999, 10), ("LOBSTER_SampleFile_AMZN_2012-06-21_5.zip", 155_935, 5)]
)
def test_recorded_samples_agree_in_all_rows(recorded_data: Path, name: str, rows: int, levels: int) -> None:
    path = recorded_data / "lobster" / name
    report, _ = verified(path)
    assert (report.compared, report.matched, report.problems) == (rows - 1, rows - 1, [])
    messages, books = samples(path)[0].read()
    assert (len(messages), books.shape) == (rows, (rows, 4 * levels))
    assert int(messages["time_ns"][0]) // 10**9 == 34_200


def test_a_byte_order_mark_spoils_no_row(tmp_path: Path) -> None:
    messages, rows = sample(1, 100)
    report, _ = verified(write(tmp_path, ["\ufeff" + messages[0], *messages[1:]], ["\ufeff" + rows[0], *rows[1:]]))
    assert (report.compared, report.matched, report.problems) == (99, 99, [])


def test_rows_that_have_not_four_columns_a_level_are_told_and_not_compared(tmp_path: Path) -> None:
    messages, rows = sample(1, 100)
    report, books = verified(write(tmp_path, messages, [row.rpartition(",")[0] for row in rows]))
    assert (report.compared, report.first_mismatch, books) == (0, None, {})
    assert problems(report) == {"malformed_line": (100, 1)}
    rows[0] = rows[0].rpartition(",")[0]
    report, _ = verified(write(tmp_path, messages, rows))
    assert (report.compared, report.matched, problems(report)) == (98, 98, {"malformed_line": (1, 1)})
