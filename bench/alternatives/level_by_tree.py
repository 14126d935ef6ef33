"""Lost: finding an order's level by walking down the tree of its side, instead of by a hash table of all levels.

The tree is there anyway, for the order of the levels, and a table more costs 64 bytes a level. But the way down leads
over the book's line, the root's and the leaf's keys and numbers, each after the other; the table is one line, which
can be asked for as soon as the message is known.

    python -m bench.alternatives.level_by_tree

FIGURES
"""

import statistics
import time

import numpy as np

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

STEP, ROUNDS, AHEAD = 5_000, 100, 8


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


def main() -> None:
    """Both in turns, over the levels of the same random orders."""
    stream = Stream(is_local=False, live=LIVE, symbols=SYMBOLS)
    memory, engine = order_books(Capacity.of(SYMBOLS, LIVE))
    messages = stream.preload()
    assert batch.apply_batch(engine, messages.ctypes.data, len(messages)) == 0
    random = np.random.default_rng(2)
    times: dict[str, list[float]] = {"tree": [], "table": []}
    for _ in range(ROUNDS):
        asked = messages[random.integers(0, LIVE, STEP)].copy()
        for name, find in (("tree", _by_tree), ("table", _by_table)):
            start = time.perf_counter_ns()
            found = find(engine, asked.ctypes.data, STEP)
            times[name].append((time.perf_counter_ns() - start) / STEP)
            assert found == STEP, name
    ratio = statistics.median(a / b for a, b in zip(times["tree"], times["table"], strict=True))
    for name, values in times.items():
        print(f"{name}: {statistics.median(values):.0f} ns a level")
    print(f"tree over table, round by round: {ratio:.2f}")
    del memory


if __name__ == "__main__":
    main()
