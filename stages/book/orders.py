"""Books of single orders in the book stage: what a market record does to the order engine, and to trading in a symbol.

A book is EMPTY before the first message about it and VALID from it on. A message about an order that nobody knows, as
in a stream that begins in the middle of the day, shows that the book lacks orders: it is DIRTY. A limit that is
reached, or missed messages, make it STALE. Both are for as long as the session lasts, since no snapshot of such a feed
follows; another session begins with empty books. A symbol whose trading the venue has halted is HALTED as long as its
book is right.
"""

from shm.atomics import load_u32, load_word
from shm.kernel import kernel, primitive, routine
from stages.book.context import FIRST_ID, NO_SYMBOL, PRICE, QUANTITY, Context
from stages.domain.messages import BookState, MarketKind
from stages.domain.orderbook import l3, table, top
from stages.domain.orderbook.engine import LEVEL_KEY, ORDER_LEVEL, book_at, record_at

ADD, EXECUTE, REDUCE = int(MarketKind.ADD), int(MarketKind.EXECUTE), int(MarketKind.REDUCE)
DELETE, REPLACE, STATUS = int(MarketKind.DELETE), int(MarketKind.REPLACE), int(MarketKind.STATUS)
START = int(MarketKind.START)
EMPTY, VALID, HALTED = int(BookState.EMPTY), int(BookState.VALID), int(BookState.HALTED)
DIRTY = int(BookState.DIRTY)


@routine
def apply_order(context: Context, engine: int, record: int, symbol: int, likely: int) -> int:
    """Do what the record says; returns the code of `l3`."""
    head, order_id, price = load_word(record), load_word(record + FIRST_ID), load_word(record + PRICE)
    kind, is_bid, quantity = head & 0xFF, head >> 32 & 0xFFFF, load_word(record + QUANTITY)
    if kind == ADD:
        return l3.add(engine, symbol, order_id, 1 - is_bid, price, quantity, likely)
    if kind == EXECUTE:
        return l3.execute(engine, order_id, quantity, likely)
    if kind == REDUCE:
        return l3.cancel(engine, order_id, quantity, likely)
    if kind == DELETE:
        return l3.delete(engine, order_id, likely)
    if kind == REPLACE:
        return l3.replace(engine, order_id, load_word(record + QUANTITY + 8), price, quantity, likely)
    if kind == START:
        l3.clear(engine, symbol)
        context.books[symbol]["halts"] = context.books[symbol]["dropped"] = 0
        return l3.OK
    halt = 1 << load_word(record + QUANTITY + 8)
    halts = context.books[symbol]["halts"]
    context.books[symbol]["halts"] = halts | halt if quantity == 0 else halts & ~halt
    return l3.OK


@primitive
def is_change(code: int) -> bool:
    """Whether what came to this code has changed a book: applied, more than there was to take, or over a limit."""
    return code == l3.OK or code == l3.TOO_MUCH or is_over_limit(code)


@primitive
def is_over_limit(code: int) -> bool:
    """Whether what came to this code had no room, and its book is stale."""
    return l3.FULL_QUANTITY <= code <= l3.FULL_ORDERS


@primitive
def settle_state(context: Context, symbol: int, code: int) -> bool:
    """The book's state after a record that came to `code`; whether it is another one."""
    book = context.books[symbol]
    before = state = load_word(book["top"] + top.STATE)
    if state == EMPTY and code == l3.OK:
        state = VALID
    if state in (EMPTY, VALID, HALTED) and code == l3.UNKNOWN:
        state = DIRTY
    if state in (VALID, HALTED):
        state = HALTED if book["halts"] != 0 else VALID
    top.set_state(book["top"], state)
    return state != before


@routine
def standing(engine: int, order_id: int, likely: int) -> tuple[int, int, int]:
    """(symbol, side, price) of an order; (NO_SYMBOL, 0, 0) when no book has it."""
    order = l3.order_at(engine, likely, order_id)
    if order == 0:
        return NO_SYMBOL, 0, 0
    owner = table.owner_of(order) - 1
    key = load_word(record_at(engine, load_u32(order + ORDER_LEVEL)) + LEVEL_KEY)
    return owner >> 1, owner & 1, top.signed(key, owner & 1)


@kernel
def address_of_book(engine: int, symbol: int) -> int:
    """Where the book of a symbol begins."""
    return book_at(engine, symbol)
