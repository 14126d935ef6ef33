"""Order messages in batches: what the next ones will need is asked for while the first are applied.

A message at random among a million orders meets two cache misses that depend on each other: the order; its level and
its neighbours in the queue. A caller with several messages in hand hides them: `apply_batch`, or for messages that
stand elsewhere `look_for_*` on the message AHEAD_TABLE behind the one that is applied, `look_around_*` on the one
AHEAD_LEVEL behind it. They change nothing.
"""

from enum import IntEnum

from shm.atomics import load_u32, load_word, prefetch, store_word
from shm.kernel import kernel, primitive, routine
from shm.layout import record_dtype
from stages.domain.orderbook import l3, table, top
from stages.domain.orderbook.engine import (
    LEVEL_LINES,
    LEVEL_TABLE,
    NEXT,
    NODE_BYTES,
    ORDER_LEVEL,
    ORDER_LINES,
    ORDER_TABLE,
    PREVIOUS,
    ROOT,
    SYMBOLS,
    book_at,
    node_at,
    record_at,
    side_at,
)


class OrderKind(IntEnum):
    """Kind of an order message."""

    ADD = 1
    EXECUTE = 2
    CANCEL = 3
    DELETE = 4
    REPLACE = 5
    MODIFY = 6


ORDER_MESSAGE = record_dtype(
    [
        ("kind", "u1"),  # OrderKind
        ("side", "u1"),  # Side, of ADD
        ("unused", "<u2"),
        ("symbol", "<u4"),  # of ADD
        ("order_id", "<i8"),
        ("new_id", "<i8"),  # of REPLACE
        ("price", "<i8"),  # of ADD, REPLACE, MODIFY
        ("quantity", "<i8"),
        ("code", "<i8"),  # the result, written when applied
        ("time_ns", "<i8"),  # the caller's
    ],
    64,
)
"""A message, one cache line; how it stands in memory is what kernels rely on."""
MESSAGE_BYTES = 64
ID, NEW_ID, PRICE, QUANTITY, CODE = 8, 16, 24, 32, 40
ADD, EXECUTE, CANCEL, DELETE = int(OrderKind.ADD), int(OrderKind.EXECUTE), int(OrderKind.CANCEL), int(OrderKind.DELETE)
REPLACE, MODIFY = int(OrderKind.REPLACE), int(OrderKind.MODIFY)

AHEAD_TABLE, AHEAD_LEVEL = 12, 5
"""How many messages before its turn each of the two is asked for."""


@primitive
def look_for_order(engine: int, order_id: int) -> None:
    """First: ask for the line where the order is, or will be."""
    orders, lines = engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES)
    prefetch(table.home_of(orders, lines, l3.order_hash(engine, order_id)))


@primitive
def look_for_level(engine: int, symbol: int, side: int, price: int) -> None:
    """First, for an order that is to be added: ask for the line of its level, and for its book."""
    levels, lines = engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES)
    prefetch(table.home_of(levels, lines, l3.level_hash(engine, top.signed(price, side), 2 * symbol + side + 1)))
    prefetch(book_at(engine, symbol) + top.SEQUENCE)


@primitive
def look_around_order(engine: int, order_id: int) -> None:
    """Second: ask for the order's book, its level and its neighbours in the queue."""
    order = l3.find_order(engine, l3.order_hash(engine, order_id), order_id)
    if order != 0:
        prefetch(book_at(engine, (table.owner_of(order) - 1) >> 1) + top.SEQUENCE)
        prefetch(record_at(engine, load_u32(order + ORDER_LEVEL)))
        prefetch(record_at(engine, load_u32(order + PREVIOUS)))
        prefetch(record_at(engine, load_u32(order + NEXT)))


@primitive
def look_around_level(engine: int, symbol: int, side: int, price: int) -> None:
    """Second, for an order that is to be added: ask for the last order of its level; if there is none, for the root."""
    key, owner = top.signed(price, side), 2 * symbol + side + 1
    level = l3.find_level(engine, l3.level_hash(engine, key, owner), key, owner)
    if level != 0:
        prefetch(record_at(engine, load_u32(level + PREVIOUS)))
    elif symbol < load_word(engine + SYMBOLS) and side <= 1:
        root = node_at(engine, load_u32(side_at(book_at(engine, symbol), side) + ROOT))
        for offset in range(0, NODE_BYTES, table.LINE_BYTES):
            prefetch(root + offset)


@primitive
def look_for(engine: int, message: int) -> None:
    """First, of the message at this address."""
    head = load_word(message)
    look_for_order(engine, load_word(message + ID))
    if head & 0xFF == ADD:
        look_for_level(engine, head >> 32 & 0xFFFFFFFF, head >> 8 & 0xFF, load_word(message + PRICE))


@primitive
def look_around(engine: int, message: int) -> None:
    """Second, of the message at this address."""
    head = load_word(message)
    if head & 0xFF == ADD:
        look_around_level(engine, head >> 32 & 0xFFFFFFFF, head >> 8 & 0xFF, load_word(message + PRICE))
    else:
        look_around_order(engine, load_word(message + ID))


@routine
def apply(engine: int, message: int) -> int:
    """Apply the message at this address, and write its result there."""
    head, order_id = load_word(message), load_word(message + ID)
    kind, price, quantity = head & 0xFF, load_word(message + PRICE), load_word(message + QUANTITY)
    code = l3.BAD_KIND
    if kind == ADD:
        code = l3.add(engine, head >> 32 & 0xFFFFFFFF, order_id, head >> 8 & 0xFF, price, quantity)
    elif kind == DELETE:
        code = l3.delete(engine, order_id)
    elif kind == EXECUTE:
        code = l3.execute(engine, order_id, quantity)
    elif kind == CANCEL:
        code = l3.cancel(engine, order_id, quantity)
    elif kind == REPLACE:
        code = l3.replace(engine, order_id, load_word(message + NEW_ID), price, quantity)
    elif kind == MODIFY:
        code = l3.modify(engine, order_id, price, quantity)
    store_word(message + CODE, code)
    return code


@primitive
def look_ahead(engine: int, messages: int, count: int) -> None:
    """At the start of a batch of `count` messages: for the first ones, which nobody has looked for."""
    for index in range(min(AHEAD_TABLE, count)):
        look_for(engine, messages + MESSAGE_BYTES * index)
    for index in range(min(AHEAD_LEVEL, count)):
        look_around(engine, messages + MESSAGE_BYTES * index)


@kernel
def apply_batch(engine: int, messages: int, count: int) -> int:
    """Apply `count` messages that stand one behind the other. Returns how many were not OK."""
    refused = 0
    look_ahead(engine, messages, count)
    for index in range(count):
        message = messages + MESSAGE_BYTES * index
        if index + AHEAD_TABLE < count:
            look_for(engine, message + MESSAGE_BYTES * AHEAD_TABLE)
        if index + AHEAD_LEVEL < count:
            look_around(engine, message + MESSAGE_BYTES * AHEAD_LEVEL)
        refused += int(apply(engine, message) < 0)
    return refused
