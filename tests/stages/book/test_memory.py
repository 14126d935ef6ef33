"""What the settings say that a level and an order cost is what they cost."""

import re

import pytest

from stages.book.memory import memory_document
from stages.book.settings import BookSettings


@pytest.mark.parametrize(("setting", "cost"), [("levels_max", "bytes_per_level"), ("orders_max", "bytes_per_order")])
def test_the_help_of_a_limit_says_what_it_costs(setting: str, cost: str) -> None:
    said = re.search(r"(\d+) bytes each", BookSettings.model_fields[setting].description or "")
    document = memory_document(BookSettings(), 1, of_orders=setting == "orders_max")
    assert said is not None
    assert int(said[1]) == round(document[cost])


@pytest.mark.parametrize(("symbols", "share"), [(1, 1_000_000), (2, 250_000), (5_000, 250_000)])
def test_by_default_no_symbol_of_several_can_take_all_orders(symbols: int, share: int) -> None:
    assert memory_document(BookSettings(), symbols, of_orders=True)["symbol_orders_max"] == share
