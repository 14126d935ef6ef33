"""Books of orders: what the next records of the ring will need is asked for while the first are applied.

A record at random meets cache misses that depend on each other: its order, its level and their neighbours (`batch`),
and for what is published of its book the list of the best levels, these levels, and the rows in shared memory. All of
it only asks: nothing that is applied or published depends on it. Each record is looked at once, however few wait.
"""

from shm import ring, seqlock
from shm.atomics import load_word, prefetch, store_word
from shm.kernel import primitive, routine
from stages.book.context import BOOK, FIRST_ID, FOUND_WORDS, PRICE, QUANTITY, Context
from stages.domain.messages import DEPTH, DEPTH_LEVELS, MarketKind
from stages.domain.orderbook import batch
from stages.domain.orderbook.batch import AHEAD_LEVEL, AHEAD_TABLE
from stages.domain.orderbook.book import look_for_best, look_for_leaves
from stages.domain.orderbook.engine import book_at
from stages.domain.orderbook.table import LINE_BYTES
from stages.domain.orderbook.top import BOOK_BYTES as TOP_BYTES

ADD, REPLACE = int(MarketKind.ADD), int(MarketKind.REPLACE)
BOOK_BYTES, DEPTH_BYTES = BOOK.itemsize, DEPTH.itemsize
AHEAD_DEPTH = 2
"""How many records before its turn the best levels of its book are asked for."""


@routine
def look_ahead(context: Context, engine: int, source: int, unread: int) -> int:
    """Look at the records whose turn it is; returns where that is likely to stand which the first is about."""
    state, head = context.state[0], load_word(source + ring.HEAD)
    for number in range(max(state["looked_for"], head), head + min(unread, AHEAD_TABLE + 1)):
        record = ring.slot(source, number)
        store_word(_found(state["found"], number), _look_for(engine, record))
        _look_for_rows(context, engine, _symbol(record))
        state["looked_for"] = number + 1
    for number in range(max(state["looked_around"], head), head + min(unread, AHEAD_LEVEL + 1)):
        record, found = ring.slot(source, number), _found(state["found"], number)
        store_word(found, _look_around(engine, record, load_word(found)))
        _look_around_rows(context, engine, _symbol(record))
        state["looked_around"] = number + 1
    for number in range(max(state["looked_deep"], head), head + min(unread, AHEAD_DEPTH + 1)):
        symbol = _symbol(ring.slot(source, number))
        if symbol < len(context.books):
            look_for_best(book_at(engine, symbol), DEPTH_LEVELS)
        state["looked_deep"] = number + 1
    return load_word(_found(state["found"], head))


@primitive
def _found(found: int, number: int) -> int:
    """Where it stands what was found out about a record, by its number in the ring."""
    return found + 8 * (number & FOUND_WORDS - 1)


@primitive
def _symbol(record: int) -> int:
    return load_word(record) >> 16 & 0xFFFF


@primitive
def _look_for(engine: int, record: int) -> int:
    """First, of a record: returns the home of its order; of an ADD, that of its level."""
    head = load_word(record)
    home = batch.look_for_order(engine, load_word(record + FIRST_ID))
    if head & 0xFF == ADD:
        home = batch.look_for_level(engine, head >> 16 & 0xFFFF, 1 - (head >> 32 & 0xFFFF), load_word(record + PRICE))
    return home


@primitive
def _look_around(engine: int, record: int, home: int) -> int:
    """Second: returns the order; of an ADD, the level."""
    head, price = load_word(record), load_word(record + PRICE)
    if head & 0xFF == ADD:
        return batch.look_around_level(engine, head >> 16 & 0xFFFF, 1 - (head >> 32 & 0xFFFF), price, home)
    order = batch.look_around_order(engine, load_word(record + FIRST_ID), home)
    if head & 0xFF == REPLACE:
        batch.look_for_successor(engine, order, load_word(record + QUANTITY + 8), price)
    return order


@primitive
def _look_for_rows(context: Context, engine: int, symbol: int) -> None:
    """First, of the symbol: its state, its book, its BBO row and the head of its depth row."""
    if symbol < len(context.books):
        state = context.state[0]
        _ask(context.books.ctypes.data + BOOK_BYTES * symbol, BOOK_BYTES)
        _ask(book_at(engine, symbol), TOP_BYTES)
        _ask(state["bbo_table"] + symbol * state["bbo_row_bytes"], state["bbo_row_bytes"])
        prefetch(state["depth_table"] + symbol * state["depth_row_bytes"])


@primitive
def _look_around_rows(context: Context, engine: int, symbol: int) -> None:
    """Second: the list of its best levels, and the part of the depth row that will be written."""
    if symbol < len(context.books):
        state = context.state[0]
        look_for_leaves(book_at(engine, symbol))
        row = state["depth_table"] + symbol * state["depth_row_bytes"]
        _ask(seqlock.next_cell(row, DEPTH_BYTES), DEPTH_BYTES + 8)


@primitive
def _ask(address: int, size: int) -> None:
    """Prefetch all lines of a place."""
    for offset in range(0, size + LINE_BYTES - 1, LINE_BYTES):
        prefetch(address + offset)
