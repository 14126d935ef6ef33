"""Lost: finding an order's level by walking down the tree of its side, instead of by a hash table of all levels.

The tree is there anyway, for the order of the levels, and a table more costs 64 bytes a level. But the way down leads
over the book's line, the root's and the leaf's keys and numbers, each after the other; the table is one line, which
can be asked for as soon as the message is known.

Processor time of a level found, on a noisy machine (medians of 100 rounds, 430,000 levels of a million random orders):
79 ns by table, 305 by tree with book and root asked for ahead; 0.26 of it round by round.
"""

from typing import Any

import numpy as np

from bench.alternatives.book_rounds import STEP, Work, in_turns
from bench.book import LIVE, SYMBOLS, order_books
from bench.book_streams import Stream
from shm.atomics import load_u32, load_word, prefetch
from shm.kernel import kernel
from stages.domain.orderbook import batch, l3, table, top, tree
from stages.domain.orderbook.engine import (
    LEVEL_LINES,
    LEVEL_TABLE,
    ROOT,
    Capacity,
    book_at,
    node_at,
    record_at,
    side_at,
)

AHEAD = 8


@kernel
def _by_tree(engine, messages, count):  # type: ignore[no-untyped-def]
    found = 0
    for index in range(count):
        if index + 2 * AHEAD < count:
            head = load_word(messages + 64 * (index + 2 * AHEAD))
            prefetch(side_at(book_at(engine, head >> 32), head >> 8 & 1))
        if index + AHEAD < count:
            head = load_word(messages + 64 * (index + AHEAD))
            root = node_at(engine, load_u32(side_at(book_at(engine, head >> 32), head >> 8 & 1) + ROOT))
            for offset in range(0, 256, 64):
                prefetch(root + offset)
        head = load_word(messages + 64 * index)
        side = side_at(book_at(engine, head >> 32), head >> 8 & 1)
        key = top.signed(load_word(messages + 64 * index + batch.PRICE), head >> 8 & 1)
        leaf = node_at(engine, tree.leaf_of(engine, side, key))
        place = min(tree.count_below(leaf, key), 19)
        if load_word(tree.key_at(leaf, place)) == key:
            found += int(load_word(record_at(engine, load_u32(tree.ref_at(leaf, place)))) == key)
    return found


@kernel
def _by_table(engine, messages, count):  # type: ignore[no-untyped-def]
    found = 0
    for index in range(count):
        if index + AHEAD < count:
            head, price = load_word(messages + 64 * (index + AHEAD)), load_word(messages + 64 * (index + AHEAD) + 24)
            hash_32 = l3.level_hash(engine, top.signed(price, head >> 8 & 1), 2 * (head >> 32) + (head >> 8 & 1) + 1)
            prefetch(table.home_of(engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES), hash_32))
        head = load_word(messages + 64 * index)
        key = top.signed(load_word(messages + 64 * index + batch.PRICE), head >> 8 & 1)
        owner = 2 * (head >> 32) + (head >> 8 & 1) + 1
        found += int(l3.find_level(engine, l3.level_hash(engine, key, owner), key, owner) != 0)
    return found


def run(*, quick: bool = False) -> dict[str, Any]:
    """Both in turns, over the levels of the same random orders."""
    stream = Stream(is_local=False, live=LIVE, symbols=SYMBOLS)
    memory, engine = order_books(Capacity.of(SYMBOLS, LIVE))
    messages = stream.preload()
    assert batch.apply_batch(engine, messages.ctypes.data, len(messages)) == 0
    random = np.random.default_rng(2)

    def prepare() -> dict[str, Work]:
        asked = messages[random.integers(0, LIVE, STEP)].copy()
        return {
            "level by table": lambda: STEP - int(_by_table(memory.address, asked.ctypes.data, STEP)),
            "level by tree": lambda: STEP - int(_by_tree(memory.address, asked.ctypes.data, STEP)),
        }

    return in_turns(prepare, quick=quick)
