"""Positions and profit against unbounded integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.kernel import kernel
from stages.domain.messages import POSITION
from stages.router.position import apply_fee, apply_fill, multiply_divide
from tests.oracle.position import Position


@kernel
def product_share(a: int, b: int, c: int) -> int:
    return multiply_divide(a, b, c)


@kernel
def book_fill(positions: np.ndarray, side: int, lots: int, quote: int) -> None:
    apply_fill(positions[0], side, lots, quote)


@kernel
def book_fee(positions: np.ndarray, commission: int, is_quote: bool, is_base: bool, price: int) -> None:
    apply_fee(positions[0], commission, is_quote, is_base, price)


words = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.sampled_from([2**62, 2**63 - 1]))


@settings(deadline=None, max_examples=500)
@given(words, words, st.integers(1, 2**63 - 1))
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_share_of_a_product_beyond_64_bits_is_exact(a: int, b: int, c: int) -> None:
    if a * b // c < 2**63:
        assert product_share(np.int64(a), np.int64(b), np.int64(c)) == a * b // c


fills = st.tuples(st.booleans(), st.integers(1, 10**9), st.integers(0, 10**15))


@settings(deadline=None)
@given(st.lists(fills, max_size=30))
def test_position_cost_and_profit_are_the_oracles_and_no_money_is_lost(steps: list[tuple[bool, int, int]]) -> None:
    positions, expected, paid = np.zeros(1, POSITION), Position(), 0
    for is_buy, lots, quote in steps:
        book_fill(positions, 0 if is_buy else 1, lots, quote)
        expected.fill(is_buy, lots, quote)
        paid += quote if is_buy else -quote
        row = positions[0]
        assert (row["quantity_lots"], row["cost_quote"], row["realized_quote"]) == (
            expected.quantity, expected.cost, expected.realized,
        )  # fmt: skip
        assert row["cost_quote"] - row["realized_quote"] == paid
        assert row["bought_lots"] - row["sold_lots"] == row["quantity_lots"]
        if row["quantity_lots"] == 0:
            assert row["cost_quote"] == 0


def test_a_fee_is_booked_in_quote_converted_from_base_or_counted() -> None:
    positions = np.zeros(1, POSITION)
    book_fee(positions, 500, True, False, 0)
    book_fee(positions, 10**5, False, True, 60_000 * 10**8)  # 0.001 BTC at 60000: 60 USDT
    book_fee(positions, 7, False, False, 60_000 * 10**8)
    assert positions[0]["fees_quote"] == 500 + 60 * 10**8
    assert positions[0]["fees_unconverted"] == 1
