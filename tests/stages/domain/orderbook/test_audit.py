"""Checks in small steps: they say what the whole check says, and nothing of a book that changes between two steps."""

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.atomics import JIT, peek, poke
from shm.kernel import kernel
from stages.domain.messages import BookState
from stages.domain.orderbook import audit, integrity, l2, l2_book, l3, table, top, tree
from stages.domain.orderbook import engine as engine_module
from stages.domain.orderbook.engine import (
    BEST,
    BETTER,
    COUNT,
    HEADER_BYTES,
    HEIGHT,
    KEYS,
    LOTS,
    NODE_BYTES,
    NODE_KEYS,
    NODES,
    REFS,
    ROOT,
    SIDE_BYTES,
    SIDES,
    WORSE,
    Capacity,
)
from stages.domain.orderbook.integrity import COUNTS, FAULTS, SOUND, check_levels, check_orders
from tests.entered import entered
from tests.stages.domain.orderbook.engines import Engine, Face, LevelBook, aligned

ALL = 10**6
GAP = 100
"""Between the prices of `tall`."""


@kernel
def _begin(cursor: int, book: int) -> None:
    audit.begin(cursor, book)


@kernel
def _record_of(engine: int, order_id: int) -> int:
    return l3.find_order(engine, l3.order_hash(engine, order_id), order_id)


class Auditor:
    """A pass over a book, step by step."""

    def __init__(self, book: Face) -> None:
        self._memory, self._cursor = aligned(audit.CURSOR_BYTES)
        self._book = book
        _begin(self._cursor, book.address)

    def step(self, orders_max: int = ALL) -> int:
        return int(audit.step(self._cursor, self._book.address, orders_max))

    def finish(self, orders_max: int = ALL, between: Callable[[], None] = lambda: None) -> int:
        for _ in range(10_000):
            code = self.step(orders_max)
            if code != audit.MORE:
                return code
            between()
        raise AssertionError("a pass without end")

    def __getitem__(self, word: int) -> int:
        return peek(self._cursor + word)


def deep_levels(count: int = 400) -> LevelBook:
    """A deep book, always the same, in the same memory."""
    book, memory = _deep(count)
    book.restore(memory)
    return book


@cache
def _deep(count: int) -> tuple[LevelBook, np.ndarray[Any, Any]]:
    book, rng = LevelBook(1000), random.Random(3)
    book.event(
        [(side, price * (1 - 2 * side) + 5000, 1 + rng.randrange(9)) for side in range(2) for price in range(count)]
    )
    book.event([(0, 5000 + rng.randrange(count), 0) for _ in range(count // 3)])
    return book, book.memory.copy()


def crowd(orders: int = 300) -> Engine:
    """Two full books, always the same, in the same memory."""
    engine, memory = _crowded(orders)
    engine.restore(memory)
    return engine


@cache
def _crowded(orders: int) -> tuple[Engine, np.ndarray[Any, Any]]:
    engine, rng = Engine(Capacity.of(2, orders, orders)), random.Random(4)
    for number in range(orders - 1):
        assert engine.add(number % 2, number, rng.randrange(2), rng.randrange(70), 1 + rng.randrange(9)) == l3.OK
    return engine, engine.memory.copy()


def tall(levels: int = 240) -> Engine:
    """A book with a level an order, GAP apart, always the same: the trees of its sides are as high as they get."""
    engine, memory = _tall(levels)
    engine.restore(memory)
    return engine


@cache
def _tall(levels: int) -> tuple[Engine, np.ndarray[Any, Any]]:
    engine = Engine(Capacity.of(1, 2 * levels, 2 * levels))
    for number in range(2 * levels):
        assert engine.add(0, number, number % 2, GAP * (number // 2 + 1) * (1 - 2 * (number % 2)), 1) == l3.OK
    assert [_side(engine, side)[HEIGHT // 4] for side in range(2)] == [2, 2]
    return engine, engine.memory.copy()


def _side(engine: Engine, side: int) -> np.ndarray[Any, Any]:
    return _words(engine, HEADER_BYTES + SIDES + SIDE_BYTES * side, SIDE_BYTES)


def _words(engine: Engine, offset: int, size: int) -> np.ndarray[Any, Any]:
    """Four bytes each, to read and to write, of an engine's memory."""
    return np.ndarray((size // 4,), np.uint32, engine.memory.data, engine.address - engine.memory.ctypes.data + offset)


def _node(engine: Engine, number: int) -> np.ndarray[Any, Any]:
    return _words(engine, peek(engine.address + NODES) + NODE_BYTES * number, NODE_BYTES)


def _nodes_of(engine: Engine, side: int) -> list[list[int]]:
    """Numbers of the nodes of a tree, from the root down, a list for each height."""
    rows = [[int(_side(engine, side)[ROOT // 4])]]
    for _ in range(int(_side(engine, side)[HEIGHT // 4])):
        nodes = [_node(engine, number) for number in rows[-1]]
        rows.append([int(ref) for node in nodes for ref in node[REFS // 4 :][: node[COUNT // 4]]])
    return rows


def test_a_pass_over_a_sound_book_looks_at_all_of_it() -> None:
    book = deep_levels()
    auditor = Auditor(book)
    assert auditor.finish() == SOUND
    assert auditor[audit.LEVELS] == len(book.levels(0)) + len(book.levels(1))
    assert auditor[audit.IS_WHOLE] == 1
    engine = crowd()
    for symbol in range(2):
        auditor = Auditor(engine.books[symbol])
        assert auditor.finish() == SOUND
        assert auditor[audit.LEVELS] == sum(len(engine.books[symbol].levels(side)) for side in range(2))
        assert auditor[audit.ORDERS] == (150, 149)[symbol]
        assert auditor[audit.IS_WHOLE] == 1


def test_an_empty_book_is_sound() -> None:
    engine = Engine(Capacity.of(1, 2))  # its memory is gone with it
    for book in (LevelBook(10), engine.books[0]):
        auditor = Auditor(book)
        assert (auditor.finish(), auditor[audit.LEVELS], auditor[audit.IS_WHOLE]) == (SOUND, 0, 1)


def test_of_a_long_queue_only_the_first_orders_are_looked_at() -> None:
    engine = Engine(Capacity.of(1, 100))
    for number in range(50):
        engine.add(0, number, 0, 7, 1)
    poke(int(_record_of(engine.address, 30)) + LOTS, 2)
    auditor = Auditor(engine.books[0])
    assert (auditor.finish(orders_max=30), auditor[audit.IS_WHOLE]) == (SOUND, 0)
    assert Auditor(engine.books[0]).finish(orders_max=50) == entered(check_orders)(engine.address, 0) != SOUND


def test_a_book_with_the_mark_of_an_update_is_left_alone() -> None:
    book = deep_levels()
    poke(book.address + top.SEQUENCE, book.sequence * 2 + 1)
    auditor = Auditor(book)
    assert [auditor.step() for _ in range(50)] == [audit.MORE] * 50


def test_levels_that_go_and_come_again_within_a_sequence_number_may_change_blocks() -> None:
    """What a book does to keep itself warm while it is idle (`stages.book.kernel.rehearse`)."""
    rng, numbers = random.Random(5), []
    for _ in range(100):
        book = deep_levels(60)
        book.event([(0, 5000 + price, 0) for price in range(60) if rng.randrange(2)])
        levels = book.levels(0, 20)

        def rehearse(book: LevelBook = book, levels: list[tuple[int, int]] = levels) -> None:
            price, quantity = rng.choice(levels)
            entered(l2_book.set_level)(book.address, 0, price, 0)
            entered(l2_book.set_level)(book.address, 0, price, quantity)

        auditor = Auditor(book)
        assert auditor.finish(between=rehearse) == SOUND
        numbers.append(auditor[audit.IS_WHOLE])
    assert set(numbers) == {0, 1}


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30 if JIT else 3, deadline=None)
def test_a_book_that_changes_between_the_steps_is_never_called_broken(seed: int) -> None:
    rng = random.Random(seed)
    book, engine = deep_levels(100), crowd(120)
    numbers = iter(range(10_000, 10**6))

    def change_levels() -> None:
        for _ in range(rng.randrange(3)):
            book.event([(rng.randrange(2), 5000 + rng.randrange(-150, 150), rng.choice([0, 0, 1])) for _ in range(4)])

    def change_orders() -> None:
        for _ in range(rng.randrange(4)):
            engine.delete(rng.randrange(120))
            engine.add(0, next(numbers), rng.randrange(2), rng.randrange(90), 1)

    def may_cross() -> int:
        return Auditor(book).finish(between=change_levels)

    assert may_cross() == SOUND
    assert Auditor(engine.books[0]).finish(between=change_orders) == SOUND
    engine.assert_sound()


def test_what_the_whole_check_finds_in_levels_the_steps_find_too() -> None:
    book = deep_levels(200)
    found = set()
    bids = l2_book_side(book, 0)
    words = [bids + l2.LEVELS, bids + l2.BLOCKS, bids + l2.DIRECTORY + l2.PLACE]
    words += [book.address + offset for offset in (top.BID_PRICE, top.ASK_QUANTITY, top.SPREAD, top.MID_DOUBLED)]
    first = bids + (peek(words[2]) >> l2.OFFSET_BITS)
    words += [first + offset for offset in range(0, l2.BLOCK_BYTES, 8)]
    for word in words:
        for value in (peek(word) + 1, -peek(word) - 5, 2**62 + 3):
            before = peek(word)
            poke(word, value)
            whole, stepped = int(check_levels(book.address)), Auditor(book).finish()
            assert (whole == SOUND) == (stepped == SOUND), (hex(word), value)
            found.add(stepped)
            poke(word, before)
    assert book.levels(0)
    book.assert_sound()
    assert len(found - {SOUND}) >= 4
    assert all(fault in FAULTS for fault in found - {SOUND})


def l2_book_side(book: LevelBook, side: int) -> int:
    return book.address + peek(book.address + l2_book.SIDES + 8 * side)


def _tree_damage(engine: Engine) -> list[tuple[int, int, int, int]]:
    """(node, offset, bytes, other value) of all in a tree that says something."""
    damage = []
    for row in (rows := _nodes_of(engine, 0)):
        for number in row:
            node = _node(engine, number)
            keys, count = node[KEYS // 4 :].view(np.int64)[:NODE_KEYS], int(node[COUNT // 4])
            for offset in (COUNT, WORSE, BETTER, *range(REFS, REFS + 4 * count, 4)):
                value = int(node[offset // 4])
                others = {value ^ 1, value + 1, 0, rows[0][0], rows[-1][0], 2**31, 2**32 - 2} - {value}
                damage += [(number, offset, 4, other) for other in others]
            for place in range(int(row is not rows[-1]), NODE_KEYS):  # what stands first in an inner node says nothing
                key = int(keys[place])
                damage += [(number, KEYS + 8 * place, 8, other) for other in (key + 1, key - GAP, -(2**62), 2**63 - 1)]
    return damage


def test_whatever_is_wrong_with_a_tree_is_found_in_a_book_that_changes_too() -> None:
    engine = tall()
    damage, found = _tree_damage(engine), set()
    sequence = engine.books[0].address + top.SEQUENCE

    def change() -> None:
        poke(sequence, peek(sequence) + 2)

    for number, offset, size, value in random.Random(6).sample(damage, 1500 if JIT else 10):
        engine = tall()
        _node(engine, number)[offset // 4 :].view(f"<u{size}")[0] = value % 2 ** (8 * size)
        for between in (lambda: None, change):
            fault = Auditor(engine.books[0]).finish(between=between)
            assert fault in FAULTS, (number, offset, value)
            found.add(fault)
    assert {integrity.NODE_ORDER, integrity.NODE_LINKS} <= found
    assert Auditor(tall().books[0]).finish() == SOUND


def test_trees_that_grow_and_shrink_are_sound_all_the_time() -> None:
    rng, engine = random.Random(7), Engine(Capacity.of(1, 1100, 1100))
    numbers, live, heights = iter(range(10**6)), dict[int, int](), set()

    def change() -> None:
        grows, at = rng.random() < share, rng.randrange(1000)
        for price in range(at, at + rng.randrange(1, 60)):
            if grows and price not in live:
                live[price] = next(numbers)
                assert engine.add(0, live[price], 0, price, 1) == l3.OK
            elif not grows and price in live:
                assert engine.delete(live.pop(price)) == l3.OK

    for turn in range(300 if JIT else 6):
        share = 0.8 if turn % 100 < 50 else 0.1
        change()
        auditor = Auditor(engine.books[0])
        assert (auditor.finish(), auditor[audit.LEVELS], auditor[audit.IS_WHOLE]) == (SOUND, len(live), 1)
        assert Auditor(engine.books[0]).finish(between=lambda: change() if rng.random() < 0.02 else None) == SOUND
        heights.add(int(_side(engine, 0)[HEIGHT // 4]))
    engine.assert_sound()
    assert not JIT or {1, 2} <= heights


@pytest.mark.skipif(JIT, reason="loads can be noted only with the compiler off")
def test_a_step_looks_at_the_nodes_on_its_way_and_their_neighbours_however_many_levels_there_are() -> None:
    engine, looked, seen = tall(), set[int](), set[int]()
    nodes_at = engine.address + peek(engine.address + NODES)

    def noted(load: Callable[[int], int]) -> Callable[[int], int]:
        def note(address: int) -> int:
            looked.add(address)
            return load(address)

        return note

    auditor, code = Auditor(engine.books[0]), audit.MORE
    with pytest.MonkeyPatch.context() as patch:
        for module in (audit, engine_module, integrity, l3, table, top, tree):
            for name in ("load_word", "load_u32"):
                if hasattr(module, name):
                    patch.setattr(module, name, noted(getattr(module, name)))
        while code == audit.MORE:
            looked.clear()
            code = auditor.step()
            nodes = {(at - nodes_at) // NODE_BYTES for at in looked if nodes_at <= at < engine.address + engine.size}
            assert len(nodes) <= 2 * (2 + 1)  # the trees have two heights above the leaves
            assert len({at // 64 for at in looked if engine.address <= at < nodes_at}) <= 20
            seen |= nodes
    assert code == SOUND
    assert seen - {0} == {number for side in range(2) for row in _nodes_of(engine, side) for number in row}


@pytest.mark.parametrize("offset", range(0, 32, 4))
def test_what_the_whole_check_finds_in_orders_the_steps_find_too(offset: int) -> None:
    engine = crowd()
    record = int(_record_of(engine.address, 100))
    words = np.ndarray((8,), np.uint32, (engine.memory.data), record - engine.memory.ctypes.data)
    for value in (int(words[offset // 4]) ^ 1, int(words[offset // 4]) ^ (1 << 18)):
        before = words.copy()
        words[offset // 4] = value
        whole, stepped = int(entered(check_orders)(engine.address, 0)), Auditor(engine.books[0]).finish()
        assert (whole == SOUND) == (stepped == SOUND)
        words[:] = before
    engine.assert_sound()


def test_a_wrong_best_level_or_number_of_levels_is_found() -> None:
    engine = crowd()
    for offset in (BEST, 8):
        word = engine.address + HEADER_BYTES + SIDES + offset - offset % 8
        before = peek(word)
        poke(word, before + (1 << 32 * (offset % 8 // 4)))
        assert Auditor(engine.books[0]).finish() == int(entered(check_orders)(engine.address, 0)) != SOUND
        poke(word, before)
    word = engine.address + HEADER_BYTES + SIDES + 32
    poke(word, peek(word) + 1)
    assert Auditor(engine.books[0]).finish() == COUNTS


def test_a_restored_book_is_empty_and_stale_whatever_it_was() -> None:
    book = deep_levels(200)
    rng = np.random.default_rng(1)
    for side in range(2):
        address = l2_book_side(book, side)
        for offset in range(l2.BLOCKS, l2.side_bytes(1000), 8):
            if offset != l2.BLOCKS_MAX:
                poke(address + offset, int(rng.integers(-(2**62), 2**62)))
    assert check_levels(book.address) != SOUND
    entered(l2_book.restore)(book.address, 1000)
    book.assert_sound()
    assert (book.levels(0), book.levels(1), book.best(), book.state) == ([], [], [0] * 6, BookState.STALE)
    book.event([(0, 5, 1), (1, 6, 2)])
    assert (book.levels(0), book.levels(1)) == ([(5, 1)], [(6, 2)])
    book.assert_sound()
