"""Lost: books of levels in the order engine's level table and trees, in the place of sorted blocks (`orderbook.l2`).

Counted in cache lines it should have won. What a level at random touches, where each is a miss:

    blocks    the book's two, the side's head, its directory (2), the block's head, keys (4) and quantity: 11
    table     the level and the book's two; of a price that comes or goes the root and a leaf, too: 3 to 9

But the block's lines are neighbours, fetched in pairs and asked for ahead, and a price that comes back costs a block no
more than another quantity.

Processor time of a level, on a busy machine (medians of 50 rounds, a million live orders in 5,000 symbols): at random
185 ns by table, 191 in blocks, 0.99 of it round by round (0.75 to 1.21); with locality 138 and 121, 1.18 of it.
"""

from typing import Any

import numpy as np

from bench.alternatives.book_rounds import STEP, Work, in_turns
from bench.book import LIVE, SYMBOLS, level_books, levels_in, order_books
from bench.book_loops import apply_levels
from bench.book_streams import Stream, levels_of
from shm.atomics import load_u32, load_word, prefetch, store_u32, store_word
from shm.kernel import kernel
from stages.domain.orderbook import batch, l3, top
from stages.domain.orderbook.engine import (
    BEST,
    HEADER_BYTES,
    LEVEL_ORDERS,
    LOTS,
    Capacity,
    book_at,
    number_of,
    side_at,
)
from stages.domain.orderbook.top import BOOK_BYTES

AHEAD_TABLE, AHEAD_LEVEL = 12, 5


@kernel
def set_level(engine, symbol, side, price, quantity):  # type: ignore[no-untyped-def]
    """An event of one level. Negative: a limit forbids it."""
    book, owner, key = book_at(engine, symbol), 2 * symbol + side + 1, top.signed(price, side)
    side_address, hash_32 = side_at(book, side), l3.level_hash(engine, key, owner)
    top.begin_update(book)
    level = l3.find_level(engine, hash_32, key, owner)
    if level == 0 and quantity != 0:
        level = l3._room_for_level(engine, side_address, hash_32)
        if level < 0:
            return level
        l3._create_level(engine, side_address, level, hash_32, key, owner)
        store_u32(level + LEVEL_ORDERS, 1)
    if level != 0:
        is_best = load_u32(side_address + BEST) == number_of(engine, level)
        store_word(level + LOTS, quantity)
        if quantity == 0:
            l3._remove_level(engine, side_address, level, owner)
        if is_best:
            l3._show_best(engine, book, side)
    top.end_update(book)
    return 0


@kernel
def _apply(engine, messages, count):  # type: ignore[no-untyped-def]
    wrong = 0
    for index in range(count):
        if index + AHEAD_TABLE < count:
            at = messages + 64 * (index + AHEAD_TABLE)
            head = load_word(at)
            batch.look_for_level(engine, head >> 32, head >> 8 & 1, load_word(at + batch.PRICE))
        if index + AHEAD_LEVEL < count:
            at = messages + 64 * (index + AHEAD_LEVEL)
            head = load_word(at)
            symbol, side, price = head >> 32, head >> 8 & 1, load_word(at + batch.PRICE)
            home = batch.home_of_level(engine, 2 * symbol + side + 1, top.signed(price, side))
            batch.look_around_level(engine, symbol, side, price, home)
            prefetch(book_at(engine, head >> 32))
        at = messages + 64 * index
        head, price, quantity = load_word(at), load_word(at + batch.PRICE), load_word(at + batch.QUANTITY)
        wrong += int(set_level(engine, head >> 32, head >> 8 & 1, price, quantity) < 0)
    return wrong


def _course(*, is_local: bool, quick: bool) -> dict[str, Any]:
    stream = Stream(is_local=is_local, live=LIVE, symbols=SYMBOLS)
    reference_memory, reference = order_books(Capacity.of(SYMBOLS, LIVE + LIVE // 20))
    table_memory, engine = order_books(Capacity.of(SYMBOLS, 1, LIVE))
    block_memory, books = level_books(SYMBOLS)
    first = levels_of(reference, stream.preload())
    _apply(engine, first.ctypes.data, len(first))
    apply_levels(books, first.ctypes.data, len(first), 0)

    def by_blocks(changes: np.ndarray) -> int:
        apply_levels(books, changes.ctypes.data, len(changes), 0)
        return 0

    def prepare() -> dict[str, Work]:
        changes = levels_of(reference, stream.messages(STEP))
        return {
            "levels in blocks": lambda: by_blocks(changes),
            "levels by table": lambda: int(_apply(engine, changes.ctypes.data, len(changes))),
        }

    document = in_turns(prepare, quick=quick)
    for symbol in range(SYMBOLS):
        for side in range(2):
            at = HEADER_BYTES + BOOK_BYTES * symbol
            if levels_in(engine + at, side) != levels_in(books + BOOK_BYTES * symbol, side):
                raise RuntimeError(f"symbol {symbol}: the two have different levels")
    del reference_memory, table_memory, block_memory
    return document


def run(*, quick: bool = False) -> dict[str, Any]:
    """Both in turns, on what random and local order messages come to."""
    results: list[dict[str, Any]] = []
    ratios: dict[str, Any] = {}
    for is_local in (False, True):
        where = "local" if is_local else "random"
        document = _course(is_local=is_local, quick=quick)
        results += [row | {"name": f"{row['name']}, {where}"} for row in document["results"]]
        ratios |= {f"{name}_{where}": value for name, value in document["ratios"].items()}
    return {"results": results, "ratios": ratios}
