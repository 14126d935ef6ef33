"""An ITCH session through the real line: every message, in order, to books of single orders."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import STARTED_S, Done, Runs, stage_pids
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import coherent, directory, order_stream

pytestmark = pytest.mark.timeout(400)

LOCATES = (1, 2, 3, 4)
HALTED, STRANGER = 4, 3
"""The symbol that is halted at the end; the one that an order is said to be of that nobody has seen."""
BOOK_FIELDS = ("bid", "bid_qty", "ask", "ask_qty", "bid_levels", "ask_levels")


def session() -> list[bytes]:
    """Orders of four symbols, each known to the books but one, among messages of all other types but crosses."""
    stream, books = [], oracle.Books()
    for message in coherent(order_stream(7, 20_000, strangers=0.0, excess=0.0)):
        before = books.unknown
        books.apply(message)
        if books.unknown == before and message[:1] not in (b"Q", b"h"):
            stream.append(message)
    last = int.from_bytes(stream[-1][5:11], "big")
    states = [
        oracle.pack("H", locate, 0, last, b"STOCK%d  " % locate, b"H" if locate == HALTED else b"T", b" ", b"    ")
        for locate in LOCATES
    ]
    stranger = oracle.pack("D", STRANGER, 0, last, 10**12)
    return [*map(directory, LOCATES), *stream, *states, stranger]


def number(text: str | None) -> float | None:
    return None if text is None else float(text)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("itch") / "day.itch"
    file.write_bytes(oracle.framed(*session()))
    return file


def replayed(pipeline: Runs, file: Path | str, *arguments: str) -> Done:
    return pipeline.finish(
        pipeline.start(
            "up", "--json", "--replay", str(file), "--speed", "max", "-s", "book.orders_max=50000", *arguments
        ),
        seconds=380,
    )


@pytest.mark.parametrize("placement", ["dedicated", pytest.param("packed", marks=pytest.mark.long)])
def test_a_session_ends_in_the_books_that_verify_finds_in_its_file_and_in_what_the_run_has_recorded(
    pipeline: Runs, recorded: Path, placement: str, tmp_path: Path
) -> None:
    recording = ("-s", "record.enabled=true", "-s", f"record.folder={tmp_path}")
    done = replayed(pipeline, recorded, "--placement", placement, *recording)
    assert done.code == 0, done.words
    letters = Counter(chr(message[0]) for message in session())
    counters: dict[str, Any] = done.report["counters"]
    feed, book = counters["feed"], counters["book"]
    assert feed["messages_in"] == letters.total()
    assert feed["events"] == book["messages_in"] == sum(letters[letter] for letter in "AFECXDUPH")
    assert feed["other_messages"] == letters.total() - feed["events"]
    assert (feed["unknown_symbol"], feed["overflowed"], feed["malformed"]) == (0, 0, 0)
    assert (done.report["market_data"]["gaps"], done.report["market_data"]["dropped"]) == (0, 0)
    assert (book["trades_missed"], book["orders_over_limit"], book["violations"]) == (0, 0, 0)
    assert done.report["replay"]["recorded_messages"] == letters.total()

    verified = pipeline.run("verify", str(recorded), "--json")
    assert verified.code == 0, verified.words
    (file,) = verified.report["files"]
    assert book["unknown_orders"] == file["unknown_orders"] == 1
    for locate in LOCATES:
        found, expected = done.report["books"][f"STOCK{locate}"], verified.report["books"][f"STOCK{locate}"]
        assert [number(found[name]) for name in BOOK_FIELDS] == [number(expected[name]) for name in BOOK_FIELDS]
        assert found["state"] == {HALTED: "halted", STRANGER: "dirty"}.get(locate, "valid")

    assert done.report["recording"]["lost_frames"] == 0
    (own,) = done.report["recording"]["files"]
    checked = pipeline.run("verify", own, "--json")
    assert (checked.code, checked.report["books"]) == (0, verified.report["books"]), checked.words
    assert checked.report["files"][0]["messages"] == file["messages"]
    own_problems, problems = (
        {problem["problem"]: problem["count"] for problem in found["problems"]}
        for found in (checked.report["files"][0], file)
    )
    assert own_problems == problems

    again = replayed(pipeline, own, "--placement", placement)
    assert (again.code, again.report["compiled_kernels"]) == (0, 0), again.words
    assert "compiling" not in again.words
    assert again.report["books"] == done.report["books"]


def test_books_of_a_stage_that_was_killed_in_the_middle_are_stale_until_the_end(
    pipeline: Runs, tmp_path: Path, until: Callable[..., None]
) -> None:
    file = tmp_path / "slow.itch"
    orders = (
        oracle.pack("A", 1, 0, 10_000_000 * each, each, b"BS"[each % 2 :][:1], 100, b"STOCK1  ", 1_000_000 + each % 2)
        for each in range(1, 40_000)
    )
    file.write_bytes(oracle.framed(directory(1), *orders))
    said = tmp_path / "words"
    with said.open("w") as words:
        process = pipeline.start("up", "--json", "--replay", str(file), "-s", "book.orders_max=50000", stderr=words)

    def has(state: str, **restarts: int) -> bool:
        status = pipeline.run("status", "--json")
        if status.code:
            return False
        stages = status.report["stages"]
        return status.report["books"]["STOCK1"]["state"] == state and all(
            stages[stage]["restarts"] == count for stage, count in restarts.items()
        )

    until(lambda: "starting; logs in" in said.read_text(), 300, "compiled kernels")
    until(lambda: has("valid", book=0, feed=0), STARTED_S, "orders in the book")
    os.kill(stage_pids(process.pid)["book"], signal.SIGKILL)
    until(lambda: has("stale", book=1, feed=0), 120, "a new book")
    os.kill(stage_pids(process.pid)["feed"], signal.SIGKILL)
    until(lambda: has("stale", book=1, feed=1), 120, "a new feed")
    process.send_signal(signal.SIGINT)
    done = pipeline.finish(process)
    assert done.code == 0, said.read_text()
    assert done.report["books"]["STOCK1"]["state"] == "stale"
