"""Whether a book is what it should be: order, links both ways, sums, and that the hash finds what the trees hold.

A check only reads, is bounded whatever it finds, and may run between any two updates: on demand or sampled. It returns
SOUND or the first thing that is wrong (FAULTS says it in words).
"""

from shm.atomics import load_u32, load_word
from shm.kernel import kernel, primitive, routine
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
    LOWEST,
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
    1: "an update is under way",
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
def node_fault(node: int) -> int:
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


@primitive
def _is_node(engine: int, number: int) -> bool:
    return 1 <= number <= load_word(engine + NODES_MAX)


@primitive
def _span_fault(node: int, height: int, least: int, end: int) -> int:
    """A node (`node_fault`) and its span: keys are `least` at least and below `end`. An inner one's first is void."""
    fault, first, last = node_fault(node), int(height > 0), load_u32(node + COUNT) - 1
    if fault == SOUND and last >= first:
        is_within = load_word(tree.key_at(node, first)) >= least + first and load_word(tree.key_at(node, last)) < end
        fault = SOUND if is_within else NODE_ORDER
    return fault


@routine
def way_fault(engine: int, side: int, key: int) -> tuple[int, int, int]:
    """(what is wrong on the way down a side's tree to the leaf where `key` belongs, its number, least key it may have).

    LOWEST for the last leaf, that of the worst levels. Looks at each node on the way, its links and its span, which is
    what the ones above leave it; and, height by height, at the link of the next worse node: HEIGHT_MAX + 1 pairs.
    """
    number, worse, least, end = load_u32(side + ROOT), 0, LOWEST, NO_KEY
    top_height = load_u32(side + HEIGHT)
    if top_height > HEIGHT_MAX:
        return NODE_ORDER, 0, 0
    for height in range(top_height, -1, -1):
        if not _is_node(engine, number) or not (worse == 0 or _is_node(engine, worse)):
            return NODE_LINKS, 0, 0
        node, neighbour = node_at(engine, number), node_at(engine, worse)
        if load_u32(node + WORSE) != worse or (end == NO_KEY and load_u32(node + BETTER) != 0):
            return NODE_LINKS, 0, 0
        if worse != 0 and load_u32(neighbour + BETTER) != number:
            return NODE_LINKS, 0, 0
        fault = _span_fault(node, height, least, end)
        count, beside = load_u32(node + COUNT), load_u32(neighbour + COUNT)
        if fault != SOUND or (count == 0 and top_height > 0) or (worse != 0 and not 1 <= beside <= NODE_KEYS):
            return NODE_ORDER, 0, 0
        if height > 0:
            place = max(0, tree.count_below(node, key + 1) - 1)
            if place + 1 < count:
                end = load_word(tree.key_at(node, place + 1))
            if place > 0:
                least, worse = load_word(tree.key_at(node, place)), load_u32(tree.ref_at(node, place - 1))
            elif worse != 0:
                worse = load_u32(tree.ref_at(neighbour, beside - 1))
            number = load_u32(tree.ref_at(node, place))
    return SOUND, number, least


@routine
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
            if node_fault(node) != SOUND or (load_u32(node + COUNT) == 0 and height > 0):
                return -NODE_ORDER
            if load_u32(node + BETTER) != better:
                return -NODE_LINKS
            better, number = number, load_u32(node + WORSE)
    return nodes


@routine
def level_fault(engine: int, level: int, owner: int, orders_max: int) -> int:
    """The orders of a level: links, places in the table, sums. Of a longer queue only the first orders_max."""
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
        if orders == orders_max and at != this:
            return SOUND
    if load_u32(level + PREVIOUS) != before:
        return QUEUE
    if orders != load_u32(level + LEVEL_ORDERS) or orders == 0 or quantity != load_word(level + LOTS):
        return LEVEL_SUM
    return SOUND


@routine
def entry_fault(engine: int, side_address: int, owner: int, leaf: int, place: int, orders_max: int) -> int:
    """An entry of leaf number `leaf`: tree and table lead to its level, and that is sound (`level_fault`)."""
    node = node_at(engine, leaf)
    key, level = load_word(tree.key_at(node, place)), record_at(engine, load_u32(tree.ref_at(node, place)))
    levels_at = engine + load_word(engine + LEVEL_TABLE)
    if not levels_at <= level < levels_at + table.table_bytes_of(load_word(engine + LEVEL_LINES)):
        return LEVEL_PLACE
    if load_word(level + LEVEL_KEY) != key or tree.leaf_of(engine, side_address, key) != leaf:
        return LEVEL_PLACE
    if l3.find_level(engine, l3.level_hash(engine, key, owner), key, owner) != level:
        return LEVEL_PLACE
    return level_fault(engine, level, owner, orders_max)


@routine
def _side_fault(engine: int, book: int, side: int, owner: int) -> int:
    """The levels of a side, best first; returns what is wrong, or minus the number of its orders."""
    side_address, levels, orders, last_key = side_at(book, side), 0, 0, NO_KEY
    if count_nodes(engine, side_address) < 0:
        return -count_nodes(engine, side_address)
    number = tree.best_leaf(engine, side_address)
    while number != 0:
        leaf = node_at(engine, number)
        for place in range(load_u32(leaf + COUNT) - 1, -1, -1):
            key, level = load_word(tree.key_at(leaf, place)), record_at(engine, load_u32(tree.ref_at(leaf, place)))
            if key >= last_key:
                return NODE_ORDER
            fault = entry_fault(engine, side_address, owner, number, place, load_word(engine + ORDERS_MAX))
            if fault != SOUND:
                return fault
            last_key = key
            levels += 1
            orders += load_u32(level + LEVEL_ORDERS)
        number = load_u32(leaf + WORSE)
    return -orders if levels == load_u32(side_address + SIDE_LEVELS) else COUNTS


@primitive
def _shows(book: int, side: int, price: int, quantity: int) -> bool:
    at = book + top.ASK_PRICE * side
    return (load_word(at) == price) & (load_word(at + 8) == quantity)


@routine
def order_top_fault(engine: int, book: int, side: int) -> int:
    """Whether the top of a book of orders shows the side's best level, and that is the best."""
    best = load_u32(side_at(book, side) + BEST)
    price, quantity = 0, 0
    if tree.best(engine, side_at(book, side)) != best:
        return TOP
    if best != 0:
        level = record_at(engine, best)
        price, quantity = top.signed(load_word(level + LEVEL_KEY), side), load_word(level + LOTS)
    return SOUND if _shows(book, side, price, quantity) and not _derived_fault(book) else TOP


@routine
def level_top_fault(book: int, side: int) -> int:
    """The same of a book of levels."""
    at = l2_book.side_at(book, side)
    price = top.signed(l2.best_key(at), side)
    return SOUND if _shows(book, side, price, l2.best_quantity(at)) and not _derived_fault(book) else TOP


@primitive
def _derived_fault(book: int) -> bool:
    bid, ask = load_word(book + top.BID_PRICE), load_word(book + top.ASK_PRICE)
    has_both = int(top.has_both_sides(book))
    return (load_word(book + top.MID_DOUBLED) != (bid + ask) * has_both) | (
        load_word(book + top.SPREAD) != (ask - bid) * has_both
    )


@routine
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
        if order_top_fault(engine, book, side) != SOUND:
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
        if fault == SOUND:
            fault = level_top_fault(book, side)
        if fault != SOUND:
            return fault
    return SOUND


@routine
def l2_side_fault(side: int) -> int:
    """SOUND, or what is wrong with a side of a book of levels (`l2`)."""
    if directory_fault(side) != SOUND:
        return BLOCK_ORDER
    levels = 0
    for index in range(load_word(side + l2.BLOCKS)):
        fault = block_fault(side, index)
        if fault != SOUND:
            return fault
        levels += l2.live_in(side, index)
    return SOUND if levels == load_word(side + l2.LEVELS) else BLOCK_COUNTS


@primitive
def directory_fault(side: int) -> int:
    """Whether there is a first block, and no more than there can be."""
    is_right = 1 <= load_word(side + l2.BLOCKS) <= load_word(side + l2.BLOCKS_MAX)
    return SOUND if is_right and load_word(l2.low_at(side, 0)) == l2.LOWEST else BLOCK_ORDER


@routine
def block_fault(side: int, index: int) -> int:
    """A block and its place in the directory: keys ascend from its low to below the next one's, and are counted."""
    is_last = index == load_word(side + l2.BLOCKS) - 1
    if not l2.is_block_place(side, index):
        return BLOCK_ORDER
    block, last, live = l2.block_at(side, index), load_word(l2.low_at(side, index)) - 1, 0
    end = l2.NO_KEY if is_last else load_word(l2.low_at(side, index + 1))
    used = l2.used_in(side, index)
    if used > l2.USED_MAX or end <= last + 1:
        return BLOCK_ORDER
    for place in range(l2.BLOCK_KEYS):
        key = load_word(block + 8 * place)
        if (key != l2.NO_KEY) if place >= used else not last < key < end:
            return BLOCK_ORDER
        if place < used:
            last = key
            quantity = load_word(block + l2.QUANTITIES + 8 * place)
            live += int(quantity != 0)
            if quantity < 0 or (is_last and place == used - 1 and quantity == 0):
                return BLOCK_COUNTS
    return SOUND if live == l2.live_in(side, index) else BLOCK_COUNTS
