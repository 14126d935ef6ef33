"""Books of single orders (L3), of all symbols of an engine: what a venue's order messages do to them.

    add(engine, symbol, order_id, side, price, quantity)      a new order, last at its price
    execute(engine, order_id, quantity)                       traded: so much less of it, its place kept
    cancel(engine, order_id, quantity)                        withdrawn in part: so much less of it, its place kept
    delete(engine, order_id)                                  withdrawn
    replace(engine, old_id, new_id, price, quantity)          withdrawn, and a new order in its stead, last at its price
    modify(engine, order_id, price, quantity)                 less at the same price keeps its place; else as `replace`

Order ids are any int64, unique over all symbols while they live; prices are mantissas below 2**62 in size, of any
range; quantities are 1 to QUANTITY_MAX. Each returns OK or why not, which is counted in the engine (`count_of`):

    UNKNOWN, DUPLICATE     no order has the id; one has it already             nothing is changed
    BAD_QUANTITY           not in 1 to QUANTITY_MAX                            nothing is changed
    BAD_PRICE, BAD_SYMBOL  not below 2**62 in size; no such symbol or side     nothing is changed
    TOO_MUCH               executed or cancelled beyond what was left          the order is gone
    FULL_*                 a limit is reached                                  the order is not in the book, which goes stale

A stale book goes on with the orders it knows; only `clear` makes it good. Other symbols do not notice. A book whose
best bid is not below its best ask is what the venue sent: it is counted (CROSSED) whenever a new best price is or
leaves it so.

Costs: constant but for a price that comes or goes, which is logarithmic in the levels of the side, and `queue_ahead`.
"""

from shm.atomics import load_u32, load_word, store_u32, store_word
from shm.kernel import kernel, primitive
from stages.domain.messages import BookState, Side
from stages.domain.orderbook import index, top, tree
from stages.domain.orderbook.engine import (
    BEST,
    BOOK_ORDERS,
    COUNTERS,
    FREE_LEVEL,
    FREE_ORDER,
    LEVEL_FIRST,
    LEVEL_KEY,
    LEVEL_LAST,
    LEVEL_ORDERS,
    LEVEL_OWNER,
    LEVEL_QUANTITY,
    LEVEL_SLOTS,
    LEVEL_TABLE,
    NO_KEY,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_NEXT,
    ORDER_PREVIOUS,
    ORDER_QUANTITY,
    ORDER_SLOTS,
    ORDER_TABLE,
    SALT,
    SIDE_LEVELS,
    SYMBOL_ORDERS_MAX,
    SYMBOLS,
    book_at,
    free_level,
    free_order,
    level_at,
    levels_at,
    order_at,
    orders_at,
    side_at,
    take_level,
    take_order,
)

OK = 0
UNKNOWN, DUPLICATE, BAD_QUANTITY, BAD_PRICE, BAD_SYMBOL, TOO_MUCH = -1, -2, -3, -4, -5, -6
FULL_ORDERS, FULL_SYMBOL, FULL_LEVELS, FULL_TABLE, FULL_QUANTITY = -7, -8, -9, -10, -11
CROSSED = -12
"""Not a result: only counted."""
CODES = {
    OK: "messages", UNKNOWN: "unknown_orders", DUPLICATE: "duplicate_ids", BAD_QUANTITY: "bad_quantities",
    BAD_PRICE: "bad_prices", BAD_SYMBOL: "bad_symbols", TOO_MUCH: "too_much", FULL_ORDERS: "full_orders",
    FULL_SYMBOL: "full_symbol", FULL_LEVELS: "full_levels", FULL_TABLE: "full_table", FULL_QUANTITY: "full_quantity",
    CROSSED: "crossed",
}  # fmt: skip
"""What is counted, by code; OK counts the messages that were applied."""

QUANTITY_MAX = 2**62 - 1
"""Of an order, and of all orders of a level together."""
BUY = int(Side.BUY)
STALE = int(BookState.STALE)
EMPTY = int(BookState.EMPTY)


@primitive
def count_of(engine: int, code: int) -> int:
    """How many messages came to this result."""
    return load_word(engine + COUNTERS - 8 * code)


@primitive
def _count(engine: int, code: int) -> int:
    at = engine + COUNTERS - 8 * code
    store_word(at, load_word(at) + 1)
    return code


@primitive
def _order_hash(engine: int, order_id: int) -> int:
    return index.hash_of(order_id, load_word(engine + SALT))


@primitive
def _level_hash(engine: int, key: int, owner: int) -> int:
    return index.hash_of(key, load_word(engine + SALT) ^ owner << 40)


@primitive
def _order_entry(engine: int, hash_32: int, order_id: int) -> int:
    """Address of the order's entry in the order table, or of the empty one where it would be."""
    table, slots = engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_SLOTS)
    return index.locate(table, slots, hash_32, orders_at(engine), order_id, 0)


@primitive
def _level_entry(engine: int, hash_32: int, key: int, owner: int) -> int:
    """Address of the level's entry in the level table, or of the empty one where it would be."""
    table, slots = engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_SLOTS)
    return index.locate(table, slots, hash_32, levels_at(engine), key, owner)


@primitive
def _find(engine: int, order_id: int) -> int:
    """Address of the entry of a live order, or of an empty one."""
    return _order_entry(engine, _order_hash(engine, order_id), order_id)


@primitive
def find_order(engine: int, order_id: int) -> int:
    """Address of a live order, 0 when there is none of this id."""
    number = index.number_in(_find(engine, order_id))
    return order_at(engine, number) if number != 0 else 0


@primitive
def find_level(engine: int, symbol: int, side: int, price: int) -> int:
    """Number of the level at a price, 0 when there is none."""
    key, owner = (price if side == BUY else -price), 2 * symbol + side + 1
    return index.number_in(_level_entry(engine, _level_hash(engine, key, owner), key, owner))


@primitive
def _book_of(engine: int, owner: int) -> int:
    """The book of a level's owner."""
    return book_at(engine, (owner - 1) >> 1)


@primitive
def _show_best(engine: int, book: int, side: int) -> None:
    """The side's best level has changed: its price or its quantity."""
    number = load_u32(side_at(book, side) + BEST)
    offset = top.BID_PRICE if side == BUY else top.ASK_PRICE
    price, quantity = 0, 0
    if number != 0:
        level = level_at(engine, number)
        key = load_word(level + LEVEL_KEY)
        price, quantity = (key if side == BUY else -key), load_word(level + LEVEL_QUANTITY)
    if top.set_best(book, offset, price, quantity):
        _count(engine, CROSSED)


@kernel
def _create_level(engine: int, book: int, side: int, hash_32: int, entry: int, key: int, owner: int) -> int:
    """A level without orders; there is room for it. Returns its number."""
    number = take_level(engine)
    level, side_address = level_at(engine, number), side_at(book, side)
    store_word(level + LEVEL_KEY, key)
    store_word(level + LEVEL_QUANTITY, 0)
    store_u32(level + LEVEL_FIRST, 0)
    store_u32(level + LEVEL_LAST, 0)
    store_u32(level + LEVEL_OWNER, owner)
    index.put(entry, hash_32, number)
    tree.insert(engine, side_address, key, number)
    store_u32(side_address + SIDE_LEVELS, load_u32(side_address + SIDE_LEVELS) + 1)
    best = load_u32(side_address + BEST)
    if best == 0 or load_word(level_at(engine, best) + LEVEL_KEY) < key:
        store_u32(side_address + BEST, number)
    return number


@kernel
def _remove_level(engine: int, book: int, side: int, number: int) -> None:
    """Take out a level that has no orders any more."""
    level, side_address = level_at(engine, number), side_at(book, side)
    key, owner = load_word(level + LEVEL_KEY), load_u32(level + LEVEL_OWNER)
    table, slots = engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_SLOTS)
    index.remove(table, slots, _level_entry(engine, _level_hash(engine, key, owner), key, owner))
    tree.remove(engine, side_address, key)
    store_u32(side_address + SIDE_LEVELS, load_u32(side_address + SIDE_LEVELS) - 1)
    if load_u32(side_address + BEST) == number:
        store_u32(side_address + BEST, tree.best(engine, side_address))
    free_level(engine, number)


@primitive
def _refusal(engine: int, book: int, entry: int, hash_32: int) -> int:
    """Which limit forbids one more order in this book, OK if none."""
    table, slots = engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_SLOTS)
    if load_word(engine + FREE_ORDER) == 0:
        return FULL_ORDERS
    if load_word(book + BOOK_ORDERS) >= load_word(engine + SYMBOL_ORDERS_MAX):
        return FULL_SYMBOL
    if not index.has_room(table, slots, hash_32, entry):
        return FULL_TABLE
    return OK


@primitive
def _level_refusal(engine: int, side_address: int, entry: int, hash_32: int) -> int:
    """Which limit forbids one more level on this side, OK if none."""
    table, slots = engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_SLOTS)
    if load_word(engine + FREE_LEVEL) == 0 or not tree.has_room(engine, side_address):
        return FULL_LEVELS
    return OK if index.has_room(table, slots, hash_32, entry) else FULL_TABLE


@kernel
def _put_in(
    engine: int, book: int, owner: int, order_id: int, entry: int, hash_32: int, key: int, quantity: int
) -> int:
    """Put an order behind the others of its price. When a limit forbids it, the book is stale."""
    side = (owner - 1) & 1
    code = _refusal(engine, book, entry, hash_32)
    level_hash = _level_hash(engine, key, owner)
    level_entry = _level_entry(engine, level_hash, key, owner)
    number = index.number_in(level_entry)
    if code == OK and number == 0:
        code = _level_refusal(engine, side_at(book, side), level_entry, level_hash)
    if code == OK and number != 0 and load_word(level_at(engine, number) + LEVEL_QUANTITY) > QUANTITY_MAX - quantity:
        code = FULL_QUANTITY
    if code != OK:
        top.set_state(book, STALE)
        return code
    if number == 0:
        number = _create_level(engine, book, side, level_hash, level_entry, key, owner)
    _append(engine, level_at(engine, number), number, order_id, entry, hash_32, quantity)
    store_word(book + BOOK_ORDERS, load_word(book + BOOK_ORDERS) + 1)
    if load_u32(side_at(book, side) + BEST) == number:
        _show_best(engine, book, side)
    return OK


@primitive
def _append(engine: int, level: int, number: int, order_id: int, entry: int, hash_32: int, quantity: int) -> None:
    """A new order at the end of a level's queue."""
    last, this = load_u32(level + LEVEL_LAST), take_order(engine)
    order = order_at(engine, this)
    store_word(order + ORDER_ID, order_id)
    store_word(order + ORDER_QUANTITY, quantity)
    store_u32(order + ORDER_LEVEL, number)
    store_u32(order + ORDER_PREVIOUS, last)
    store_u32(order + ORDER_NEXT, 0)
    if last != 0:
        store_u32(order_at(engine, last) + ORDER_NEXT, this)
    else:
        store_u32(level + LEVEL_FIRST, this)
    store_u32(level + LEVEL_LAST, this)
    store_word(level + LEVEL_QUANTITY, load_word(level + LEVEL_QUANTITY) + quantity)
    store_u32(level + LEVEL_ORDERS, load_u32(level + LEVEL_ORDERS) + 1)
    index.put(entry, hash_32, this)


@kernel
def _take_out(engine: int, book: int, owner: int, entry: int) -> None:
    """Take the order of this entry out of its queue and of the table; its level goes with its last order."""
    side = (owner - 1) & 1
    this = index.number_in(entry)
    order = order_at(engine, this)
    number = load_u32(order + ORDER_LEVEL)
    level = level_at(engine, number)
    before, behind = load_u32(order + ORDER_PREVIOUS), load_u32(order + ORDER_NEXT)
    index.remove(engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_SLOTS), entry)
    store_u32(order_at(engine, before) + ORDER_NEXT if before != 0 else level + LEVEL_FIRST, behind)
    store_u32(order_at(engine, behind) + ORDER_PREVIOUS if behind != 0 else level + LEVEL_LAST, before)
    orders = load_u32(level + LEVEL_ORDERS) - 1
    store_u32(level + LEVEL_ORDERS, orders)
    store_word(level + LEVEL_QUANTITY, load_word(level + LEVEL_QUANTITY) - load_word(order + ORDER_QUANTITY))
    free_order(engine, this)
    store_word(book + BOOK_ORDERS, load_word(book + BOOK_ORDERS) - 1)
    was_best = load_u32(side_at(book, side) + BEST) == number
    if orders == 0:
        _remove_level(engine, book, side, number)
    if was_best:
        _show_best(engine, book, side)


@kernel
def add(engine: int, symbol: int, order_id: int, side: int, price: int, quantity: int) -> int:
    """A new order of `quantity` at `price`, last in its queue; `side` is 0 (BUY) or 1 (SELL)."""
    if not (0 <= symbol < load_word(engine + SYMBOLS) and 0 <= side <= 1):
        return _count(engine, BAD_SYMBOL)
    if not -NO_KEY < price < NO_KEY:
        return _count(engine, BAD_PRICE)
    if not 0 < quantity <= QUANTITY_MAX:
        return _count(engine, BAD_QUANTITY)
    hash_32 = _order_hash(engine, order_id)
    entry = _order_entry(engine, hash_32, order_id)
    if index.number_in(entry) != 0:
        return _count(engine, DUPLICATE)
    book, key = book_at(engine, symbol), (price if side == BUY else -price)
    top.begin_update(book)
    code = _put_in(engine, book, 2 * symbol + side + 1, order_id, entry, hash_32, key, quantity)
    top.end_update(book)
    return _count(engine, code)


@kernel
def _reduce(engine: int, order_id: int, quantity: int) -> int:
    """So much less of an order; gone when nothing is left."""
    entry = _find(engine, order_id)
    this = index.number_in(entry)
    if this == 0:
        return _count(engine, UNKNOWN)
    if not 0 < quantity <= QUANTITY_MAX:
        return _count(engine, BAD_QUANTITY)
    order = order_at(engine, this)
    number = load_u32(order + ORDER_LEVEL)
    level = level_at(engine, number)
    owner, left = load_u32(level + LEVEL_OWNER), load_word(order + ORDER_QUANTITY) - quantity
    book = _book_of(engine, owner)
    top.begin_update(book)
    if left <= 0:
        _take_out(engine, book, owner, entry)
    else:
        _set_quantity(engine, book, (owner - 1) & 1, order, number, left)
    top.end_update(book)
    return _count(engine, OK if left >= 0 else TOO_MUCH)


@primitive
def _set_quantity(engine: int, book: int, side: int, order: int, number: int, quantity: int) -> None:
    """An order shrinks where it stands."""
    level = level_at(engine, number)
    change = quantity - load_word(order + ORDER_QUANTITY)
    store_word(order + ORDER_QUANTITY, quantity)
    store_word(level + LEVEL_QUANTITY, load_word(level + LEVEL_QUANTITY) + change)
    if load_u32(side_at(book, side) + BEST) == number:
        _show_best(engine, book, side)


@kernel
def execute(engine: int, order_id: int, quantity: int) -> int:
    """`quantity` of the order was traded."""
    return _reduce(engine, order_id, quantity)


@kernel
def cancel(engine: int, order_id: int, quantity: int) -> int:
    """`quantity` of the order was withdrawn."""
    return _reduce(engine, order_id, quantity)


@kernel
def delete(engine: int, order_id: int) -> int:
    """The order was withdrawn."""
    entry = _find(engine, order_id)
    this = index.number_in(entry)
    if this == 0:
        return _count(engine, UNKNOWN)
    owner = load_u32(level_at(engine, load_u32(order_at(engine, this) + ORDER_LEVEL)) + LEVEL_OWNER)
    book = _book_of(engine, owner)
    top.begin_update(book)
    _take_out(engine, book, owner, entry)
    top.end_update(book)
    return _count(engine, OK)


@kernel
def replace(engine: int, old_id: int, new_id: int, price: int, quantity: int) -> int:
    """The order `old_id` gives way to `new_id`, which may be the same id; symbol and side stay."""
    entry = _find(engine, old_id)
    this = index.number_in(entry)
    if this == 0:
        return _count(engine, UNKNOWN)
    if not -NO_KEY < price < NO_KEY:
        return _count(engine, BAD_PRICE)
    if not 0 < quantity <= QUANTITY_MAX:
        return _count(engine, BAD_QUANTITY)
    hash_32 = _order_hash(engine, new_id)
    if new_id != old_id and index.number_in(_order_entry(engine, hash_32, new_id)) != 0:
        return _count(engine, DUPLICATE)
    owner = load_u32(level_at(engine, load_u32(order_at(engine, this) + ORDER_LEVEL)) + LEVEL_OWNER)
    book, key = _book_of(engine, owner), (price if (owner - 1) & 1 == BUY else -price)
    top.begin_update(book)
    _take_out(engine, book, owner, entry)
    code = _put_in(engine, book, owner, new_id, _order_entry(engine, hash_32, new_id), hash_32, key, quantity)
    top.end_update(book)
    return _count(engine, code)


@kernel
def modify(engine: int, order_id: int, price: int, quantity: int) -> int:
    """The order has this price and quantity now. It keeps its place if the price is the same and it grows not."""
    this = index.number_in(_find(engine, order_id))
    if this == 0:
        return _count(engine, UNKNOWN)
    order = order_at(engine, this)
    number = load_u32(order + ORDER_LEVEL)
    level = level_at(engine, number)
    owner, key = load_u32(level + LEVEL_OWNER), load_word(level + LEVEL_KEY)
    side = (owner - 1) & 1
    if (key if side == BUY else -key) != price or not 0 < quantity <= load_word(order + ORDER_QUANTITY):
        return replace(engine, order_id, order_id, price, quantity)
    book = _book_of(engine, owner)
    top.begin_update(book)
    _set_quantity(engine, book, side, order, number, quantity)
    top.end_update(book)
    return _count(engine, OK)


@kernel
def clear(engine: int, symbol: int) -> None:
    """Forget all orders of a symbol; its book is EMPTY. Costs as much as deleting each."""
    book = book_at(engine, symbol)
    top.begin_update(book)
    for side in range(2):
        number = load_u32(side_at(book, side) + BEST)
        while number != 0:
            first = load_u32(level_at(engine, number) + LEVEL_FIRST)
            order_id = load_word(order_at(engine, first) + ORDER_ID)
            _take_out(engine, book, 2 * symbol + side + 1, _find(engine, order_id))
            number = load_u32(side_at(book, side) + BEST)
    top.set_state(book, EMPTY)
    top.end_update(book)


@kernel
def queue_ahead(engine: int, order_id: int) -> tuple[int, int]:
    """(orders, their quantity) that stand before an order at its price; (-1, -1) when it is unknown.

    Walks over them: up to a cache miss each.
    """
    this = index.number_in(_find(engine, order_id))
    if this == 0:
        return -1, -1
    orders, quantity = 0, 0
    before = load_u32(order_at(engine, this) + ORDER_PREVIOUS)
    while before != 0:
        order = order_at(engine, before)
        orders += 1
        quantity += load_word(order + ORDER_QUANTITY)
        before = load_u32(order + ORDER_PREVIOUS)
    return orders, quantity
