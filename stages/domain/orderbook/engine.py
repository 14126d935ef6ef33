"""Memory of the order engine: books of single orders (L3) of many symbols, over one pool of orders, levels and nodes.

Everything is allocated at the start and stands in one block, handed in by its address, a multiple of 128:

    header                                    HEADER_BYTES; see the offsets below
    books        BOOK_BYTES a symbol          its top (`top`) and its two sides
    order table  16 bytes an order            hash index of order ids (`index`), half full at most
    level table  12 bytes a level             hash index of (side of a symbol, price), two thirds full at most
    orders       32 bytes an order            number 0 is nobody, everywhere
    levels       32 bytes a level
    nodes        256 bytes each               of the trees that keep each side's levels sorted (`tree`)

An order, two in a cache line:          A level:                                  A side, within its book:
     0  id                                   0  key                                   0  root     node
     8  quantity     lots                    8  quantity   sum over its orders        4  height   inner nodes above
    16  level        0: free                16  orders     0: free                    8  levels
    20  previous     order before it        20  first      order, oldest             12  best     level, 0: none
    24  next         order behind it        24  last       order, newest
    28  0                                   28  owner      2 * symbol + side + 1

A key is the price of a bid and the negated price of an ask: on both sides the best level has the greatest.

What is free hangs in lists, the last freed first, since its lines are still cached: orders by `next`, levels by
`first`, nodes by `worse`.
"""

from typing import NamedTuple

from shm.atomics import load_u32, load_word, peek, poke, store_u32, store_word
from shm.kernel import kernel, primitive
from shm.layout import align_up
from stages.domain.orderbook.index import PROBES_MAX, RECORD_BYTES
from stages.domain.orderbook.top import BOOK_BYTES, KIND

# The header: what never changes (one line), what is free and how much is used (one line), counters, a path in a tree.
SYMBOLS, ORDER_SLOTS, LEVEL_SLOTS = 0, 8, 16
ORDER_TABLE, LEVEL_TABLE, ORDERS, LEVELS, NODES = 24, 32, 40, 48, 56
"""Offsets of the areas from the engine's address. The books stand at HEADER_BYTES."""
FREE_ORDER, FREE_LEVEL, FREE_NODE = 64, 72, 80
LIVE_ORDERS, LIVE_LEVELS, FREE_NODES = 88, 96, 104
SALT, SYMBOL_ORDERS_MAX = 112, 120
COUNTERS = 128
PATH = 256
ORDERS_MAX, LEVELS_MAX, NODES_MAX = 448, 456, 464
HEADER_BYTES = 512

ORDER_ID, ORDER_QUANTITY, ORDER_LEVEL, ORDER_PREVIOUS, ORDER_NEXT = 0, 8, 16, 20, 24
LEVEL_KEY, LEVEL_QUANTITY, LEVEL_ORDERS, LEVEL_FIRST, LEVEL_LAST, LEVEL_OWNER = 0, 8, 16, 20, 24, 28
SIDES, SIDE_BYTES = KIND + 8, 16
ROOT, HEIGHT, SIDE_LEVELS, BEST = 0, 4, 8, 12
BOOK_ORDERS = SIDES + 2 * SIDE_BYTES

NODE_BYTES = 256
COUNT, MARK, WORSE, BETTER, KEYS, REFS = 0, 4, 8, 12, 16, 176
NODE_KEYS = 20
LIVE_MIN = 9
"""A node with fewer entries is joined to a neighbour, if both fit."""
JOINED_MAX = 18
HEIGHT_MAX = 11

NO_KEY = 2**62
"""Above all keys, which are below 2**62 in size."""
LOWEST = -(2**62)
COUNT_MAX = 2**28
"""Most orders, levels or nodes."""


class Capacity(NamedTuple):
    """How much an engine holds.

    symbols             books
    orders              live orders, of all symbols
    levels              price levels, of all symbols; as many as orders is enough for all that can happen
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
        """By default a level for each order, and no other limit to a symbol's orders than the engine's."""
        return cls(symbols, orders, orders if levels is None else levels, symbol_orders_max or orders)


def _nodes(capacity: Capacity) -> int:
    """A root a side, and one to 7.5 levels: a node too small to stay has neighbours that are too full to join it."""
    return 2 * capacity.symbols + 2 * capacity.levels // 15 + HEIGHT_MAX


def _areas(capacity: Capacity) -> dict[int, int]:
    """{header word: bytes of the area whose offset it keeps}, in the order of the areas."""
    for name, value in capacity._asdict().items():
        if not 1 <= value <= COUNT_MAX:
            raise ValueError(f"order engine {name}={value} must be 1 to {COUNT_MAX}")
    return {
        ORDER_TABLE: 8 * (2 * capacity.orders + PROBES_MAX),
        LEVEL_TABLE: 8 * (3 * capacity.levels // 2 + PROBES_MAX),
        ORDERS: RECORD_BYTES * (capacity.orders + 1),
        LEVELS: RECORD_BYTES * (capacity.levels + 1),
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


def format_engine(engine: int, capacity: Capacity, salt: int = 0) -> None:
    """Cold: make the zeroed memory at address `engine` an engine without orders; every page of it is written to.

    salt   enters the hash of ids and prices: whoever must fear ids that were chosen to collide draws it at random
    """
    offset = _first_area(capacity)
    for word, size in _areas(capacity).items():
        poke(engine + word, offset)
        offset += align_up(size, 128)
    poke(engine + SYMBOLS, capacity.symbols)
    poke(engine + ORDER_SLOTS, 2 * capacity.orders)
    poke(engine + LEVEL_SLOTS, 3 * capacity.levels // 2)
    poke(engine + ORDERS_MAX, capacity.orders)
    poke(engine + LEVELS_MAX, capacity.levels)
    poke(engine + NODES_MAX, _nodes(capacity))
    poke(engine + SYMBOL_ORDERS_MAX, capacity.symbol_orders_max)
    poke(engine + SALT, salt)
    _format(engine)


@kernel
def _format(engine: int) -> None:
    for at in range(engine + load_word(engine + ORDER_TABLE), engine + load_word(engine + ORDERS), 8):
        store_word(at, 0)
    for number in range(load_word(engine + ORDERS_MAX), 0, -1):
        free_order(engine, number)
    for number in range(load_word(engine + LEVELS_MAX), 0, -1):
        free_level(engine, number)
    for number in range(load_word(engine + NODES_MAX), 0, -1):
        free_node(engine, number)
    store_word(engine + LIVE_ORDERS, 0)
    store_word(engine + LIVE_LEVELS, 0)
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
def orders_at(engine: int) -> int:
    """Address of the orders."""
    return engine + load_word(engine + ORDERS)


@primitive
def order_at(engine: int, number: int) -> int:
    """Address of an order."""
    return orders_at(engine) + RECORD_BYTES * number


@primitive
def levels_at(engine: int) -> int:
    """Address of the levels."""
    return engine + load_word(engine + LEVELS)


@primitive
def level_at(engine: int, number: int) -> int:
    """Address of a level."""
    return levels_at(engine) + RECORD_BYTES * number


@primitive
def node_at(engine: int, number: int) -> int:
    """Address of a node."""
    return engine + load_word(engine + NODES) + NODE_BYTES * number


@primitive
def side_at(book: int, side: int) -> int:
    """Address of a side (0 bids, 1 asks) of a book."""
    return book + SIDES + SIDE_BYTES * side


@primitive
def free_order(engine: int, number: int) -> None:
    """Put an order on the list of free ones."""
    order = order_at(engine, number)
    store_u32(order + ORDER_LEVEL, 0)
    store_u32(order + ORDER_NEXT, load_word(engine + FREE_ORDER))
    store_word(engine + FREE_ORDER, number)
    store_word(engine + LIVE_ORDERS, load_word(engine + LIVE_ORDERS) - 1)


@primitive
def take_order(engine: int) -> int:
    """Take an order off the list of free ones; there must be one."""
    number = load_word(engine + FREE_ORDER)
    store_word(engine + FREE_ORDER, load_u32(order_at(engine, number) + ORDER_NEXT))
    store_word(engine + LIVE_ORDERS, load_word(engine + LIVE_ORDERS) + 1)
    return number


@primitive
def free_level(engine: int, number: int) -> None:
    """Put a level on the list of free ones."""
    level = level_at(engine, number)
    store_u32(level + LEVEL_ORDERS, 0)
    store_u32(level + LEVEL_FIRST, load_word(engine + FREE_LEVEL))
    store_word(engine + FREE_LEVEL, number)
    store_word(engine + LIVE_LEVELS, load_word(engine + LIVE_LEVELS) - 1)


@primitive
def take_level(engine: int) -> int:
    """Take a level off the list of free ones; there must be one."""
    number = load_word(engine + FREE_LEVEL)
    store_word(engine + FREE_LEVEL, load_u32(level_at(engine, number) + LEVEL_FIRST))
    store_word(engine + LIVE_LEVELS, load_word(engine + LIVE_LEVELS) + 1)
    return number


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
