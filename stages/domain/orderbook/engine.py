"""Memory of the order engine: books of single orders (L3) of many symbols, over one pool of orders, levels and nodes.

Everything is allocated at the start and stands in one block, handed in by its address, a multiple of 128:

    header          HEADER_BYTES; see the offsets below
    books           BOOK_BYTES a symbol          its top (`top`) and its two sides
    order table     64 bytes an order            the orders, by id (`table`), half full at most
    level table     64 bytes a level             the levels, by side of a symbol and price (`table`), half full at most
    nodes           34 bytes a level, 512 a symbol    of the trees that keep each side's levels sorted (`tree`)

An order costs 64 bytes, and with half as many levels as orders 113 all told; a symbol 640.

An order, two in a cache line:          A level, the same:                        A side, within its book:
     0  id                                   0  key                                   0  root     node
     8  quantity     lots                    8  quantity   sum over its orders        4  height   inner nodes above
    16  level        0: free                16  orders     0: free                    8  levels
    20  previous     order before it        20  previous   the last order            12  best     level, 0: none
    24  next         order behind it        24  next       the first order
    28  owner        (and `table`)          28  owner      2 * symbol + side + 1 (and `table`)

An order's queue is a ring through its level: before the first order and behind the last one stands the level itself.

A key is the price of a bid and the negated price of an ask: on both sides the best level has the greatest.

Orders and levels are named by their address in units of 32 bytes from the engine's; 0 is nobody. Free nodes hang in a
list by `worse`, the last freed first, since its lines are still cached.
"""

import ctypes
from typing import NamedTuple

from shm.atomics import load_u32, load_word, poke, store_u32, store_word
from shm.kernel import kernel, primitive
from shm.layout import align_up
from stages.domain.orderbook.table import OWNER_MASK, RECORD_BYTES, table_bytes
from stages.domain.orderbook.top import BOOK_BYTES, KIND

# The header: what never changes (one line), how much is used (one line), counters, a path in a tree.
SYMBOLS, ORDER_LINES, LEVEL_LINES = 0, 8, 16
ORDER_TABLE, LEVEL_TABLE, NODES = 24, 32, 40
"""Offsets of the areas from the engine's address. The books stand at HEADER_BYTES."""
SALT, SYMBOL_ORDERS_MAX = 48, 56
LIVE_ORDERS, LIVE_LEVELS, FREE_NODE, FREE_NODES = 64, 72, 80, 88
ORDERS_MAX, LEVELS_MAX, NODES_MAX = 96, 104, 112
COUNTERS = 128
PATH = 256
HEADER_BYTES = 512

ORDER_ID, LEVEL_KEY, ORDER_LEVEL, LEVEL_ORDERS = 0, 0, 16, 16
LOTS, PREVIOUS, NEXT = 8, 20, 24
"""Of orders and of levels."""
SIDES, SIDE_BYTES = KIND + 8, 16
ROOT, HEIGHT, SIDE_LEVELS, BEST = 0, 4, 8, 12
BOOK_ORDERS = SIDES + 2 * SIDE_BYTES

NODE_BYTES = 256
COUNT, WORSE, BETTER, KEYS, REFS = 0, 8, 12, 16, 176
NODE_KEYS = 20
LIVE_MIN = 9
"""A node with fewer entries is joined to a neighbour, if both fit."""
JOINED_MAX = 18
HEIGHT_MAX = 11

NO_KEY = 2**62
"""Above all keys, which are below 2**62 in size."""
LOWEST = -(2**62)
COUNT_MAX = 2**25
"""Most orders or levels."""
SYMBOLS_MAX = OWNER_MASK // 2


class Capacity(NamedTuple):
    """How much an engine holds.

    symbols             books
    orders              live orders, of all symbols
    levels              price levels, of all symbols
    symbol_orders_max   live orders of one symbol
    """

    symbols: int
    orders: int
    levels: int
    symbol_orders_max: int

    @classmethod
    def of(
        cls, symbols: int, orders: int, levels: int | None = None, symbol_orders_max: int | None = None
    ) -> "Capacity":
        """By default a level for every second order, and no other limit to a symbol's orders than the engine's.

        With as many levels as orders there is one for each, whatever happens, and an order costs 162 bytes.
        """
        return cls(symbols, orders, -(-orders // 2) if levels is None else levels, symbol_orders_max or orders)


def _nodes(capacity: Capacity) -> int:
    """A root a side, and one to 7.5 levels: a node too small to stay has neighbours that are too full to join it."""
    return 2 * capacity.symbols + 2 * capacity.levels // 15 + HEIGHT_MAX


def _areas(capacity: Capacity) -> dict[int, int]:
    """{header word: bytes of the area whose offset it keeps}, in the order of the areas."""
    for name, value in capacity._asdict().items():
        if not 1 <= value <= COUNT_MAX:
            raise ValueError(f"order engine {name}={value} must be 1 to {COUNT_MAX}")
    if capacity.symbols > SYMBOLS_MAX:
        raise ValueError(f"order engine symbols={capacity.symbols} must be at most {SYMBOLS_MAX}")
    return {
        ORDER_TABLE: table_bytes(capacity.orders),
        LEVEL_TABLE: table_bytes(capacity.levels),
        NODES: NODE_BYTES * (_nodes(capacity) + 1),
    }


def engine_bytes(capacity: Capacity) -> int:
    """Bytes of an engine. Raises ValueError for one without symbols, orders or levels."""
    return _first_area(capacity) + sum(align_up(size, 128) for size in _areas(capacity).values())


def _first_area(capacity: Capacity) -> int:
    return HEADER_BYTES + BOOK_BYTES * capacity.symbols


def bytes_per_symbol() -> int:
    """Bytes that a symbol costs, with or without orders."""
    return BOOK_BYTES + 2 * NODE_BYTES


def bytes_per_order(capacity: Capacity) -> float:
    """Bytes that an order costs, levels and tables included, what its symbol costs not."""
    return (engine_bytes(capacity) - capacity.symbols * bytes_per_symbol()) / capacity.orders


def format_engine(engine: int, capacity: Capacity, salt: int = 0, *, is_zeroed: bool = False) -> None:
    """Cold: make the memory at address `engine` an engine without orders.

    is_zeroed   it is fresh: its pages need not be written to now, for whoever forks would have each of them twice
    salt   enters the hash of ids and prices: whoever must fear ids that were chosen to collide draws it at random
    """
    if not is_zeroed:
        ctypes.memset(engine, 0, engine_bytes(capacity))
    offset = _first_area(capacity)
    for word, size in _areas(capacity).items():
        poke(engine + word, offset)
        offset += align_up(size, 128)
    words = {
        SYMBOLS: capacity.symbols, ORDER_LINES: capacity.orders, LEVEL_LINES: capacity.levels,
        SALT: salt, SYMBOL_ORDERS_MAX: capacity.symbol_orders_max,
        ORDERS_MAX: capacity.orders, LEVELS_MAX: capacity.levels, NODES_MAX: _nodes(capacity),
    }  # fmt: skip
    for word, value in words.items():
        poke(engine + word, value)
    _format(engine)


@kernel
def _format(engine: int) -> None:
    for number in range(load_word(engine + NODES_MAX), 0, -1):
        free_node(engine, number)
    for symbol in range(load_word(engine + SYMBOLS)):
        book = book_at(engine, symbol)
        store_word(book + KIND, book - engine)
        for side in range(2):
            store_u32(book + SIDES + SIDE_BYTES * side + ROOT, take_node(engine))


@primitive
def book_at(engine: int, symbol: int) -> int:
    """Address of the book of a symbol."""
    return engine + HEADER_BYTES + BOOK_BYTES * symbol


@primitive
def engine_of(book: int) -> int:
    """Address of the engine that a book belongs to."""
    return book - load_word(book + KIND)


@primitive
def record_at(engine: int, number: int) -> int:
    """Address of an order or a level."""
    return engine + RECORD_BYTES * number


@primitive
def number_of(engine: int, record: int) -> int:
    """Number of the order or level at an address."""
    return (record - engine) // RECORD_BYTES


@primitive
def node_at(engine: int, number: int) -> int:
    """Address of a node."""
    return engine + load_word(engine + NODES) + NODE_BYTES * number


@primitive
def side_at(book: int, side: int) -> int:
    """Address of a side (0 bids, 1 asks) of a book."""
    return book + SIDES + SIDE_BYTES * side


@primitive
def free_node(engine: int, number: int) -> None:
    """Put a node on the list of free ones."""
    store_u32(node_at(engine, number) + WORSE, load_word(engine + FREE_NODE))
    store_word(engine + FREE_NODE, number)
    store_word(engine + FREE_NODES, load_word(engine + FREE_NODES) + 1)


@primitive
def take_node(engine: int) -> int:
    """Take a node off the list of free ones, empty; there must be one."""
    number = load_word(engine + FREE_NODE)
    node = node_at(engine, number)
    store_word(engine + FREE_NODE, load_u32(node + WORSE))
    store_word(engine + FREE_NODES, load_word(engine + FREE_NODES) - 1)
    store_word(node + COUNT, 0)
    store_word(node + WORSE, 0)
    for index in range(NODE_KEYS):
        store_word(node + KEYS + 8 * index, NO_KEY)
    return number
