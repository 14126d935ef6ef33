"""What `pipeline book SYMBOL --check` says of what the book stage found."""

import pytest

from pipeline.commands.book import check_words

FOUND = {"symbol": "STOCK1", "sound": True, "fault": None, "is_whole": True, "levels": 1_200, "orders": 3_000}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "STOCK1: sound: 1,200 levels with 3,000 orders looked at"),
        ({"orders": 0}, "STOCK1: sound: 1,200 levels looked at"),
        ({"is_whole": False, "orders": 0},
         "STOCK1: sound: 1,200 levels looked at; their sums were not compared: it changed meanwhile, or a queue is "
         "very long"),
        ({"sound": False, "fault": "it rots"},
         "STOCK1: broken: it rots; it is stale, and not traded, before a snapshot replaces it"),
    ],
)  # fmt: skip
def test_a_check_is_told_in_a_line(found: dict[str, object], words: str) -> None:
    assert check_words(FOUND | found) == words
