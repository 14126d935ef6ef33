"""Order messages in batches: what the next ones will need is asked for while the first are applied.

A message at random among a million orders meets two cache misses that depend on each other: the order; its level and
its neighbours in the queue. A caller with several messages in hand hides them: `apply_batch`, or for messages that
stand elsewhere `look_for_*` on the message AHEAD_TABLE behind the one that is applied, `look_around_*` on the one
AHEAD_LEVEL behind it. They change nothing, and each says what it has found out, so that the next need not search again:
the first the home of the order, or level, the second where it stands, the third (`l3`, as `likely`) checks that it
still does.
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
def look_for_order(engine: int, order_id: int) -> int:
    """First: ask for the lines where the order is, or will be; returns its home."""
    orders, lines = engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES)
    home = table.home_of(orders, lines, l3.order_hash(engine, order_id))
    table.ask_for(home)
    return home


@primitive
def home_of_level(engine: int, owner: int, key: int) -> int:
    """Where the search for a level begins."""
    levels, lines = engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES)
    return table.home_of(levels, lines, l3.level_hash(engine, key, owner))


@primitive
def _look_for_level(engine: int, owner: int, key: int) -> int:
    """Ask for the lines of a level; returns its home."""
    home = home_of_level(engine, owner, key)
    table.ask_for(home)
    return home


@primitive
def look_for_level(engine: int, symbol: int, side: int, price: int) -> int:
    """First, for an order that is to be added: ask for the lines of its level, and for its book; returns its home."""
    prefetch(book_at(engine, symbol) + top.SEQUENCE)
    return _look_for_level(engine, 2 * symbol + side + 1, top.signed(price, side))


@primitive
def look_around_order(engine: int, order_id: int, home: int) -> int:
    """Second: ask for the order's book, its level and its neighbours in the queue; returns the order, 0 for none."""
    order = table.find_from(home, order_id, 0, table.ANY_OWNER)
    if order != 0:
        prefetch(book_at(engine, (table.owner_of(order) - 1) >> 1) + top.SEQUENCE)
        prefetch(record_at(engine, load_u32(order + ORDER_LEVEL)))
        prefetch(record_at(engine, load_u32(order + PREVIOUS)))
        prefetch(record_at(engine, load_u32(order + NEXT)))
    return order


@primitive
def look_for_successor(engine: int, order: int, new_id: int, price: int) -> None:
    """Second, for an order that is to be replaced, after `look_around_order`: ask for where the new one will be."""
    if order != 0:
        owner = table.owner_of(order)
        look_for_order(engine, new_id)
        _look_for_level(engine, owner, top.signed(price, (owner - 1) & 1))


@primitive
def look_around_level(engine: int, symbol: int, side: int, price: int, home: int) -> int:
    """Second, for an order that is to be added: ask for the last order of its level; if there is none, for the root.

    Returns the level, 0 for none.
    """
    level = table.find_from(home, top.signed(price, side), 2 * symbol + side + 1, table.THIS_OWNER)
    if level != 0:
        prefetch(record_at(engine, load_u32(level + PREVIOUS)))
    elif symbol < load_word(engine + SYMBOLS) and side <= 1:
        root = node_at(engine, load_u32(side_at(book_at(engine, symbol), side) + ROOT))
        for offset in range(0, NODE_BYTES, table.LINE_BYTES):
            prefetch(root + offset)
    return level


@primitive
def look_for(engine: int, message: int) -> None:
    """First, of the message at this address. What is found out stands where its result will."""
    head = load_word(message)
    home = look_for_order(engine, load_word(message + ID))
    if head & 0xFF == ADD:
        home = look_for_level(engine, head >> 32 & 0xFFFFFFFF, head >> 8 & 0xFF, load_word(message + PRICE))
    store_word(message + CODE, home)


@primitive
def look_around(engine: int, message: int) -> None:
    """Second, of the message at this address."""
    head, price, home = load_word(message), load_word(message + PRICE), load_word(message + CODE)
    kind = head & 0xFF
    if kind == ADD:
        likely = look_around_level(engine, head >> 32 & 0xFFFFFFFF, head >> 8 & 0xFF, price, home)
    else:
        likely = look_around_order(engine, load_word(message + ID), home)
        if kind == REPLACE:
            look_for_successor(engine, likely, load_word(message + NEW_ID), price)
    store_word(message + CODE, likely)


@routine
def apply(engine: int, message: int, likely: int = 0) -> int:
    """Apply the message at this address, and write its result there; `likely` as in `l3`."""
    head, order_id = load_word(message), load_word(message + ID)
    kind, price, quantity = head & 0xFF, load_word(message + PRICE), load_word(message + QUANTITY)
    code = l3.BAD_KIND
    if kind == ADD:
        code = l3.add(engine, head >> 32 & 0xFFFFFFFF, order_id, head >> 8 & 0xFF, price, quantity, likely)
    elif kind == DELETE:
        code = l3.delete(engine, order_id, likely)
    elif kind == EXECUTE:
        code = l3.execute(engine, order_id, quantity, likely)
    elif kind == CANCEL:
        code = l3.cancel(engine, order_id, quantity, likely)
    elif kind == REPLACE:
        code = l3.replace(engine, order_id, load_word(message + NEW_ID), price, quantity, likely)
    elif kind == MODIFY:
        code = l3.modify(engine, order_id, price, quantity, likely)
    store_word(message + CODE, code)
    return code


@primitive
def apply_looked(engine: int, message: int) -> int:
    """`apply` of a message that has been looked around."""
    return apply(engine, message, load_word(message + CODE))


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
        refused += int(apply_looked(engine, message) < 0)
    return refused
