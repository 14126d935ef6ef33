"""Whether a book is what it should be: order, links both ways, sums, and that the hash finds what the trees hold.

A check only reads, is bounded whatever it finds, and may run between any two updates: on demand or sampled. It returns
SOUND or the first thing that is wrong (FAULTS says it in words).
"""

from shm.atomics import load_u32, load_word
from shm.kernel import kernel, primitive
from stages.domain.orderbook import l2, l2_book, l3, table, top, tree
from stages.domain.orderbook.engine import (
    BEST,
    BETTER,
    BOOK_ORDERS,
    COUNT,
    FREE_NODE,
    FREE_NODES,
    HEIGHT,
    HEIGHT_MAX,
    LEVEL_KEY,
    LEVEL_LINES,
    LEVEL_ORDERS,
    LEVEL_TABLE,
    LIVE_LEVELS,
    LIVE_ORDERS,
    LOTS,
    NEXT,
    NO_KEY,
    NODE_KEYS,
    NODES_MAX,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_LINES,
    ORDER_TABLE,
    ORDERS_MAX,
    PREVIOUS,
    ROOT,
    SIDE_LEVELS,
    SYMBOLS,
    WORSE,
    book_at,
    node_at,
    number_of,
    record_at,
    side_at,
)

SOUND = 0
FAULTS = {
    1: "an update is under way, or its writer died in it",
    2: "a node's entries are not in order",
    3: "neighbouring nodes do not know each other",
    4: "a level is not where the tree or the table looks for it",
    5: "an order's queue does not lead through all of its orders, there and back",
    6: "an order is not found by its id, or is of another book",
    7: "a level's quantity or number of orders is not the sum of its orders",
    8: "the number of levels or orders is not what the book says",
    9: "the top does not show the best levels",
    10: "the engine's numbers of orders, levels or nodes are not the sum of its books",
    11: "a block of a side is not in order",
    12: "the numbers of a block or side are not those of its levels",
}
DIRTY, NODE_ORDER, NODE_LINKS, LEVEL_PLACE, QUEUE, ORDER_PLACE, LEVEL_SUM, COUNTS, TOP, ENGINE = range(1, 11)
BLOCK_ORDER, BLOCK_COUNTS = 11, 12


@primitive
def _node_fault(node: int) -> int:
    """Entries ascend, nothing stands behind them."""
    count = load_u32(node + COUNT)
    if count > NODE_KEYS:
        return NODE_ORDER
    for place in range(NODE_KEYS):
        key = load_word(tree.key_at(node, place))
        if place >= count and key != NO_KEY:
            return NODE_ORDER
        if 0 < place < count and key <= load_word(tree.key_at(node, place - 1)):
            return NODE_ORDER
    return SOUND


@kernel
def count_nodes(engine: int, side: int) -> int:
    """Nodes of a side's tree; negative: what is wrong with it, as far as it can be seen without its levels."""
    height, nodes = load_u32(side + HEIGHT), 0
    if height > HEIGHT_MAX:
        return -NODE_ORDER
    for below in range(height + 1):
        number, better = load_u32(side + ROOT), 0
        for _ in range(below):
            node = node_at(engine, number)
            number = load_u32(tree.ref_at(node, load_u32(node + COUNT) - 1))
        while number != 0:
            node = node_at(engine, number)
            nodes += 1
            if number > load_word(engine + NODES_MAX) or nodes > load_word(engine + NODES_MAX):
                return -NODE_LINKS
            if _node_fault(node) != SOUND or (load_u32(node + COUNT) == 0 and height > 0):
                return -NODE_ORDER
            if load_u32(node + BETTER) != better:
                return -NODE_LINKS
            better, number = number, load_u32(node + WORSE)
    return nodes


@kernel
def _level_fault(engine: int, level: int, owner: int) -> int:
    """The orders of a level: links there and back, places in the table, sums."""
    this = number_of(engine, level)
    at, before, orders, quantity = load_u32(level + NEXT), this, 0, 0
    orders_at, orders_end = engine + load_word(engine + ORDER_TABLE), engine + load_word(engine + LEVEL_TABLE)
    while at != this:
        order = record_at(engine, at)
        if not orders_at <= order < orders_end or orders > load_word(engine + ORDERS_MAX):
            return QUEUE
        if load_u32(order + PREVIOUS) != before or load_u32(order + ORDER_LEVEL) != this:
            return QUEUE
        order_id = load_word(order + ORDER_ID)
        if l3.find_order(engine, l3.order_hash(engine, order_id), order_id) != order or table.owner_of(order) != owner:
            return ORDER_PLACE
        if load_word(order + LOTS) <= 0:
            return LEVEL_SUM
        orders += 1
        quantity += load_word(order + LOTS)
        before, at = at, load_u32(order + NEXT)
    if load_u32(level + PREVIOUS) != before:
        return QUEUE
    if orders != load_u32(level + LEVEL_ORDERS) or orders == 0 or quantity != load_word(level + LOTS):
        return LEVEL_SUM
    return SOUND


@kernel
def _side_fault(engine: int, book: int, side: int, owner: int) -> int:
    """The levels of a side, best first; returns what is wrong, or minus the number of its orders."""
    side_address, levels, orders, last_key = side_at(book, side), 0, 0, NO_KEY
    if count_nodes(engine, side_address) < 0:
        return -count_nodes(engine, side_address)
    if tree.best(engine, side_address) != load_u32(side_address + BEST):
        return TOP
    levels_at = engine + load_word(engine + LEVEL_TABLE)
    levels_end = levels_at + table.table_bytes_of(load_word(engine + LEVEL_LINES))
    number = tree.best_leaf(engine, side_address)
    while number != 0:
        leaf = node_at(engine, number)
        for place in range(load_u32(leaf + COUNT) - 1, -1, -1):
            key, level = load_word(tree.key_at(leaf, place)), record_at(engine, load_u32(tree.ref_at(leaf, place)))
            if key >= last_key:
                return NODE_ORDER
            if not levels_at <= level < levels_end or load_word(level + LEVEL_KEY) != key:
                return LEVEL_PLACE
            if tree.leaf_of(engine, side_address, key) != number:
                return LEVEL_PLACE
            if l3.find_level(engine, l3.level_hash(engine, key, owner), key, owner) != level:
                return LEVEL_PLACE
            fault = _level_fault(engine, level, owner)
            if fault != SOUND:
                return fault
            last_key = key
            levels += 1
            orders += load_u32(level + LEVEL_ORDERS)
        number = load_u32(leaf + WORSE)
    return -orders if levels == load_u32(side_address + SIDE_LEVELS) else COUNTS


@primitive
def _top_fault(book: int, side: int, price: int, quantity: int) -> bool:
    at = book + top.BID_PRICE + (top.ASK_PRICE - top.BID_PRICE) * side
    return (load_word(at) != price) | (load_word(at + 8) != quantity)


@primitive
def _derived_fault(book: int) -> bool:
    bid, ask = load_word(book + top.BID_PRICE), load_word(book + top.ASK_PRICE)
    has_both = int(top.has_both_sides(book))
    return (load_word(book + top.MID_DOUBLED) != (bid + ask) * has_both) | (
        load_word(book + top.SPREAD) != (ask - bid) * has_both
    )


@kernel
def check_orders(engine: int, symbol: int) -> int:
    """SOUND, or what is wrong with the book of a symbol. Costs a few cache misses an order."""
    book, orders = book_at(engine, symbol), 0
    if top.is_dirty(book):
        return DIRTY
    for side in range(2):
        found = _side_fault(engine, book, side, 2 * symbol + side + 1)
        if found > 0:
            return found
        orders -= found
        best, price, quantity = load_u32(side_at(book, side) + BEST), 0, 0
        if best != 0:
            level = record_at(engine, best)
            price, quantity = l3.signed(load_word(level + LEVEL_KEY), side), load_word(level + LOTS)
        if _top_fault(book, side, price, quantity):
            return TOP
    if _derived_fault(book):
        return TOP
    return SOUND if orders == load_word(book + BOOK_ORDERS) else COUNTS


@primitive
def _count_in_use(records: int, lines: int) -> int:
    count = 0
    for record in range(records, records + table.table_bytes_of(lines), table.RECORD_BYTES):
        count += int(table.is_in_use(record))
    return count


@kernel
def check_engine(engine: int) -> int:
    """SOUND, or what is wrong with any of the books, or with what they share. Walks over all of its memory."""
    orders, levels, nodes = 0, 0, 0
    for symbol in range(load_word(engine + SYMBOLS)):
        fault = check_orders(engine, symbol)
        if fault != SOUND:
            return fault
        book = book_at(engine, symbol)
        orders += load_word(book + BOOK_ORDERS)
        for side in range(2):
            levels += load_u32(side_at(book, side) + SIDE_LEVELS)
            nodes += count_nodes(engine, side_at(book, side))
    order_records = _count_in_use(engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES))
    level_records = _count_in_use(engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES))
    free, number = 0, load_word(engine + FREE_NODE)
    while number != 0 and free <= load_word(engine + NODES_MAX):
        free += 1
        number = load_u32(node_at(engine, number) + WORSE)
    is_sound = (
        orders == load_word(engine + LIVE_ORDERS) and orders == order_records
        and levels == load_word(engine + LIVE_LEVELS) and levels == level_records
        and free == load_word(engine + FREE_NODES) and free + nodes == load_word(engine + NODES_MAX)
    )  # fmt: skip
    return SOUND if is_sound else ENGINE


@kernel
def check_levels(book: int) -> int:
    """SOUND, or what is wrong with a book of levels."""
    if top.is_dirty(book):
        return DIRTY
    for side in range(2):
        fault = l2_side_fault(l2_book.side_at(book, side))
        if fault != SOUND:
            return fault
        at = l2_book.side_at(book, side)
        if _top_fault(book, side, l2.best_key(at) * (1 - 2 * side), l2.best_quantity(at)):
            return TOP
    return TOP if _derived_fault(book) else SOUND


@kernel
def l2_side_fault(side: int) -> int:
    """SOUND, or what is wrong with a side of a book of levels (`l2`)."""
    blocks, levels, last = load_word(side + l2.BLOCKS), 0, l2.LOWEST
    if not 1 <= blocks <= load_word(side + l2.BLOCKS_MAX) or load_word(l2.low_at(side, 0)) != l2.LOWEST:
        return BLOCK_ORDER
    for index in range(blocks):
        block, low, live = l2.block_at(side, index), load_word(l2.low_at(side, index)), 0
        used = load_word(block + l2.USED)
        if not 0 <= used <= l2.USED_MAX or (index > 0 and low <= last):
            return BLOCK_ORDER
        last = low - 1 if index > 0 else last
        for place in range(l2.BLOCK_KEYS):
            key = load_word(block + l2.KEYS + 8 * place)
            if (key != l2.NO_KEY) if place >= used else (key <= last):
                return BLOCK_ORDER
            if place < used:
                last = key
                quantity = load_word(block + l2.QUANTITIES + 8 * place)
                live += int(quantity != 0)
                if quantity < 0 or (index == blocks - 1 and place == used - 1 and quantity == 0):
                    return BLOCK_COUNTS
        if live != load_word(block + l2.LIVE):
            return BLOCK_COUNTS
        levels += live
    return SOUND if levels == load_word(side + l2.LEVELS) else BLOCK_COUNTS
