"""Integrity checks of the books while they are used: one step in an idle poll, and one in any poll when somebody waits.

In idle time the checks go round the symbols, a step every STEP_NS. A request puts its symbol before them; the answer
is the row in the table of checks that names it. A book that is found wrong is STALE: what is in it cannot be trusted,
not even to be walked through. One of levels is emptied and waits for its next snapshot, one of orders is given up.
"""

from shm import seqlock
from shm.atomics import load_relaxed, load_word
from shm.kernel import primitive, routine
from stages.book.context import NO_SYMBOL, Context
from stages.domain.messages import BOOK_CHECK, CHECK_REQUEST, BookState
from stages.domain.orderbook import audit, l2_book, top
from stages.domain.orderbook.integrity import SOUND

STEP_NS = 50_000
"""Least time between two steps that nobody waits for. A side of 1,000 levels takes 50 to 120 of them."""
ORDERS_MAX = 64
"""Of a level that are looked at, three cache misses each."""
STALE = int(BookState.STALE)
CHECK_BYTES, REQUEST_BYTES = BOOK_CHECK.itemsize, CHECK_REQUEST.itemsize


@primitive
def is_asked(context: Context) -> bool:
    """Whether somebody waits for a check. The request rows are single words; nothing is concluded from their order."""
    return load_relaxed(context.audit[0]["requests"]) != context.audit[0]["answered"]


@primitive
def is_due(context: Context, now_ns: int) -> bool:
    """Whether it is time for a step that nobody waits for."""
    return now_ns >= context.audit[0]["next_ns"]


@routine
def look(context: Context, now_ns: int) -> int:
    """One step. Returns the symbol whose book was found wrong and is STALE now, or NO_SYMBOL."""
    state = context.audit[0]
    state["next_ns"] = now_ns + STEP_NS
    if state["symbol"] == NO_SYMBOL or (state["is_asked"] == 0 and is_asked(context)):
        _choose(context)
    symbol = state["symbol"]
    book = context.books[symbol]
    fault = _step_levels(context, context.levels_max, book["top"])
    if fault == audit.MORE:
        fault = _step_orders(context, context.engine, book["top"])
    if fault == audit.MORE:
        return NO_SYMBOL
    book["checks"] += 1
    context.counters[0]["checks"] += 1
    if fault != SOUND:
        book["violations"] += 1
        book["fault"] = fault
        context.counters[0]["violations"] += 1
        book["is_known"] = book["last_id"] = 0
        top.set_state(book["top"], STALE)
        _restore_levels(context.levels_max, book["top"])
    _tell(context, fault, now_ns)
    _choose(context)
    return symbol if fault != SOUND else NO_SYMBOL


@primitive
def _step_levels(context: Context, levels_max: int | None, book: int) -> int:
    if levels_max is None:
        return audit.MORE
    return audit.level_step(context.audit.ctypes.data, book)


@primitive
def _step_orders(context: Context, engine: int | None, book: int) -> int:
    if engine is None:
        return audit.MORE
    return audit.order_step(context.audit.ctypes.data, book, ORDERS_MAX)


@primitive
def _restore_levels(levels_max: int | None, book: int) -> None:
    if levels_max is not None:
        l2_book.restore(book, levels_max)


@primitive
def _request(context: Context, symbol: int) -> int:
    """How many checks of this symbol have been asked for."""
    return load_relaxed(context.audit[0]["requests"] + REQUEST_BYTES * (1 + symbol))


@primitive
def _choose(context: Context) -> None:
    """Begin with a symbol that somebody asks for; else with the next one."""
    state = context.audit[0]
    symbol = state["symbol"] + 1
    if symbol >= len(context.books):
        symbol = 0
    state["is_asked"] = 0
    if is_asked(context):
        for asked in range(len(context.books)):
            if _request(context, asked) != context.books[asked]["answered"]:
                symbol, state["is_asked"] = asked, 1
                break
    state["symbol"] = symbol
    audit.begin(context.audit.ctypes.data, context.books[symbol]["top"])
    context.check[0]["request"] = _request(context, symbol)


@primitive
def _tell(context: Context, fault: int, now_ns: int) -> None:
    """The result, in the symbol's row; it answers what had been asked when its pass began."""
    state, check = context.audit[0], context.check[0]
    symbol, cursor = state["symbol"], context.audit.ctypes.data
    book = context.books[symbol]
    state["answered"] += check["request"] - book["answered"]
    book["answered"] = check["request"]
    check["fault"], check["is_whole"] = fault, int(fault == SOUND) * load_word(cursor + audit.IS_WHOLE)
    check["levels"], check["orders"] = load_word(cursor + audit.LEVELS), load_word(cursor + audit.ORDERS)
    check["checks"], check["violations"], check["checked_ns"] = book["checks"], book["violations"], now_ns
    seqlock.write(state["table"] + symbol * state["row_bytes"], state["check"], CHECK_BYTES)
