"""Books of single orders against lists of orders: whatever comes, in any order."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shm.atomics import JIT, peek
from shm.kernel import kernel
from stages.domain.messages import BookState
from stages.domain.orderbook import l3, table
from stages.domain.orderbook.engine import (
    COUNTERS,
    FREE_NODES,
    LIVE_LEVELS,
    NODES,
    ORDER_LINES,
    ORDER_TABLE,
    PATH,
    Capacity,
    bytes_per_order,
)
from tests.oracle.order_books import PRICE_MAX, NaiveOrderBooks
from tests.stages.domain.orderbook.engines import Engine

SYMBOLS = 3
FAR = PRICE_MAX
ids = st.one_of(st.integers(0, 40), st.integers(-(2**63), 2**63 - 1))
prices = st.one_of(
    st.integers(95, 105), st.sampled_from([-FAR, -1, 0, 1, 10**15, FAR]), st.integers(-(2**63), 2**63 - 1)
)
quantities = st.one_of(st.integers(1, 9), st.sampled_from([0, -1, -(2**63), 2**40, 2**62 - 1, 2**62]))


class OrderBooks(RuleBasedStateMachine):
    """Any messages, good and bad, of a few ids, symbols and prices, so that they meet."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(Capacity.of(SYMBOLS, 400, 400))
        self.naive = NaiveOrderBooks(SYMBOLS)

    @rule(
        symbol=st.integers(-1, SYMBOLS), order_id=ids, side=st.sampled_from([0, 1, 0, 1, 2, -1]),
        price=prices, quantity=quantities,
    )  # fmt: skip
    def add(self, symbol: int, order_id: int, side: int, price: int, quantity: int) -> None:
        code = self.engine.add(symbol, order_id, side, price, quantity)
        if code == l3.FULL_QUANTITY:
            level = dict(self.naive.levels(symbol, side))[price]
            assert level + quantity > l3.QUANTITY_MAX
            assert self.engine.books[symbol].state == BookState.STALE
            return
        assert code == self.naive.add(symbol, order_id, side, price, quantity)

    @rule(order_id=ids, quantity=quantities, is_cancel=st.booleans())
    def reduce(self, order_id: int, quantity: int, is_cancel: bool) -> None:
        operation = self.engine.cancel if is_cancel else self.engine.execute
        assert operation(order_id, quantity) == self.naive.reduce(order_id, quantity)

    @rule(order_id=ids)
    def delete(self, order_id: int) -> None:
        assert self.engine.delete(order_id) == self.naive.delete(order_id)

    @rule(old_id=ids, new_id=ids, price=prices, quantity=st.integers(0, 9))
    def replace(self, old_id: int, new_id: int, price: int, quantity: int) -> None:
        code = self.engine.replace(old_id, new_id, price, quantity)
        if code == l3.FULL_QUANTITY:
            assert self.naive.delete(old_id) == l3.OK
        else:
            assert code == self.naive.replace(old_id, new_id, price, quantity)

    @rule(order_id=ids, price=prices, quantity=st.integers(0, 9))
    def modify(self, order_id: int, price: int, quantity: int) -> None:
        code = self.engine.modify(order_id, price, quantity)
        if code == l3.FULL_QUANTITY:
            assert self.naive.delete(order_id) == l3.OK
        else:
            assert code == self.naive.modify(order_id, price, quantity)

    @rule(order_id=ids)
    def ask_for_the_queue(self, order_id: int) -> None:
        assert self.engine.queue_ahead(order_id) == self.naive.ahead(order_id)

    @rule(symbol=st.integers(0, SYMBOLS - 1))
    def clear(self, symbol: int) -> None:
        self.engine.clear(symbol)
        self.naive.books[symbol].clear()
        assert self.engine.books[symbol].state == BookState.EMPTY

    @invariant()
    def shows_the_same(self) -> None:
        self.engine.assert_sound()
        for symbol, book in enumerate(self.engine.books):
            for side in range(2):
                levels = self.naive.levels(symbol, side)
                assert book.levels(side, 50) == levels[:50]
                for price, quantity in levels[:3]:
                    assert book.volume_at(side, price) == quantity
                assert book.volume(side, 3) == min(2**63 - 1, sum(quantity for _, quantity in levels[:3]))


TestOrderBooks = OrderBooks.TestCase
TestOrderBooks.settings = settings(max_examples=60 if JIT else 10, stateful_step_count=60 if JIT else 25, deadline=None)


@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1, 3, 60, 3000]))
@settings(max_examples=12 if JIT else 2, deadline=None)
def test_deep_sides_grow_and_shrink_and_leave_nothing_behind(seed: int, spread: int) -> None:
    rng = random.Random(seed)
    engine, naive = Engine(Capacity.of(2, 1500, 1500)), NaiveOrderBooks(2)
    free_nodes = peek(engine.address + FREE_NODES)
    live: list[int] = []
    steps = 2500 if JIT else 600
    for step in range(steps):
        if len(live) < 20 or (rng.random() < (0.75 if step < steps // 2 else 0.25) and len(live) < 1400):
            order = (rng.randrange(2), step, rng.randrange(2), rng.randrange(spread), 1 + rng.randrange(5))
            assert engine.add(*order) == naive.add(*order) == l3.OK
            live.append(step)
        else:
            order_id = live.pop(rng.randrange(len(live)))
            assert engine.delete(order_id) == naive.delete(order_id) == l3.OK
        if step % 250 == 0:
            engine.assert_sound()
            for symbol in range(2):
                for side in range(2):
                    assert engine.books[symbol].levels(side) == naive.levels(symbol, side)
    for order_id in live:
        assert engine.delete(order_id) == l3.OK
    engine.assert_sound()
    assert peek(engine.address + FREE_NODES) == free_nodes
    assert not any(_counts_of_lines(engine))


def _counts_of_lines(engine: Engine) -> list[int]:
    """How many records pass each line, of both tables."""
    first, last = peek(engine.address + ORDER_TABLE), peek(engine.address + NODES)
    offset = engine.address - int(engine.memory.ctypes.data)
    words = engine.memory[offset + first : offset + last].view("<u4").reshape(-1, 16)
    return (words[:, 7] >> table.OWNER_BITS).tolist()


def test_ids_that_all_have_the_same_home_are_told_apart() -> None:
    engine = Engine(Capacity.of(2, 200, 200))
    colliding = _ids_of_one_home(engine, 30)
    for order_id in colliding:
        assert engine.add(0, order_id, 0, 100, 1) == l3.OK
    engine.assert_sound()
    for order_id in colliding[::2]:
        assert engine.delete(order_id) == l3.OK
    engine.assert_sound()
    for before, order_id in enumerate(colliding[1::2]):
        assert engine.queue_ahead(order_id) == (before, before)
    for order_id in colliding[1::2]:
        assert engine.execute(order_id, 1) == l3.OK
    assert not any(_counts_of_lines(engine))
    engine.assert_sound()


def _ids_of_one_home(engine: Engine, count: int) -> list[int]:
    """Ids of which the search begins at one and the same line, found by trying."""
    lines = peek(engine.address + ORDER_LINES)
    same_home = (candidate for candidate in itertools.count() if _hash(candidate) * lines >> 32 == 7)
    return list(itertools.islice(same_home, count))


@pytest.mark.parametrize("step", [1, 2, 100, 10**4, 10**6, 10**7, 64])
def test_ids_and_prices_at_equal_distances_find_room_for_as_many_as_there_is(step: int) -> None:
    count = 2000 if JIT else 300
    engine = Engine(Capacity.of(1, count, count))
    for number in range(count):
        assert engine.add(0, number * step, number & 1, 100_000 * step + number * step, 1) == l3.OK
    assert max(_counts_of_lines(engine)) < 24
    engine.assert_sound()


@kernel
def _hash(key: int) -> int:
    return table.hash_of(key, 0)


@pytest.mark.parametrize(
    ("capacity", "code"),
    [
        (Capacity.of(2, 6, 6), l3.FULL_ORDERS),
        (Capacity.of(2, 50, symbol_orders_max=5), l3.FULL_SYMBOL),
        (Capacity.of(2, 50, levels=6), l3.FULL_LEVELS),
    ],
)
def test_at_a_limit_the_symbol_goes_stale_and_no_other(capacity: Capacity, code: int) -> None:
    engine = Engine(capacity)
    assert engine.add(1, 1000, 0, 100, 1) == l3.OK
    results = [engine.add(0, number, 1, number, 1) for number in range(6)]
    assert results[-1] == code
    assert engine.counted(code) >= 1
    assert [book.state for book in engine.books] == [BookState.STALE, BookState.EMPTY]
    assert engine.books[1].levels(0) == [(100, 1)]
    engine.assert_sound()
    assert engine.delete(0) == l3.OK, "a stale book goes on with what it knows"
    assert engine.books[0].state == BookState.STALE
    engine.clear(0)
    assert engine.books[0].state == BookState.EMPTY
    assert engine.add(0, 0, 1, 7, 1) == l3.OK
    engine.assert_sound()


def test_far_prices_and_replacements_without_end_leave_nothing_behind() -> None:
    engine = Engine(Capacity.of(1, 10, 10))
    before = peek(engine.address + FREE_NODES)
    for number in range(3000 if JIT else 300):
        price = (-1) ** number * (1 << number % 62)
        assert engine.add(0, number, number & 1, price, 1) == l3.OK
        assert engine.replace(number, number + 10**6, price + 1, 2) == l3.OK
        assert engine.delete(number + 10**6) == l3.OK
    assert (peek(engine.address + FREE_NODES), peek(engine.address + LIVE_LEVELS)) == (before, 0)
    engine.assert_sound()


def test_reducing_in_place_keeps_the_queue_and_all_else_loses_it() -> None:
    engine = Engine(Capacity.of(1, 10, 10))
    for order_id in (1, 2, 3):
        engine.add(0, order_id, 0, 100, 10)
    assert engine.queue_ahead(3) == (2, 20)
    engine.cancel(1, 4)
    engine.modify(2, 100, 5)
    engine.modify(2, 100, 5)  # not less, but no more
    assert engine.queue_ahead(3) == (2, 11)
    engine.modify(1, 100, 7)  # grows
    assert [engine.queue_ahead(order_id)[0] for order_id in (2, 3, 1)] == [0, 1, 2]
    engine.replace(2, 2, 100, 5)  # same id
    assert [engine.queue_ahead(order_id)[0] for order_id in (3, 1, 2)] == [0, 1, 2]
    engine.modify(3, 101, 10)
    assert engine.queue_ahead(3) == (0, 0)
    assert engine.books[0].levels(0) == [(101, 10), (100, 12)]


def test_a_level_whose_sum_would_be_too_large_makes_its_book_stale() -> None:
    engine = Engine(Capacity.of(2, 10, 10))
    assert engine.add(0, 1, 0, 100, l3.QUANTITY_MAX - 1) == l3.OK
    assert engine.add(0, 2, 0, 100, 1) == l3.OK
    assert engine.add(0, 3, 0, 100, 1) == l3.FULL_QUANTITY
    assert engine.add(1, 4, 0, 100, 1) == l3.OK
    assert [book.state for book in engine.books] == [BookState.STALE, BookState.EMPTY]
    assert engine.books[0].levels(0) == [(100, l3.QUANTITY_MAX)]
    engine.assert_sound()


@pytest.mark.parametrize("operation", ["execute", "cancel"])
def test_who_takes_more_than_is_left_takes_the_order_and_is_counted(operation: str) -> None:
    engine = Engine(Capacity.of(1, 10, 10))
    engine.add(0, 1, 0, 100, 10)
    engine.add(0, 2, 0, 100, 5)
    assert getattr(engine, operation)(1, 11) == l3.TOO_MUCH
    assert (engine.counted(l3.TOO_MUCH), engine.books[0].levels(0)) == (1, [(100, 5)])
    engine.assert_sound()


def test_a_book_that_crosses_is_counted_and_kept() -> None:
    engine = Engine(Capacity.of(1, 10, 10))
    engine.add(0, 1, 0, 100, 1)
    engine.add(0, 2, 1, 100, 1)
    assert engine.counted(l3.CROSSED) == 1
    engine.add(0, 3, 0, 102, 5)
    assert engine.counted(l3.CROSSED) == 2
    assert engine.books[0].best() == [102, 5, 100, 1, 202, -2]
    engine.execute(3, 2)
    assert engine.counted(l3.CROSSED) == 2, "no new price"
    engine.delete(2)
    assert engine.books[0].best() == [102, 3, 0, 0, 0, 0]


def test_an_order_costs_less_than_128_bytes_all_told() -> None:
    assert bytes_per_order(Capacity.of(5000, 1_000_000)) < 128


@pytest.mark.parametrize(("name", "value"), [("symbols", 0), ("orders", 0), ("levels", -1), ("orders", 2**30)])
def test_an_engine_that_cannot_be_is_refused(name: str, value: int) -> None:
    wanted = Capacity.of(1, 10)._replace(**{name: value})
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Engine(wanted)


def test_every_counter_has_a_place_of_its_own_in_the_header() -> None:
    assert sorted(l3.CODES) == list(range(l3.CROSSED, 1))
    assert COUNTERS - 8 * l3.CROSSED < PATH
