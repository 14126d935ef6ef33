"""A recorded ITCH session through the real line: every message, in order, to books of single orders."""

from collections import Counter
from pathlib import Path

import pytest

from stages.domain.captures import itch as capture
from tests.e2e.conftest import Runs
from tests.oracle import itch as oracle

pytestmark = pytest.mark.timeout(240)


def test_the_recorded_session_ends_in_its_book(pipeline: Runs, recorded_data: Path) -> None:
    file = str(recorded_data / "itch" / "AAPL_20191230_reencoded.itch50.gz")
    done = pipeline.run("up", "--replay", file, "--speed", "max", "--placement", "packed", "--json",
                        "-s", "book.orders_max=50000")  # fmt: skip
    assert done.code == 0, done.words
    books, letters = oracle.Books(), Counter[str]()
    for message in capture.messages(file):
        letters[chr(message[0])] += 1
        books.apply(message)
    data, book = done.report["market_data"], done.report["books"]["AAPL"]
    assert data["messages"] == letters.total()
    assert data["events"] == sum(letters[letter] for letter in "AFECXDUP")
    assert (data["gaps"], data["dropped"], data["trades_missed"], book["state"]) == (0, 0, 0, "valid")
    locate = next(order[0] for order in books.orders.values() if order[0] >= 0)
    bids, asks = (books.levels(locate, side) for side in (0, 1))
    assert (book["bid_levels"], book["ask_levels"]) == (len(bids), len(asks))
    for side, levels in (("bid", bids), ("ask", asks)):
        price, shares = next(iter(levels.items()))
        assert (float(book[side]), float(book[f"{side}_qty"])) == (price / 10_000, shares)
    assert done.report["orders"]["acked"] > 0
