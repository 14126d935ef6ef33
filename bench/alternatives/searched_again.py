"""Lost: looking ahead that only asks, so that each message is searched for three times, and only for its home line.

A look has the address of what it finds anyway; handed on, it saves a hash and a search where the message is looked
around, and again where it is applied. And each fourth home line of a half full table is full, so an order goes to the
next line, or stands there: who asks for one line alone waits for the other with the message in hand.

Processor time of a message at random, on a machine with company (medians of 100 rounds): 287 ns with what was found
handed on, 344 when looks only ask; 0.85 of it round by round.

In C++ at random, six variants in turns (p50, mean; a machine with company): 199 and 321 ns
so; 182 and 295 with the next line of orders, 165 and 279 with that of levels, too; 156 and 264 with what was found
handed on, and where a replacement goes asked for. With locality 190 and 270 before, 155 and 230 after. Over books that
the caches hold, where only instructions count: 117 and 150 before, 97 and 124 after.
"""

from functools import partial
from typing import Any

import numpy as np

from bench.alternatives.book_rounds import STEP, Work, in_turns
from bench.book import LIVE, SYMBOLS, order_books
from bench.book_streams import Stream
from shm.atomics import load_word, prefetch
from shm.kernel import kernel, primitive
from stages.domain.orderbook import batch, l3, table, top
from stages.domain.orderbook.batch import AHEAD_LEVEL, AHEAD_TABLE, MESSAGE_BYTES
from stages.domain.orderbook.engine import ORDER_LINES, ORDER_TABLE, Capacity, book_at


@primitive
def _home(engine: int, order_id: int) -> int:
    orders, lines = engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES)
    return table.home_of(orders, lines, l3.order_hash(engine, order_id))


@primitive
def _look_for(engine: int, message: int) -> None:
    head = load_word(message)
    prefetch(_home(engine, load_word(message + batch.ID)))
    if head & 0xFF == batch.ADD:
        symbol, side = head >> 32 & 0xFFFFFFFF, head >> 8 & 0xFF
        key = top.signed(load_word(message + batch.PRICE), side)
        prefetch(batch.home_of_level(engine, 2 * symbol + side + 1, key))
        prefetch(book_at(engine, symbol) + top.SEQUENCE)


@primitive
def _look_around(engine: int, message: int) -> None:
    head = load_word(message)
    if head & 0xFF == batch.ADD:
        symbol, side, price = head >> 32 & 0xFFFFFFFF, head >> 8 & 0xFF, load_word(message + batch.PRICE)
        home = batch.home_of_level(engine, 2 * symbol + side + 1, top.signed(price, side))
        batch.look_around_level(engine, symbol, side, price, home)
    else:
        order_id = load_word(message + batch.ID)
        batch.look_around_order(engine, order_id, _home(engine, order_id))


@kernel
def _apply_searched(engine, messages, count):  # type: ignore[no-untyped-def]
    refused = 0
    for index in range(count):
        message = messages + MESSAGE_BYTES * index
        if index + AHEAD_TABLE < count:
            _look_for(engine, message + MESSAGE_BYTES * AHEAD_TABLE)
        if index + AHEAD_LEVEL < count:
            _look_around(engine, message + MESSAGE_BYTES * AHEAD_LEVEL)
        refused += int(batch.apply(engine, message) < 0)
    return refused


def run(*, quick: bool = False) -> dict[str, Any]:
    """Both in turns, on the same random messages."""
    stream = Stream(is_local=False, live=LIVE, symbols=SYMBOLS)
    first = stream.preload()
    applied = {"looks that hand on what they find": batch.apply_batch, "looks that only ask": _apply_searched}
    memories = {name: order_books(Capacity.of(SYMBOLS, LIVE + LIVE // 20)) for name in applied}
    for _, engine in memories.values():
        assert batch.apply_batch(engine, first.ctypes.data, len(first)) == 0

    def work(name: str, messages: np.ndarray) -> int:
        return int(applied[name](memories[name][1], messages.ctypes.data, STEP))

    def prepare() -> dict[str, Work]:
        messages = stream.messages(STEP)
        return {name: partial(work, name, messages.copy()) for name in applied}

    return in_turns(prepare, quick=quick)
