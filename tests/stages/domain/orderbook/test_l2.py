"""The L2 side against a dictionary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.atomics import JIT, peek
from shm.kernel import kernel
from stages.domain.orderbook import l2
from stages.domain.orderbook.integrity import SOUND, l2_side_fault
from tests.entered import entered
from tests.oracle.orderbook import NaiveBook


@kernel
def _clear(side: int) -> None:
    l2.clear(side)


@kernel
def _best(side: int) -> tuple[int, int]:
    return l2.best_key(side), l2.best_quantity(side)


@kernel
def _copy(side: int, levels: int, sign: int, prices: int, quantities: int) -> int:
    return l2.copy_best(side, levels, sign, prices, quantities)


@kernel
def _fault(side: int) -> int:
    return l2_side_fault(side)


class Sides:
    def __init__(self, capacity: int) -> None:
        self._memory = np.zeros((2, l2.side_bytes(capacity) // 8), np.int64)
        self.bids, self.asks = (int(row.ctypes.data) for row in self._memory)
        l2.format_side(self.bids, capacity)
        l2.format_side(self.asks, capacity)

    def levels(self, side: int, sign: int, count: int = 200) -> list[tuple[int, int]]:
        prices, quantities = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
        copied = _copy(side, count, sign, prices.ctypes.data, quantities.ctypes.data)
        assert not prices[copied:].any()
        assert not quantities[copied:].any()
        return list(zip(prices[:copied].tolist(), quantities[:copied].tolist(), strict=True))


changes = st.lists(st.tuples(st.booleans(), st.integers(1, 60), st.sampled_from([0, 0, 1, 5, 2**62])), max_size=300)


@settings(deadline=None)
@given(capacity=st.sampled_from([1, 2, 7, 100]), steps=changes)
def test_sides_hold_what_a_dictionary_holds(capacity: int, steps: list[tuple[bool, int, int]]) -> None:
    book, naive = Sides(capacity), NaiveBook(capacity)
    for is_bid, price, quantity in steps:
        if is_bid:
            entered(l2.set_level)(book.bids, price, quantity)
            naive.set_bid(price, quantity)
        else:
            entered(l2.set_level)(book.asks, -price, quantity)
            naive.set_ask(price, quantity)
        bid, bid_quantity = _best(book.bids)
        ask, ask_quantity = _best(book.asks)
        assert (bid, bid_quantity, -ask, ask_quantity) == naive.best()
    assert book.levels(book.bids, 1) == naive.bid_levels()
    assert book.levels(book.asks, -1) == naive.ask_levels()
    assert peek(book.bids + l2.DROPPED) + peek(book.asks + l2.DROPPED) == naive.dropped


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100 if JIT else 10, deadline=None)
def test_deep_books_move_long_stretches_correctly(seed: int) -> None:
    generator = np.random.default_rng(seed)
    book, naive = Sides(500), NaiveBook(500)
    for price, quantity in zip(
        generator.integers(1, 1_000, 1_500).tolist(), generator.integers(0, 4, 1_500).tolist(), strict=True
    ):
        entered(l2.set_level)(book.bids, price, quantity)
        naive.set_bid(price, quantity)
    assert book.levels(book.bids, 1, 600) == naive.bid_levels()


def _make_sparse(side: int, capacity: int) -> None:
    """Make a side so sparse that no block is free: every other one is thinned out while its neighbours are full.

    Blocks that are filled in ascending order have HALF levels each.
    """
    levels: dict[int, int] = {}

    def put(keys: list[int], quantity: int) -> None:
        for key in keys:
            entered(l2.set_level)(side, key, quantity)
            levels.update({key: quantity}) if quantity else levels.pop(key, None)

    begin = 1_000
    while peek(side + l2.BLOCKS) < peek(side + l2.BLOCKS_MAX):
        firsts = [begin + 1_000 * block for block in range((capacity - len(levels)) // (2 * l2.USED_MAX) * 2)]
        for first in firsts:
            put([first + 100 * place for place in range(l2.HALF)], 5)
        for first in firsts[:-1]:
            put([first + place for place in range(1, l2.USED_MAX - l2.HALF + 1)], 5)
        for first in firsts[1:-1:2]:
            put([key for key in range(first + 1, first + 1_000) if key in levels], 0)
        for first in firsts[:-1:2]:
            put([key for key in range(first + l2.LIVE_MIN, first + 1_000) if key in levels], 0)
        begin = firsts[-1] + 1_000


@pytest.mark.parametrize("place", [0, 1, 40])
def test_a_side_without_a_free_block_forgets_its_deepest_levels(place: int) -> None:
    capacity = 500
    book = Sides(capacity)
    _make_sparse(book.bids, capacity)
    levels = dict(book.levels(book.bids, 1, capacity))
    first = sorted(levels)[place]
    for key in range(first + 1, first + 60):
        entered(l2.set_level)(book.bids, key, 7)
        levels[key] = 7
        assert _fault(book.bids) == SOUND
        found = book.levels(book.bids, 1, capacity)
        assert found == sorted(levels.items(), reverse=True)[: len(found)]
        levels = dict(found)
    assert peek(book.bids + l2.DROPPED) > 0


def test_a_cleared_side_is_empty_and_an_empty_side_has_no_best() -> None:
    book = Sides(10)
    entered(l2.set_level)(book.bids, 5, 1)
    _clear(book.bids)
    assert _best(book.bids) == (0, 0)
    assert book.levels(book.bids, 1) == []


def test_a_side_without_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity=0"):
        l2.side_bytes(0)
