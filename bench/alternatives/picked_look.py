"""Lost: looking ahead without branches. Half of the messages are adds, at random, so each `if kind == ADD` on the way
is guessed wrong every other time, and there are three: in `look_for`, in `look_around`, and where it is applied.

Here the first two compute what either kind needs and pick by a mask; an address that is not needed becomes one that is.
Both hashes of every message, and lines that are asked for twice, cost what the guesses had.

Processor time of a message, on a busy machine (medians of 60 rounds, a million live orders in 5,000 symbols): at random
238 ns with branches, 245 picked, 1.03 of it round by round; with locality 241 and 270, 1.07. Since looks hand on what
they find, 279 and 314 at random, on a machine with more company.

In another course there, looks 16 and 8 or 24 and 12 messages ahead, or with a third one, for the leaf of a level that
comes or goes, came to 256, 259 and 269 ns at random, 223, 218 and 225 with locality. Right after a run of looks over
the same messages, so with less to wait for, a message took 175 ns in place of 235 (10th percentiles), of which looks
are 53: most of what is left is in what a message does, not in how early its lines are asked for.
"""

from functools import partial
from typing import Any

import numpy as np

from bench.alternatives.book_rounds import STEP, Work, in_turns
from bench.book import LIVE, SYMBOLS, order_books
from bench.book_streams import Stream
from shm.atomics import load_u32, load_word, prefetch, store_word
from shm.kernel import kernel, primitive
from stages.domain.orderbook import batch, engine, l3, table, top
from stages.domain.orderbook.batch import AHEAD_LEVEL, AHEAD_TABLE, MESSAGE_BYTES
from stages.domain.orderbook.engine import Capacity, book_at, node_at, record_at, side_at


@primitive
def _pick(mask: int, first: int, second: int) -> int:
    return second ^ ((first ^ second) & mask)


@primitive
def _look_for(base: int, message: int) -> None:
    head = load_word(message)
    is_add, symbol, side = -int(head & 0xFF == batch.ADD), head >> 32 & 0xFFFFFFFF, head >> 8 & 1
    key = top.signed(load_word(message + batch.PRICE), side)
    orders, levels = base + load_word(base + engine.ORDER_TABLE), base + load_word(base + engine.LEVEL_TABLE)
    order_hash = l3.order_hash(base, load_word(message + batch.ID))
    order = table.home_of(orders, load_word(base + engine.ORDER_LINES), order_hash)
    level_hash = l3.level_hash(base, key, 2 * symbol + side + 1)
    level = table.home_of(levels, load_word(base + engine.LEVEL_LINES), level_hash)
    table.ask_for(order)
    table.ask_for(_pick(is_add, level, order))
    prefetch(_pick(is_add, book_at(base, symbol) + top.SEQUENCE, order))


@primitive
def _look_around(base: int, message: int) -> None:
    head = load_word(message)
    is_add, symbol, side = -int(head & 0xFF == batch.ADD), head >> 32 & 0xFFFFFFFF, head >> 8 & 1
    owner = (2 * symbol + side + 1) & is_add
    key = _pick(is_add, top.signed(load_word(message + batch.PRICE), side), load_word(message + batch.ID))
    at = base + _pick(is_add, load_word(base + engine.LEVEL_TABLE), load_word(base + engine.ORDER_TABLE))
    lines = _pick(is_add, load_word(base + engine.LEVEL_LINES), load_word(base + engine.ORDER_LINES))
    hash_32 = table.hash_of(key, load_word(base + engine.SALT) ^ owner << 40)
    record = table.find(at, lines, hash_32, key, owner, table.OWNER_MASK & is_add)
    if record != 0:
        previous = load_u32(record + engine.PREVIOUS)
        prefetch(record_at(base, previous))
        prefetch(record_at(base, _pick(is_add, previous, load_u32(record + engine.NEXT))))
        prefetch(record_at(base, _pick(is_add, previous, load_u32(record + engine.ORDER_LEVEL))))
        prefetch(book_at(base, (table.owner_of(record) - 1) >> 1) + top.SEQUENCE)
    store_word(message + batch.CODE, record)
    if record == 0 and is_add != 0 and symbol < load_word(base + engine.SYMBOLS):
        root = node_at(base, load_u32(side_at(book_at(base, symbol), side) + engine.ROOT))
        for offset in range(0, engine.NODE_BYTES, table.LINE_BYTES):
            prefetch(root + offset)


@kernel
def _apply_picked(base, messages, count):  # type: ignore[no-untyped-def]
    refused = 0
    for index in range(count):
        message = messages + MESSAGE_BYTES * index
        if index + AHEAD_TABLE < count:
            _look_for(base, message + MESSAGE_BYTES * AHEAD_TABLE)
        if index + AHEAD_LEVEL < count:
            _look_around(base, message + MESSAGE_BYTES * AHEAD_LEVEL)
        refused += int(batch.apply_looked(base, message) < 0)
    return refused


def run(*, quick: bool = False) -> dict[str, Any]:
    """Both in turns, on the same random messages."""
    stream = Stream(is_local=False, live=LIVE, symbols=SYMBOLS)
    first = stream.preload()
    capacity = Capacity.of(SYMBOLS, LIVE + LIVE // 20)
    applied = {"looks with branches": batch.apply_batch, "looks picked": _apply_picked}
    memories = {name: order_books(capacity) for name in applied}
    for _, base in memories.values():
        assert batch.apply_batch(base, first.ctypes.data, len(first)) == 0

    def work(name: str, messages: np.ndarray) -> int:
        return int(applied[name](memories[name][1], messages.ctypes.data, STEP))

    def prepare() -> dict[str, Work]:
        messages = stream.messages(STEP)
        return {name: partial(work, name, messages.copy()) for name in applied}

    return in_turns(prepare, quick=quick)
