"""Lost: a hash index beside the orders (8-byte entries, linear probing, removal by moving back) instead of orders that
stand in the hash table themselves (`stages.domain.orderbook.table`).

It is what most books have, and its orders are packed more tightly: the last freed is used next. But a message at
random then waits for the entry, and after that for the order: one cache miss more in a row, and one more of those that
a batch can have under way at once. Each step here finds a random live order, takes it out and puts a new one in.

Processor time of an order out and one in, on a noisy machine (medians of 100 rounds, a million live orders at random,
the next ones asked for ahead): 149 ns in their table, 162 with an index; 0.94 of it round by round.
"""

from typing import Any

import numpy as np

from bench.alternatives.book_rounds import STEP, Work, in_turns
from bench.book_memory import Memory
from shm.atomics import load_u32, load_word, prefetch, store_u32, store_word
from shm.kernel import kernel, primitive
from stages.domain.orderbook import table

LIVE = 1_000_000
AHEAD = 8


@primitive
def _home(entries: int, hash_32: int) -> int:
    return entries + 8 * (hash_32 * 2 * LIVE >> 32)


@primitive
def _entry(entries: int, orders: int, order_id: int) -> int:
    hash_32 = table.hash_of(order_id, 0)
    at = _home(entries, hash_32)
    entry = load_word(at)
    while entry != 0:
        if entry >> 32 & table.MASK_32 == hash_32 and load_word(orders + 32 * (entry & table.MASK_32)) == order_id:
            break
        at += 8
        entry = load_word(at)
    return at


@primitive
def _remove_entry(entries: int, hole: int) -> None:
    at = hole + 8
    entry = load_word(at)
    while entry != 0:
        if _home(entries, entry >> 32 & table.MASK_32) <= hole:
            store_word(hole, entry)
            hole = at
        at += 8
        entry = load_word(at)
    store_word(hole, 0)


@kernel
def _fill_index(entries: int, orders: int, ids: int, count: int) -> None:
    for index in range(count):
        order_id = load_word(ids + 8 * index)
        store_word(orders + 32 * (index + 1), order_id)
        store_word(_entry(entries, orders, order_id), table.hash_of(order_id, 0) << 32 | index + 1)


@kernel
def _step_index(entries: int, orders: int, old: int, new: int, count: int) -> int:
    missing = 0
    for index in range(count):
        if index + 2 * AHEAD < count:
            prefetch(_home(entries, table.hash_of(load_word(old + 8 * (index + 2 * AHEAD)), 0)))
            prefetch(_home(entries, table.hash_of(load_word(new + 8 * (index + 2 * AHEAD)), 0)))
        if index + AHEAD < count:
            likely = load_word(_home(entries, table.hash_of(load_word(old + 8 * (index + AHEAD)), 0)))
            prefetch(orders + 32 * (likely & table.MASK_32))
        at = _entry(entries, orders, load_word(old + 8 * index))
        number = load_word(at) & table.MASK_32
        missing += int(number == 0)
        _remove_entry(entries, at)
        order_id = load_word(new + 8 * index)
        store_word(orders + 32 * number, order_id)
        store_word(_entry(entries, orders, order_id), table.hash_of(order_id, 0) << 32 | number)
    return missing


@primitive
def _put(records: int, order_id: int) -> None:
    hash_32 = table.hash_of(order_id, 0)
    record = table.room(records, LIVE, hash_32)
    table.claim(records, LIVE, hash_32, record, 0)
    store_word(record, order_id)
    store_u32(record + table.IN_USE, 1)


@kernel
def _fill_table(records: int, ids: int, count: int) -> None:
    for index in range(count):
        _put(records, load_word(ids + 8 * index))


@kernel
def _step_table(records: int, old: int, new: int, count: int) -> int:
    missing = 0
    for index in range(count):
        if index + AHEAD < count:
            prefetch(table.home_of(records, LIVE, table.hash_of(load_word(old + 8 * (index + AHEAD)), 0)))
            prefetch(table.home_of(records, LIVE, table.hash_of(load_word(new + 8 * (index + AHEAD)), 0)))
        order_id = load_word(old + 8 * index)
        hash_32 = table.hash_of(order_id, 0)
        record = table.find(records, LIVE, hash_32, order_id, 0, table.ANY_OWNER)
        missing += int(record == 0) + int(load_u32(record + table.IN_USE) != 1)
        table.release(records, LIVE, hash_32, record)
        order_id = load_word(new + 8 * index)
        missing += int(table.find(records, LIVE, table.hash_of(order_id, 0), order_id, 0, table.ANY_OWNER) != 0)
        _put(records, order_id)
    return missing


def run(*, quick: bool = False) -> dict[str, Any]:
    """Both in turns, on the same ids."""
    random = np.random.default_rng(1)
    ids = random.integers(0, 2**62, LIVE)
    entries, orders = Memory(16 * LIVE + 65_536), Memory(32 * (LIVE + 1))
    records = Memory(table.table_bytes(LIVE))
    _fill_index(entries.address, orders.address, ids.ctypes.data, LIVE)
    _fill_table(records.address, ids.ctypes.data, LIVE)

    def prepare() -> dict[str, Work]:
        chosen = random.choice(LIVE, STEP, replace=False)
        old, new = ids[chosen].copy(), random.integers(0, 2**62, STEP)
        ids[chosen] = new
        return {
            "orders in their table": lambda: _step_table(records.address, old.ctypes.data, new.ctypes.data, STEP),
            "index beside the orders": lambda: _step_index(
                entries.address, orders.address, old.ctypes.data, new.ctypes.data, STEP
            ),
        }

    return in_turns(prepare, quick=quick)
