"""An ITCH session through the real line: every message, in order, to books of single orders."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Done, Runs
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import coherent, directory, order_stream

pytestmark = pytest.mark.timeout(400)

LOCATES = (1, 2, 3, 4)
HALTED, STRANGER = 4, 3
"""The symbol that is halted at the end; the one that an order is said to be of that nobody has seen."""
BOOK_FIELDS = ("bid", "bid_qty", "ask", "ask_qty", "bid_levels", "ask_levels")


def session() -> list[bytes]:
    """Orders of four symbols that know each other, among messages of all types but crosses, of which some are empty."""
    stream = coherent(order_stream(7, 20_000, strangers=0.0, excess=0.0))
    last = int.from_bytes(stream[-1][5:11], "big")
    states = [
        oracle.pack("H", locate, 0, last, b"STOCK%d  " % locate, b"H" if locate == HALTED else b"T", b" ", b"    ")
        for locate in LOCATES
    ]
    stranger = oracle.pack("D", STRANGER, 0, last, 10**12)
    return [*map(directory, LOCATES), *(each for each in stream if each[:1] not in (b"Q", b"h")), *states, stranger]


def number(text: str | None) -> float | None:
    return None if text is None else float(text)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("itch") / "day.itch"
    file.write_bytes(oracle.framed(*session()))
    return file


def replayed(pipeline: Runs, file: Path, *arguments: str) -> Done:
    return pipeline.finish(
        pipeline.start(
            "up", "--json", "--replay", str(file), "--speed", "max", "-s", "book.orders_max=50000", *arguments
        ),
        seconds=380,
    )


@pytest.mark.parametrize("placement", ["packed", "dedicated"])
def test_a_session_ends_in_the_books_that_verify_finds_in_its_file(
    pipeline: Runs, recorded: Path, placement: str
) -> None:
    done = replayed(pipeline, recorded, "--placement", placement)
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

    again = replayed(pipeline, recorded, "--placement", placement)
    assert (again.code, again.report["compiled_kernels"]) == (0, 0), again.words
    assert again.report["books"] == done.report["books"]
