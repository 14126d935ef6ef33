"""An engine whose writer died in the middle of an update: what is left of it, made good by its successor.

The book that the update was of has the mark (`top`), and is given up: its orders are gone, it is DIRTY. An update
touches orders, levels and nodes of its own book alone, but also what all share: the counts of the tables, the list of
free nodes, the engine's numbers. Those are written anew from what the other books hold.
"""

from shm.atomics import load_u32, load_word, store_u32, store_word
from shm.kernel import primitive, routine
from stages.domain.orderbook import l3, table, top, tree
from stages.domain.orderbook.engine import (
    BOOK_ORDERS,
    COUNT,
    FREE_NODE,
    FREE_NODES,
    HEIGHT,
    LEVEL_KEY,
    LEVEL_LINES,
    LEVEL_TABLE,
    LIVE_LEVELS,
    LIVE_ORDERS,
    MARK,
    NODES_MAX,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_LINES,
    ORDER_TABLE,
    ROOT,
    SIDE_BYTES,
    SIDES,
    SYMBOLS,
    WORSE,
    book_at,
    free_node,
    node_at,
    number_of,
    record_at,
    side_at,
    take_node,
)


@routine
def recover(engine: int) -> int:
    """Before anything else is done with an engine that somebody else has written. Returns how many books were dirty.

    Walks over all of its memory, unless none was.
    """
    dirty = 0
    for symbol in range(load_word(engine + SYMBOLS)):
        dirty += int(top.is_dirty(book_at(engine, symbol)))
    if dirty > 0:
        _keep_levels(engine)
        _keep_orders(engine)
        _keep_nodes(engine)
        for symbol in range(load_word(engine + SYMBOLS)):
            if top.is_dirty(book_at(engine, symbol)):
                _give_up(engine, book_at(engine, symbol))
    return dirty


@primitive
def _lines_end(records: int, lines: int) -> int:
    return records + table.table_bytes_of(lines)


@primitive
def _is_good_level(engine: int, level: int) -> bool:
    """Whether a record is a level of a book that is not dirty: its tree leads there."""
    owner = table.owner_of(level)
    if not table.is_in_use(level) or not 1 <= owner <= 2 * load_word(engine + SYMBOLS):
        return False
    book = book_at(engine, (owner - 1) >> 1)
    if top.is_dirty(book):
        return False
    leaf = node_at(engine, tree.leaf_of(engine, side_at(book, (owner - 1) & 1), load_word(level + LEVEL_KEY)))
    number = number_of(engine, level)
    found = False
    for place in range(load_u32(leaf + COUNT)):
        found |= load_u32(tree.ref_at(leaf, place)) == number
    return found


@routine
def _keep_levels(engine: int) -> None:
    """Free the levels of dirty books; count anew who passes whom in the table."""
    levels, lines = engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES)
    for level in range(levels, _lines_end(levels, lines), table.RECORD_BYTES):
        if not _is_good_level(engine, level):
            store_u32(level + table.IN_USE, 0)
        store_u32(level + table.OWNER, table.owner_of(level))
    kept = 0
    for level in range(levels, _lines_end(levels, lines), table.RECORD_BYTES):
        if table.is_in_use(level):
            hash_32 = l3.level_hash(engine, load_word(level + LEVEL_KEY), table.owner_of(level))
            table.count_again(levels, lines, hash_32, level)
            kept += 1
    store_word(engine + LIVE_LEVELS, kept)


@routine
def _keep_orders(engine: int) -> None:
    """Free the orders of levels that were not kept; count anew who passes whom in the table."""
    orders, lines = engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES)
    levels = engine + load_word(engine + LEVEL_TABLE)
    levels_end = _lines_end(levels, load_word(engine + LEVEL_LINES))
    for order in range(orders, _lines_end(orders, lines), table.RECORD_BYTES):
        level = record_at(engine, load_u32(order + ORDER_LEVEL))
        is_good = levels <= level < levels_end
        if is_good:
            is_good = table.is_in_use(level) and table.owner_of(level) == table.owner_of(order)
        if not is_good:
            store_u32(order + table.IN_USE, 0)
        store_u32(order + table.OWNER, table.owner_of(order))
    kept = 0
    for order in range(orders, _lines_end(orders, lines), table.RECORD_BYTES):
        if table.is_in_use(order):
            table.count_again(orders, lines, l3.order_hash(engine, load_word(order + ORDER_ID)), order)
            kept += 1
    store_word(engine + LIVE_ORDERS, kept)


@routine
def _keep_nodes(engine: int) -> None:
    """List as free all nodes that no tree of a book that is not dirty has."""
    for number in range(1, load_word(engine + NODES_MAX) + 1):
        store_u32(node_at(engine, number) + MARK, 0)
    for symbol in range(load_word(engine + SYMBOLS)):
        book = book_at(engine, symbol)
        if not top.is_dirty(book):
            for side in range(2):
                _mark(engine, side_at(book, side))
    store_word(engine + FREE_NODE, 0)
    store_word(engine + FREE_NODES, 0)
    for number in range(load_word(engine + NODES_MAX), 0, -1):
        node = node_at(engine, number)
        if load_u32(node + MARK) == 0:
            free_node(engine, number)
        store_u32(node + MARK, 0)


@primitive
def _mark(engine: int, side: int) -> None:
    """Mark the nodes of a tree, height by height, from the best to the worst."""
    first = load_u32(side + ROOT)
    for _ in range(load_u32(side + HEIGHT) + 1):
        number = first
        node = node_at(engine, first)
        first = load_u32(tree.ref_at(node, max(0, load_u32(node + COUNT) - 1)))
        while number != 0:
            node = node_at(engine, number)
            store_u32(node + MARK, 1)
            number = load_u32(node + WORSE)


@primitive
def _give_up(engine: int, book: int) -> None:
    """An empty book in place of a dirty one."""
    for offset in range(0, top.STATE, 8):
        store_word(book + offset, 0)
    for offset in range(SIDES, BOOK_ORDERS + 8, 8):
        store_word(book + offset, 0)
    for side in range(2):
        store_u32(book + SIDES + SIDE_BYTES * side + ROOT, take_node(engine))
    top.set_state(book, top.DIRTY)
    top.end_update(book)
