"""The one interface over both kinds of book: they say the same of the same market, and what they derive is true."""

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.atomics import JIT, peek
from stages.domain.messages import BBO, DEPTH, DEPTH_LEVELS, BookState
from stages.domain.orderbook import l2_book, l3, top
from stages.domain.orderbook.engine import BOOK_ORDERS, SIDES, Capacity
from stages.domain.orderbook.publication import fill_bbo, fill_level_depth, fill_order_depth
from tests.entered import entered
from tests.stages.domain.orderbook.engines import Engine, Face, LevelBook

FAR = 2**62 - 1
levels = st.tuples(
    st.integers(0, 1),
    st.one_of(st.integers(90, 110), st.sampled_from([1, 10**14, FAR])),
    st.sampled_from([0, 0, 1, 5, 2**61]),
)


@given(changes=st.lists(levels, max_size=120), cuts=st.sets(st.integers(0, 120)))
@settings(max_examples=100 if JIT else 10, deadline=None)
def test_any_split_or_merge_of_a_diff_stream_gives_the_same_book(
    changes: list[tuple[int, int, int]], cuts: set[int]
) -> None:
    one_by_one, at_once, in_pieces = LevelBook(200), LevelBook(200), LevelBook(200)
    for change in changes:
        one_by_one.event([change])
    at_once.event(changes)
    ends = sorted({cut for cut in cuts if cut < len(changes)} | {len(changes)})
    for start, end in zip([0, *ends], ends, strict=False):
        in_pieces.event(changes[start:end])
    merged = LevelBook(200)
    merged.event([(side, price, quantity) for (side, price), quantity in {(s, p): q for s, p, q in changes}.items()])
    assert one_by_one.sequence == len(changes)
    for book in (one_by_one, at_once, in_pieces, merged):
        book.assert_sound()
        assert book.best() == one_by_one.best()
        assert [book.levels(side) for side in range(2)] == [one_by_one.levels(side) for side in range(2)]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20 if JIT else 2, deadline=None)
def test_orders_added_up_are_the_levels_of_a_book_that_is_told_the_sums(seed: int) -> None:
    rng = random.Random(seed)
    engine, book = Engine(Capacity.of(2, 300, 300)), LevelBook(300)
    orders = engine.books[1]
    live: dict[int, tuple[int, int]] = {}
    for number in range(300 if JIT else 60):
        touched: set[tuple[int, int]] = set()
        kind = rng.choice(["add", "add", "add", "delete", "execute", "cancel", "replace"])
        if kind == "add" or not live:
            live[number] = side, price = rng.randrange(2), rng.choice([rng.randrange(95, 106), 10**15])
            assert engine.add(1, number, side, price, rng.randrange(1, 50)) == l3.OK
            touched.add((side, price))
        else:
            order_id = rng.choice(list(live))
            side, price = live[order_id]
            touched.add((side, price))
            if kind == "replace":
                live[number] = side, rng.randrange(95, 106)
                del live[order_id]
                assert engine.replace(order_id, number, live[number][1], 7) == l3.OK
                touched.add(live[number])
            elif kind == "delete":
                del live[order_id]
                engine.delete(order_id)
            else:
                getattr(engine, kind)(order_id, rng.randrange(1, 20))
                if engine.queue_ahead(order_id) == (-1, -1):
                    del live[order_id]
        book.event([(side, price, orders.volume_at(side, price)) for side, price in touched])
        assert_same(orders, book)
    engine.assert_sound()


def assert_same(one: Face, other: Face) -> None:
    """Both say the same of everything that can be asked."""
    assert one.best() == other.best()
    assert one.derived() == other.derived()
    assert one.sequence == other.sequence
    for side in range(2):
        levels = one.levels(side)
        assert levels == other.levels(side)
        for count in (0, 1, 5, len(levels)):
            assert (
                one.volume(side, count) == other.volume(side, count) == sum(quantity for _, quantity in levels[:count])
            )
        for price in (95, 100, 10**15, 3):
            assert one.volume_at(side, price) == other.volume_at(side, price) == dict(levels).get(price, 0)
    for one_record, other_record in zip(published(one), published(other), strict=True):
        assert one_record.tobytes() == other_record.tobytes()


def published(book: Face) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Its BBO and DEPTH records."""
    bbo, depth = np.zeros(1, BBO), np.zeros(1, DEPTH)
    entered(fill_bbo)(book.address, bbo.ctypes.data, 7, 8, 6)
    fill_depth = fill_level_depth if isinstance(book, LevelBook) else fill_order_depth
    entered(fill_depth)(book.address, depth.ctypes.data, 7, 8, 9)
    return bbo, depth


def test_what_is_published_is_the_book() -> None:
    book = LevelBook(100)
    book.event([(0, 100 - index, index + 1) for index in range(30)] + [(1, 102, 4)])
    bbo, depth = (record[0] for record in published(book))
    assert [int(bbo[name]) for name in BBO.names or ()] == [100, 1, 102, 4, 7, 8, BookState.EMPTY, 6]
    assert depth["bid_price"].tolist() == [100 - index for index in range(DEPTH_LEVELS)]
    assert depth["bid_quantity"].tolist() == list(range(1, DEPTH_LEVELS + 1))
    assert depth["ask_price"].tolist() == [102] + [0] * (DEPTH_LEVELS - 1)
    assert [int(depth[name]) for name in ("bid_levels", "ask_levels", "bid_count", "ask_count")] == [20, 1, 30, 1]
    assert [int(depth[name]) for name in ("last_id", "read_ns", "exchange_time_ns", "state")] == [7, 8, 9, 0]


quantities = st.one_of(st.integers(1, 10**6), st.integers(1, 2**62 - 1))


@given(bid=st.integers(-(2**61), 2**61), spread=st.integers(-(10**6), 10**12), bid_qty=quantities, ask_qty=quantities)
@settings(deadline=None)
def test_derived_figures_are_as_exact_as_they_say(bid: int, spread: int, bid_qty: int, ask_qty: int) -> None:
    engine = Engine(Capacity.of(1, 2, 2))
    engine.add(0, 1, 0, bid, bid_qty)
    engine.add(0, 2, 1, bid + spread, ask_qty)
    mid, found_spread, microprice, imbalance = engine.books[0].derived()
    assert engine.books[0].best()[4:] == [2 * bid + spread, spread]
    assert (mid, found_spread) == ((2 * bid + spread) // 2, spread)
    share = Fraction(bid_qty, bid_qty + ask_qty)
    assert abs(microprice - (bid + spread * share)) < 1 + abs(spread) * Fraction(1, 2**29)
    assert abs(imbalance - (2 * share - 1) * top.PARTS) <= 1
    assert -top.PARTS <= imbalance <= top.PARTS


def test_a_queue_is_asked_of_the_book_that_has_the_order() -> None:
    engine, book = Engine(Capacity.of(2, 10, 10)), LevelBook(10)
    for order_id in (1, 2, 3):
        engine.add(1, order_id, 0, 100, 10 * order_id)
    book.event([(0, 100, 60)])
    assert [engine.books[1].queue_ahead(order_id) for order_id in (1, 2, 3, 4)] == [(0, 0), (1, 10), (2, 30), (-1, -1)]
    assert engine.books[0].queue_ahead(3) == book.queue_ahead(3) == (-1, -1)


def test_a_volume_beyond_64_bits_is_the_greatest_that_fits() -> None:
    engine = Engine(Capacity.of(1, 4, 4))
    for order_id in range(3):
        engine.add(0, order_id, 1, 100 + order_id, l3.QUANTITY_MAX)
    assert [engine.books[0].volume(1, levels) for levels in (2, 3)] == [2**63 - 2, 2**63 - 1]


def test_without_both_sides_nothing_is_derived() -> None:
    engine = Engine(Capacity.of(1, 2, 2))
    engine.add(0, 1, 1, 50, 5)
    assert engine.books[0].best() == [0, 0, 50, 5, 0, 0]
    assert engine.books[0].derived() == (0, 0, 0, 0)
    engine.delete(1)
    assert engine.books[0].best() == [0] * 6


def test_a_level_of_less_than_nothing_is_none() -> None:
    book = LevelBook(10)
    book.event([(0, 5, 1), (0, 6, -(2**63)), (0, 5, -1), (1, 7, -1)])
    assert (book.levels(0), book.levels(1), book.best()) == ([], [], [0] * 6)
    book.assert_sound()


def test_a_cleared_book_of_levels_is_empty() -> None:
    book = LevelBook(10)
    book.event([(0, 5, 1), (1, 6, 1)])
    entered(l2_book.clear)(book.address)
    assert (book.best(), book.levels(0), book.levels(1), book.state) == ([0] * 6, [], [], BookState.EMPTY)
    book.assert_sound()


@pytest.mark.parametrize("offset", [top.BID_PRICE, top.ASK_QUANTITY, top.MID_DOUBLED, top.SPREAD, top.STATE])
def test_what_decisions_need_stands_in_the_first_line_and_what_updates_need_in_the_second(offset: int) -> None:
    assert offset <= 64 - 8
    assert top.SEQUENCE >= 64
    assert max(SIDES + 2 * 16, BOOK_ORDERS + 8) <= top.BOOK_BYTES
    engine = Engine(Capacity.of(3, 2))
    assert [book.address % 128 for book in engine.books] == [0, 0, 0]
    assert peek(engine.books[2].address + top.KIND) == engine.books[2].address - engine.address
