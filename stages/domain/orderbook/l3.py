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
    FULL_*                 a limit is reached                 the order is not in the book, which goes stale

A stale book goes on with the orders it knows; only `clear` makes it good. Other symbols do not notice. A book whose
best bid is not below its best ask is what the venue sent: it is counted (CROSSED) whenever a new best price is or
leaves it so.

Each takes in the end `likely`, where the order, for an `add` its level, will probably be found: the address of a record
of that table that `batch` has looked at before, which saves the search, or 0.

Costs: constant but for a price that comes or goes, which is logarithmic in the levels of the side, and `queue_ahead`.
"""

from shm.atomics import load_u32, load_word, store_u32, store_word
from shm.kernel import kernel, primitive, routine
from stages.domain.messages import BookState
from stages.domain.orderbook import table, top, tree
from stages.domain.orderbook.engine import (
    BEST,
    BOOK_ORDERS,
    COUNTERS,
    LEVEL_KEY,
    LEVEL_LINES,
    LEVEL_ORDERS,
    LEVEL_TABLE,
    LEVELS_MAX,
    LIVE_LEVELS,
    LIVE_ORDERS,
    LOTS,
    NEXT,
    NO_KEY,
    ORDER_ID,
    ORDER_LEVEL,
    ORDER_LINES,
    ORDER_TABLE,
    ORDERS_MAX,
    PREVIOUS,
    SALT,
    SIDE_LEVELS,
    SYMBOL_ORDERS_MAX,
    SYMBOLS,
    book_at,
    number_of,
    record_at,
    side_at,
)

OK = 0
UNKNOWN, DUPLICATE, BAD_QUANTITY, BAD_PRICE, BAD_SYMBOL, TOO_MUCH = -1, -2, -3, -4, -5, -6
FULL_ORDERS, FULL_SYMBOL, FULL_LEVELS, FULL_TABLE, FULL_QUANTITY = -7, -8, -9, -10, -11
BAD_KIND = -12
"""Of a message that is none (`batch`)."""
CROSSED = -13
"""Not a result: only counted."""
CODES = {
    OK: "messages", UNKNOWN: "unknown_orders", DUPLICATE: "duplicate_ids", BAD_QUANTITY: "bad_quantities",
    BAD_PRICE: "bad_prices", BAD_SYMBOL: "bad_symbols", TOO_MUCH: "too_much", FULL_ORDERS: "full_orders",
    FULL_SYMBOL: "full_symbol", FULL_LEVELS: "full_levels", FULL_TABLE: "full_table", FULL_QUANTITY: "full_quantity",
    BAD_KIND: "bad_kinds", CROSSED: "crossed",
}  # fmt: skip
"""What is counted, by code; OK counts the messages that were applied."""

QUANTITY_MAX = 2**62 - 1
"""Of an order, and of all orders of a level together."""
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
def order_hash(engine: int, order_id: int) -> int:
    """Hash of an order's id."""
    return table.hash_of(order_id, load_word(engine + SALT))


@primitive
def level_hash(engine: int, key: int, owner: int) -> int:
    """Hash of a level, by its key and its owner."""
    return table.hash_of(key, load_word(engine + SALT) ^ owner << 40)


@primitive
def find_order(engine: int, hash_32: int, order_id: int) -> int:
    """Address of the live order with an id, 0 when there is none."""
    orders, lines = engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES)
    return table.find(orders, lines, hash_32, order_id, 0, table.ANY_OWNER)


@primitive
def order_at(engine: int, likely: int, order_id: int) -> int:
    """`find_order`, first where it is likely."""
    if likely != 0 and table.is_of(likely, order_id, 0, table.ANY_OWNER):
        return likely
    return find_order(engine, order_hash(engine, order_id), order_id)


@primitive
def find_level(engine: int, hash_32: int, key: int, owner: int) -> int:
    """Address of the level with a key and owner, 0 when there is none."""
    levels, lines = engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES)
    return table.find(levels, lines, hash_32, key, owner, table.THIS_OWNER)


@primitive
def _book_of(engine: int, owner: int) -> int:
    """The book of an owner."""
    return book_at(engine, (owner - 1) >> 1)


@primitive
def _show_best(engine: int, book: int, side: int) -> None:
    """The side's best level has changed: its price or its quantity."""
    number = load_u32(side_at(book, side) + BEST)
    price, quantity = 0, 0
    if number != 0:
        level = record_at(engine, number)
        price, quantity = top.signed(load_word(level + LEVEL_KEY), side), load_word(level + LOTS)
    if top.set_best(book, top.ASK_PRICE * side, price, quantity):
        _count(engine, CROSSED)


@routine
def _create_level(engine: int, side_address: int, level: int, hash_32: int, key: int, owner: int) -> None:
    """A level without orders, in the record that has room for it."""
    number = number_of(engine, level)
    store_word(level + LEVEL_KEY, key)
    store_word(level + LOTS, 0)
    store_u32(level + PREVIOUS, number)
    store_u32(level + NEXT, number)
    table.claim(engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES), hash_32, level, owner)
    store_word(engine + LIVE_LEVELS, load_word(engine + LIVE_LEVELS) + 1)
    tree.insert(engine, side_address, key, number)
    store_u32(side_address + SIDE_LEVELS, load_u32(side_address + SIDE_LEVELS) + 1)
    best = load_u32(side_address + BEST)
    if best == 0 or load_word(record_at(engine, best) + LEVEL_KEY) < key:
        store_u32(side_address + BEST, number)


@routine
def _remove_level(engine: int, side_address: int, level: int, owner: int) -> None:
    """Take out a level that has no orders any more."""
    key = load_word(level + LEVEL_KEY)
    hash_32 = level_hash(engine, key, owner)
    table.release(engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES), hash_32, level)
    store_word(engine + LIVE_LEVELS, load_word(engine + LIVE_LEVELS) - 1)
    tree.remove(engine, side_address, key)
    store_u32(side_address + SIDE_LEVELS, load_u32(side_address + SIDE_LEVELS) - 1)
    if load_u32(side_address + BEST) == number_of(engine, level):
        store_u32(side_address + BEST, tree.best(engine, side_address))


@primitive
def _room_for_level(engine: int, side_address: int, hash_32: int) -> int:
    """Address of the record for one more level on this side; negative: which limit forbids it."""
    if load_word(engine + LIVE_LEVELS) >= load_word(engine + LEVELS_MAX) or not tree.has_room(engine, side_address):
        return FULL_LEVELS
    level = table.room(engine + load_word(engine + LEVEL_TABLE), load_word(engine + LEVEL_LINES), hash_32)
    return level if level != 0 else FULL_TABLE


@primitive
def _room_for_order(engine: int, book: int, hash_32: int) -> int:
    """Address of the record for one more order in this book; negative: which limit forbids it."""
    if load_word(engine + LIVE_ORDERS) >= load_word(engine + ORDERS_MAX):
        return FULL_ORDERS
    if load_word(book + BOOK_ORDERS) >= load_word(engine + SYMBOL_ORDERS_MAX):
        return FULL_SYMBOL
    order = table.room(engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES), hash_32)
    return order if order != 0 else FULL_TABLE


@routine
def _put_in(
    engine: int, book: int, owner: int, order_id: int, hash_32: int, key: int, quantity: int, likely: int
) -> int:
    """Put an order behind the others of its price. When a limit forbids it, the book is stale."""
    side = (owner - 1) & 1
    order = _room_for_order(engine, book, hash_32)
    level, hash_of_level = likely, 0
    if likely == 0 or not table.is_of(likely, key, owner, table.THIS_OWNER):
        hash_of_level = level_hash(engine, key, owner)
        level = find_level(engine, hash_of_level, key, owner)
    is_new = level == 0
    if is_new:
        level = _room_for_level(engine, side_at(book, side), hash_of_level)
    elif load_word(level + LOTS) > QUANTITY_MAX - quantity:
        level = FULL_QUANTITY
    if order < 0 or level < 0:
        top.set_state(book, STALE)
        return order if order < 0 else level
    if is_new:
        _create_level(engine, side_at(book, side), level, hash_of_level, key, owner)
    table.claim(engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES), hash_32, order, owner)
    store_word(engine + LIVE_ORDERS, load_word(engine + LIVE_ORDERS) + 1)
    store_word(book + BOOK_ORDERS, load_word(book + BOOK_ORDERS) + 1)
    store_word(order + ORDER_ID, order_id)
    store_word(order + LOTS, quantity)
    _append(engine, level, order)
    store_word(level + LOTS, load_word(level + LOTS) + quantity)
    store_u32(level + LEVEL_ORDERS, load_u32(level + LEVEL_ORDERS) + 1)
    if load_u32(side_at(book, side) + BEST) == number_of(engine, level):
        _show_best(engine, book, side)
    return OK


@primitive
def _append(engine: int, level: int, order: int) -> None:
    """Link an order in at the end of a level's queue."""
    last, number, level_number = load_u32(level + PREVIOUS), number_of(engine, order), number_of(engine, level)
    store_u32(order + ORDER_LEVEL, level_number)
    store_u32(order + PREVIOUS, last)
    store_u32(order + NEXT, level_number)
    store_u32(record_at(engine, last) + NEXT, number)
    store_u32(level + PREVIOUS, number)


@routine
def _take_out(engine: int, book: int, order: int) -> None:
    """Take an order out of its queue and of the table; its level goes with its last order."""
    hash_32 = order_hash(engine, load_word(order + ORDER_ID))
    owner, number = table.owner_of(order), load_u32(order + ORDER_LEVEL)
    side, level = (owner - 1) & 1, record_at(engine, number)
    before, behind = load_u32(order + PREVIOUS), load_u32(order + NEXT)
    store_u32(record_at(engine, before) + NEXT, behind)
    store_u32(record_at(engine, behind) + PREVIOUS, before)
    orders = load_u32(level + LEVEL_ORDERS) - 1
    store_u32(level + LEVEL_ORDERS, orders)
    store_word(level + LOTS, load_word(level + LOTS) - load_word(order + LOTS))
    table.release(engine + load_word(engine + ORDER_TABLE), load_word(engine + ORDER_LINES), hash_32, order)
    store_word(engine + LIVE_ORDERS, load_word(engine + LIVE_ORDERS) - 1)
    store_word(book + BOOK_ORDERS, load_word(book + BOOK_ORDERS) - 1)
    was_best = load_u32(side_at(book, side) + BEST) == number
    if orders == 0:
        _remove_level(engine, side_at(book, side), level, owner)
    if was_best:
        _show_best(engine, book, side)


@routine
def add(engine: int, symbol: int, order_id: int, side: int, price: int, quantity: int, likely: int = 0) -> int:
    """A new order of `quantity` at `price`, last in its queue; `side` is 0 (BUY) or 1 (SELL)."""
    if not (0 <= symbol < load_word(engine + SYMBOLS) and 0 <= side <= 1):
        return _count(engine, BAD_SYMBOL)
    if not -NO_KEY < price < NO_KEY:
        return _count(engine, BAD_PRICE)
    if not 0 < quantity <= QUANTITY_MAX:
        return _count(engine, BAD_QUANTITY)
    hash_32 = order_hash(engine, order_id)
    if find_order(engine, hash_32, order_id) != 0:
        return _count(engine, DUPLICATE)
    book, key = book_at(engine, symbol), top.signed(price, side)
    top.begin_update(book)
    code = _put_in(engine, book, 2 * symbol + side + 1, order_id, hash_32, key, quantity, likely)
    top.end_update(book)
    return _count(engine, code)


@routine
def _reduce(engine: int, order_id: int, quantity: int, likely: int) -> int:
    """So much less of an order; gone when nothing is left."""
    order = order_at(engine, likely, order_id)
    if order == 0:
        return _count(engine, UNKNOWN)
    if not 0 < quantity <= QUANTITY_MAX:
        return _count(engine, BAD_QUANTITY)
    left = load_word(order + LOTS) - quantity
    book = _book_of(engine, table.owner_of(order))
    top.begin_update(book)
    if left <= 0:
        _take_out(engine, book, order)
    else:
        _set_quantity(engine, book, order, left)
    top.end_update(book)
    return _count(engine, OK if left >= 0 else TOO_MUCH)


@primitive
def _set_quantity(engine: int, book: int, order: int, quantity: int) -> None:
    """An order shrinks where it stands."""
    number, side = load_u32(order + ORDER_LEVEL), (table.owner_of(order) - 1) & 1
    level = record_at(engine, number)
    change = quantity - load_word(order + LOTS)
    store_word(order + LOTS, quantity)
    store_word(level + LOTS, load_word(level + LOTS) + change)
    if load_u32(side_at(book, side) + BEST) == number:
        _show_best(engine, book, side)


@routine
def execute(engine: int, order_id: int, quantity: int, likely: int = 0) -> int:
    """`quantity` of the order was traded."""
    return _reduce(engine, order_id, quantity, likely)


@routine
def cancel(engine: int, order_id: int, quantity: int, likely: int = 0) -> int:
    """`quantity` of the order was withdrawn."""
    return _reduce(engine, order_id, quantity, likely)


@routine
def delete(engine: int, order_id: int, likely: int = 0) -> int:
    """The order was withdrawn."""
    order = order_at(engine, likely, order_id)
    if order == 0:
        return _count(engine, UNKNOWN)
    book = _book_of(engine, table.owner_of(order))
    top.begin_update(book)
    _take_out(engine, book, order)
    top.end_update(book)
    return _count(engine, OK)


@routine
def replace(engine: int, old_id: int, new_id: int, price: int, quantity: int, likely: int = 0) -> int:
    """The order `old_id` gives way to `new_id`, which may be the same id; symbol and side stay."""
    order = order_at(engine, likely, old_id)
    if order == 0:
        return _count(engine, UNKNOWN)
    if not -NO_KEY < price < NO_KEY:
        return _count(engine, BAD_PRICE)
    if not 0 < quantity <= QUANTITY_MAX:
        return _count(engine, BAD_QUANTITY)
    hash_32 = order_hash(engine, new_id)
    if new_id != old_id and find_order(engine, hash_32, new_id) != 0:
        return _count(engine, DUPLICATE)
    owner = table.owner_of(order)
    book = _book_of(engine, owner)
    top.begin_update(book)
    _take_out(engine, book, order)
    code = _put_in(engine, book, owner, new_id, hash_32, top.signed(price, (owner - 1) & 1), quantity, 0)
    top.end_update(book)
    return _count(engine, code)


@routine
def modify(engine: int, order_id: int, price: int, quantity: int, likely: int = 0) -> int:
    """The order has this price and quantity now. It keeps its place if the price is the same and it grows not."""
    order = order_at(engine, likely, order_id)
    if order == 0:
        return _count(engine, UNKNOWN)
    owner = table.owner_of(order)
    key = load_word(record_at(engine, load_u32(order + ORDER_LEVEL)) + LEVEL_KEY)
    if top.signed(key, (owner - 1) & 1) != price or not 0 < quantity <= load_word(order + LOTS):
        return replace(engine, order_id, order_id, price, quantity, order)
    book = _book_of(engine, owner)
    top.begin_update(book)
    _set_quantity(engine, book, order, quantity)
    top.end_update(book)
    return _count(engine, OK)


@kernel
def clear(engine: int, symbol: int) -> None:
    """Forget all orders of a symbol; its book is EMPTY. Costs as much as deleting each."""
    book = book_at(engine, symbol)
    top.begin_update(book)
    for side in range(2):
        while load_u32(side_at(book, side) + BEST) != 0:
            level = record_at(engine, load_u32(side_at(book, side) + BEST))
            _take_out(engine, book, record_at(engine, load_u32(level + NEXT)))
    top.set_state(book, EMPTY)
    top.end_update(book)


@kernel
def queue_ahead(engine: int, order_id: int) -> tuple[int, int]:
    """(orders, their quantity) that stand before an order at its price; (-1, -1) when it is unknown.

    Walks over them: up to a cache miss each.
    """
    order = find_order(engine, order_hash(engine, order_id), order_id)
    if order == 0:
        return -1, -1
    orders, quantity, level = 0, 0, load_u32(order + ORDER_LEVEL)
    before = load_u32(order + PREVIOUS)
    while before != level:
        orders += 1
        quantity += load_word(record_at(engine, before) + LOTS)
        before = load_u32(record_at(engine, before) + PREVIOUS)
    return orders, quantity
