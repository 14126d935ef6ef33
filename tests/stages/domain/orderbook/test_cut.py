"""Between any two stores of an update the book is right, or known to be dirty; and others are right.

That is what its mark promises (`orderbook.top`). What a process that dies leaves: `tests/stages/book/test_cut.py`.
Runs with the compiler off, where a store can be made the last one: `tests/test_jit_off.py` sees to it.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shm.atomics import JIT, peek
from stages.domain.messages import BookState
from stages.domain.orderbook import engine as engine_module
from stages.domain.orderbook import l2, l2_book, l3, table, top, tree
from stages.domain.orderbook.engine import FREE_NODES, Capacity
from stages.domain.orderbook.integrity import DIRTY, SOUND, check_levels, check_orders
from tests.entered import entered
from tests.stages.domain.orderbook.engines import Engine, Face, LevelBook

pytestmark = pytest.mark.skipif(JIT, reason="a store can be made the last one only with the compiler off")

STORES = ("store_word", "store_u32", "store_relaxed", "store_release")
Content = tuple[list[tuple[int, int]], list[tuple[int, int]], list[int]]


LARGE = 5000
"""Id of an order that has more than a lot."""


class Killed(BaseException):
    """The writer is dead."""


@contextmanager
def dies_before_store(number: int) -> Iterator[None]:
    """Within, store `number` (from 0) and all later ones are not made."""
    count = itertools.count()

    def counted(store: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def last(address: int, value: int) -> None:
            if next(count) == number:
                raise Killed
            store(address, value)

        return last

    with pytest.MonkeyPatch.context() as patch:
        for module in (engine_module, l2, l3, table, top, tree):
            for name in STORES:
                if hasattr(module, name):
                    patch.setattr(module, name, counted(getattr(module, name)))
        yield


def content(book: Face) -> Content:
    return book.levels(0), book.levels(1), book.best()


def filled() -> Engine:
    """Books of many levels in crowded tables, always the same."""
    orders = 60
    engine, rng = Engine(Capacity.of(2, orders, orders)), random.Random(5)
    assert engine.add(0, LARGE, 1, 500, 9) == l3.OK
    for number in range(orders - 6):
        assert engine.add(number % 2, number, rng.randrange(2), rng.randrange(60), 1 + rng.randrange(9)) == l3.OK
    return engine


def ladder(levels: int) -> Engine:
    """Books of as many bids, an order a level."""
    engine = Engine(Capacity.of(2, 60, 60))
    for price in range(levels):
        assert engine.add(0, price, 0, price, 1) == engine.add(1, 100 + price, 0, price, 1) == l3.OK
    return engine


def joinable() -> Engine:
    """A ladder of two leaves, which need but one without one more of the orders."""
    engine = ladder(21)
    for order_id in (20, 19, 1):
        assert engine.delete(order_id) == l3.OK
    return engine


UPDATES: dict[str, tuple[Callable[[], Engine], Callable[[Engine], Any]]] = {
    "add, new price": (filled, lambda engine: engine.add(0, 1000, 0, 200, 3)),
    "add, far price": (filled, lambda engine: engine.add(0, 1000, 1, 2**61, 3)),
    "add, known price": (filled, lambda engine: engine.add(0, 1000, 0, engine.books[0].levels(0)[2][0], 3)),
    "execute a part": (filled, lambda engine: engine.execute(LARGE, 1)),
    "execute the rest": (filled, lambda engine: engine.execute(4, 100)),
    "delete": (filled, lambda engine: engine.delete(8)),
    "replace": (filled, lambda engine: engine.replace(12, 1001, 77, 5)),
    "modify in place": (filled, lambda engine: engine.modify(LARGE, 500, 2)),
    "clear": (lambda: ladder(12), lambda engine: engine.clear(0)),
    "split a node": (lambda: ladder(20), lambda engine: engine.add(0, 20, 0, 1020, 1)),
    "join two nodes": (joinable, lambda engine: engine.delete(0)),
}


@pytest.mark.parametrize("name", UPDATES)
def test_an_order_book_is_right_or_known_to_be_dirty_after_every_store(name: str) -> None:
    new, update = UPDATES[name]
    engine = new()
    start = engine.memory.copy()
    before, other = content(engine.books[0]), content(engine.books[1])
    nodes = peek(engine.address + FREE_NODES)
    update(engine)
    assert (peek(engine.address + FREE_NODES) != nodes) == ("node" in name)
    states = [before, content(engine.books[0])]
    cuts = dirty = 0
    for number in itertools.count():
        engine.restore(start)
        with dies_before_store(number):
            try:
                update(engine)
            except Killed:
                cuts += 1
            else:
                break
        fault = entered(check_orders)(engine.address, 0)
        assert (fault == DIRTY) == (engine.books[0].state == BookState.DIRTY)
        if fault == DIRTY:
            dirty += 1
        else:
            assert fault == SOUND
            assert content(engine.books[0]) in states
        assert content(engine.books[1]) == other
    assert 3 <= dirty < cuts


def test_a_book_of_levels_is_right_or_known_to_be_dirty_after_every_store() -> None:
    start = [(0, price, 1) for price in range(60, 20, -1)] + [(1, price, 1) for price in range(61, 75)]
    event = [(0, 61, 0), (0, 60, 0), (1, 61, 0), (0, 200, 4), (1, 201, 9), (0, 30, 0), (0, 2**60, 0), (1, 2**60, 1)]
    book = LevelBook(100)
    book.event(start)
    memory, before = book.memory.copy(), content(book)
    book.event(event)
    after, dirty = content(book), 0
    for number in itertools.count():
        book.restore(memory)
        try:
            with dies_before_store(number):
                book.event(event)
            break
        except Killed:
            fault = check_levels(book.address)
        assert (fault == DIRTY) == (book.state == BookState.DIRTY)
        if fault == DIRTY:
            dirty += 1
        else:
            assert content(book) in (before, after)
        entered(l2_book.clear)(book.address)
        book.event(start)
        assert content(book) == before
    assert dirty > 20
