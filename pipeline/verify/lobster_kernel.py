"""LOBSTER rows against price levels, in compiled code: row k - 1 and message k must give row k."""

from shm.atomics import load_word, store_word
from shm.kernel import kernel, primitive, routine
from shm.layout import record_dtype
from stages.domain.codecs.lobster import ADD, BOOK_HEADER_WORDS, EXECUTE, MESSAGE_WORDS
from stages.domain.orderbook import l2

LEVELS_MAX = 1_000

TALLY = record_dtype(
    [
        ("bids", "<i8"),  # addresses of the two sides (orderbook.l2) and of room for LEVELS_MAX prices and quantities
        ("asks", "<i8"),
        ("prices", "<i8"),
        ("quantities", "<i8"),
        ("compared", "<i8"),
        ("matched", "<i8"),
        # the first mismatch
        ("row", "<i8"),
        ("side", "<i8"),
        ("level", "<i8"),
        ("why", "<i8"),
        ("expected_price", "<i8"),  # of the order book file; 0: no level
        ("expected_quantity", "<i8"),
        ("found_price", "<i8"),
        ("found_quantity", "<i8"),
        # the book after the last message
        ("bid_levels", "<i8"),
        ("ask_levels", "<i8"),
        ("bid_price", "<i8"),
        ("bid_quantity", "<i8"),
        ("ask_price", "<i8"),
        ("ask_quantity", "<i8"),
    ],
    192,
)
DIFFERENT, NO_LEVEL, TOO_MUCH = 1, 2, 3
"""Why: the level differs; the message takes from a level that is not there; it takes more than is there."""
BIDS, ASKS = 0, 1


def _offset(field: str) -> int:
    assert TALLY.fields is not None
    return int(TALLY.fields[field][1])


_SIDES, _PRICES, _QUANTITIES = _offset("bids"), _offset("prices"), _offset("quantities")
_COMPARED, _MATCHED = _offset("compared"), _offset("matched")
_ROW, _SIDE, _LEVEL, _WHY = (_offset(name) for name in ("row", "side", "level", "why"))
_EXPECTED, _FOUND = _offset("expected_price"), _offset("found_price")
_BOOK_LEVELS, _BOOK_BEST = _offset("bid_levels"), _offset("bid_price")

_KIND, _SIZE, _PRICE, _DIRECTION = 8, 24, 32, 40
_ROW_HEADER_BYTES = 8 * BOOK_HEADER_WORDS
_LEVEL_BYTES = 32


@kernel
def compare_rows(tally: int, messages: int, books: int, levels: int, rows: int) -> None:
    """Compare rows 1 to `rows` - 1, each with the one before it and its message; invalid rows are left out.

    messages, books   addresses of MESSAGE rows, and of order book rows of `levels` levels
    """
    row_bytes = _ROW_HEADER_BYTES + levels * _LEVEL_BYTES
    for row in range(1, rows):
        message, book = messages + row * 8 * MESSAGE_WORDS, books + row * row_bytes
        if load_word(message + _KIND) == 0 or load_word(book) == 0 or load_word(book - row_bytes) == 0:
            continue
        for side in range(2):
            _seed(load_word(tally + _SIDES + 8 * side), book - row_bytes + _ROW_HEADER_BYTES, levels, side)
        store_word(tally + _COMPARED, load_word(tally + _COMPARED) + 1)
        before = book - row_bytes + _ROW_HEADER_BYTES
        if _apply(tally, row, message, before, levels) and _compare(
            tally, row, before, book + _ROW_HEADER_BYTES, levels
        ):
            store_word(tally + _MATCHED, load_word(tally + _MATCHED) + 1)
    _keep_book(tally)


@primitive
def _column(row: int, level: int, side: int) -> int:
    """Address of a level's price in a row; its size follows."""
    return row + level * _LEVEL_BYTES + (16 if side == BIDS else 0)


@primitive
def _key(price: int, side: int) -> int:
    return price if side == BIDS else -price


@primitive
def _seed(side_address: int, row: int, levels: int, side: int) -> None:
    """Make a side what a row says."""
    l2.clear(side_address)
    for level in range(levels):
        at = _column(row, level, side)
        if load_word(at + 8) > 0:
            l2.set_level(side_address, _key(load_word(at), side), load_word(at + 8))


@primitive
def _is_out_of_view(row: int, key: int, levels: int, side: int) -> bool:
    """Whether a price is beyond the deepest level that the row shows."""
    at = _column(row, levels - 1, side)
    return load_word(at + 8) > 0 and key < _key(load_word(at), side)


@primitive
def _apply(tally: int, row: int, message: int, before: int, levels: int) -> bool:
    """Do what the message says to the seeded sides. False when that cannot be."""
    kind = load_word(message + _KIND)
    if kind > EXECUTE:
        return True  # hidden orders, crosses and halts change nothing that is shown
    side = BIDS if load_word(message + _DIRECTION) > 0 else ASKS
    side_address = load_word(tally + _SIDES + 8 * side)
    price, size = load_word(message + _PRICE), load_word(message + _SIZE)
    key = _key(price, side)
    if _is_out_of_view(before, key, levels, side):
        return True
    there = l2.quantity_at(side_address, key)
    if kind == ADD:
        l2.set_level(side_address, key, there + size)
        return True
    if there < size:
        _note(tally, row, side, 0, NO_LEVEL if there == 0 else TOO_MUCH, price, size, price if there else 0, there)
        return False
    l2.set_level(side_address, key, there - size)
    return True


@primitive
def _compare(tally: int, row: int, before: int, after: int, levels: int) -> bool:
    """Whether the sides are what the row at `after` says; `before` is the row they were seeded with."""
    is_equal = True
    for side in range(2):
        if is_equal:
            is_equal = _compare_side(tally, row, before, after, levels, side)
    return is_equal


@routine
def _compare_side(tally: int, row: int, before: int, after: int, levels: int, side: int) -> bool:
    side_address = load_word(tally + _SIDES + 8 * side)
    prices, quantities = load_word(tally + _PRICES), load_word(tally + _QUANTITIES)
    l2.copy_best(side_address, levels, 1 if side == BIDS else -1, prices, quantities)
    # Where a level has left the view, what comes in at the bottom is unknown, but deeper than all that was.
    was_full = load_word(_column(before, levels - 1, side) + 8) > 0
    is_open = was_full and l2.level_count(side_address) < levels
    for level in range(levels - 1 if is_open else levels):
        at = _column(after, level, side)
        expected_quantity = load_word(at + 8)
        expected_price = load_word(at) if expected_quantity > 0 else 0
        price, quantity = load_word(prices + 8 * level), load_word(quantities + 8 * level)
        if price != expected_price or quantity != expected_quantity:
            _note(tally, row, side, level, DIFFERENT, expected_price, expected_quantity, price, quantity)
            return False
    at = _column(after, levels - 1, side)
    if is_open and load_word(at + 8) > 0 and not _is_out_of_view(before, _key(load_word(at), side), levels, side):
        _note(tally, row, side, levels - 1, DIFFERENT, load_word(at), load_word(at + 8), 0, 0)
        return False
    return True


@primitive
def _note(
    tally: int,
    row: int,
    side: int,
    level: int,
    why: int,
    expected_price: int,
    expected_quantity: int,
    price: int,
    quantity: int,
) -> None:
    """Keep the first mismatch."""
    if load_word(tally + _WHY) != 0:
        return
    store_word(tally + _ROW, row)
    store_word(tally + _SIDE, side)
    store_word(tally + _LEVEL, level)
    store_word(tally + _WHY, why)
    store_word(tally + _EXPECTED, expected_price)
    store_word(tally + _EXPECTED + 8, expected_quantity)
    store_word(tally + _FOUND, price)
    store_word(tally + _FOUND + 8, quantity)


@primitive
def _keep_book(tally: int) -> None:
    for side in range(2):
        side_address = load_word(tally + _SIDES + 8 * side)
        store_word(tally + _BOOK_LEVELS + 8 * side, l2.level_count(side_address))
        store_word(tally + _BOOK_BEST + 16 * side, _key(l2.best_key(side_address), side))
        store_word(tally + _BOOK_BEST + 16 * side + 8, l2.best_quantity(side_address))
