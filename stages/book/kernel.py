"""The book's hot side: market records in; BBO and depth rows, and a notice per event, out.

An event may span records; nothing is published before its last one. A record is handed back to the feed only after
what it caused is out.

When the strategy's ring is full, book notices are conflated: the symbol is marked pending, later events merge into it
(keeping the oldest read stamp), and the newest state goes out as soon as there is room. Trades are not conflated: they
count as missed, and the cumulative volume that every trade carries says how much. With `must_deliver` nothing is
conflated: records wait in the feed's ring until the strategy's has room.
"""

from shm import ring, seqlock
from shm.atomics import load_word
from shm.clock import now_ns as read_clock
from shm.kernel import kernel, primitive, routine
from stages.book import audit
from stages.book.ahead import look_ahead
from stages.book.check import AGREES, BEYOND, DIFFERS, check_best, remember_ticker
from stages.book.context import (
    DEPTH_ASK_PRICE,
    DEPTH_ASK_QUANTITY,
    DEPTH_BID_PRICE,
    DEPTH_BID_QUANTITY,
    EVENT_LEVELS,
    EXCHANGE_TIME_NS,
    FIRST_ID,
    LAST_ID,
    NO_SYMBOL,
    PRICE,
    PUBLISH_NS,
    QUANTITY,
    READ_NS,
    Context,
)
from stages.book.orders import (
    ADD,
    EXECUTE,
    START,
    STATUS,
    apply_order,
    is_change,
    is_over_limit,
    settle_state,
    standing,
)
from stages.domain.messages import (
    BBO,
    DEPTH,
    DEPTH_LEVELS,
    LEVELS_PER_RECORD,
    NOTICE,
    BookState,
    MarketFlag,
    MarketKind,
    NoticeKind,
    Side,
)
from stages.domain.orderbook import l2, l2_book, l3, top
from stages.domain.orderbook.publication import fill_bbo, fill_level_depth, fill_order_depth
from stages.domain.samples import WARM_SAMPLES_BYTES, count_noted, note
from stages.domain.warming import warm, warm_records

LEVELS_PER_SIDE = LEVELS_PER_RECORD // 2

BATCH = 256
"""Most records taken in one poll."""

SNAPSHOT, DIFF, TICKER = int(MarketKind.SNAPSHOT), int(MarketKind.DIFF), int(MarketKind.TICKER)
TRADE, RESET = int(MarketKind.TRADE), int(MarketKind.RESET)
FIRST, END = int(MarketFlag.FIRST), int(MarketFlag.END)
SELLER_AGGRESSED, AGGREGATE = int(MarketFlag.SELLER_AGGRESSED), int(MarketFlag.AGGREGATE)
EMPTY, VALID, DIRTY, STALE = (
    int(state) for state in (BookState.EMPTY, BookState.VALID, BookState.DIRTY, BookState.STALE)
)
NOTICE_BOOK, NOTICE_TRADE = int(NoticeKind.BOOK), int(NoticeKind.TRADE)
BUY, SELL = int(Side.BUY), int(Side.SELL)
END_OF_QUEUE = -1
BBO_BYTES, DEPTH_BYTES, NOTICE_BYTES = BBO.itemsize, DEPTH.itemsize, NOTICE.itemsize


@routine
def poll(context: Context, now_ns: int) -> int:
    """Take up to BATCH records. Returns how many there were, and how many notices went out for no record."""
    state = context.state[0]
    told = 0
    if state["must_invalidate"] != 0:
        state["must_invalidate"] = 0
        for symbol in range(len(context.books)):
            _invalidate(context, symbol, context.books[symbol]["read_ns"])
        told = len(context.books)
    if state["pending_count"] > 0:
        told += _tell_pending(context)
    source = state["input"]
    unread = min(ring.available(source, BATCH), BATCH)
    handled = 0
    while handled < unread:
        if state["must_deliver"] != 0 and ring.room(state["output"], 1) < 1:
            break
        _take(context, ring.peek_record(source), _look_ahead(context, context.engine, source, unread - handled))
        ring.advance(source, 1)
        handled += 1
    if handled == 0:
        if context.samples[0] > 0:
            count_noted(context.samples)
        if ring.reader_epoch(state["output"]) != state["told_epoch"]:
            state["told_epoch"] = ring.reader_epoch(state["output"])
            told += _tell_all(context)
        if now_ns >= state["next_rehearsal_ns"]:
            state["next_rehearsal_ns"] = now_ns + state["rehearsal_interval_ns"]
            rehearse(context)
    if audit.is_asked(context) or (handled == 0 and audit.is_due(context, now_ns)):
        broken = audit.look(context, now_ns)
        if broken != NO_SYMBOL:
            _publish(context, broken, context.books[broken]["read_ns"])
    return handled + told


@kernel
def poll_once(context: Context, now_ns: int) -> int:
    """One `poll`, entered from Python: for lines that are stepped by hand, and to set up rehearsals."""
    return poll(context, now_ns)


@routine
def rehearse(context: Context) -> None:
    """Fill rows that nobody sees, and remove a level near the best on each side and set it again.

    Only the caches notice. Between two diffs other code, and other guests of the machine, take them: without this an
    event costs 1.8 times as much after 10 idle ms. Each rehearsal takes the next symbol, and in time another level.
    """
    state = context.state[0]
    symbol = state["rehearsal_symbol"]
    state["rehearsal_symbol"] = symbol + 1
    if symbol + 1 >= len(context.books):
        state["rehearsal_symbol"] = 0
        state["rehearsal_level"] = (state["rehearsal_level"] + 1) % DEPTH_LEVELS
    _fill_rows(context, symbol, context.rehearsal[0]["read_ns"])
    _write_row(state["rehearsal_row"], state["depth"], DEPTH_BYTES)
    _rehearse_levels(context, context.levels_max, symbol)
    warm(state["bbo_table"] + symbol * state["bbo_row_bytes"], state["bbo_row_bytes"])
    warm(state["depth_table"] + symbol * state["depth_row_bytes"], state["depth_row_bytes"])
    warm(ring.claim(state["output"], 0), 2 * NOTICE_BYTES)
    warm_records(context.counters)
    warm_records(context.books)
    warm(context.samples.ctypes.data, WARM_SAMPLES_BYTES)


@primitive
def _rehearse_levels(context: Context, levels_max: int | None, symbol: int) -> None:
    """The depth record that was just filled says what is there."""
    if levels_max is None:
        return
    state, record, book = context.state[0], context.rehearsal[0], context.books[symbol]["top"]
    depth, level = state["depth"], state["rehearsal_level"]
    if level < min(context.depth[0]["bid_count"], context.depth[0]["ask_count"]):
        bid_quantity = load_word(depth + DEPTH_BID_QUANTITY + 8 * level)
        ask_quantity = load_word(depth + DEPTH_ASK_QUANTITY + 8 * level)
        record["price"][:2] = load_word(depth + DEPTH_BID_PRICE + 8 * level)
        record["price"][2:] = load_word(depth + DEPTH_ASK_PRICE + 8 * level)
        record["quantity"][1], record["quantity"][3] = bid_quantity, ask_quantity  # beside zeros, which remove
        _apply(context, state["rehearsal"], symbol, LEVELS_PER_SIDE, LEVELS_PER_RECORD)
    for side in range(2):
        l2.warm_best(l2_book.side_at(book, side))


@primitive
def _look_ahead(context: Context, engine: int | None, source: int, unread: int) -> int:
    """Where that is likely to stand which the oldest of `unread` records is about; 0 in books of levels."""
    return 0 if engine is None else look_ahead(context, engine, source, unread)


@routine
def _take(context: Context, record: int, likely: int) -> None:
    """Act on the market record at address `record`; `likely` as in `l3`."""
    state, counters = context.state[0], context.counters[0]
    head = load_word(record)
    kind, flags, symbol = head & 0xFF, head >> 8 & 0xFF, head >> 16 & 0xFFFF
    if flags & FIRST:
        if state["open_symbol"] != NO_SYMBOL:  # the feed died in the middle of an event and started anew
            counters["half_events"] += 1
            half, state["open_symbol"] = state["open_symbol"], NO_SYMBOL
            _invalidate(context, half, load_word(record + READ_NS))
        state["open_symbol"] = symbol
        state["popped_ns"] = read_clock(context.clock)
        note(context.samples, state["transport_hop"], state["popped_ns"] - load_word(record + PUBLISH_NS))
        if kind == SNAPSHOT:
            _forget(context, context.levels_max, symbol)
    elif state["open_symbol"] != symbol:
        counters["half_events"] += 1  # the rest of an event whose beginning an earlier book took with it
        return
    _take_levels(context, context.levels_max, record, symbol)
    if flags & END:
        state["open_symbol"] = NO_SYMBOL
        counters["messages_in"] += 1
        if kind == TRADE:
            price = load_word(record + PRICE)
            _take_trade(context, symbol, record, price, SELL if flags & SELLER_AGGRESSED else BUY)
        elif kind == RESET:
            _invalidate(context, symbol, load_word(record + READ_NS))
        else:
            _end_levels(context, context.levels_max, record, symbol)
            _take_order(context, context.engine, record, symbol, likely)


@primitive
def _take_levels(context: Context, levels_max: int | None, record: int, symbol: int) -> None:
    """The levels of one record of a snapshot or a diff, if there are any."""
    if levels_max is None:
        return
    counters, head = context.counters[0], load_word(record)
    kind, bid_count, levels = head & 0xFF, head >> 32 & 0xFFFF, head >> 48 & 0xFFFF
    if kind == SNAPSHOT or (kind == DIFF and context.books[symbol]["is_known"] != 0):
        top.begin_update(context.books[symbol]["top"])
        counters["off_grid"] += _apply(context, record, symbol, bid_count, levels)
        counters["levels"] += levels


@routine
def _apply(context: Context, record: int, symbol: int, bid_count: int, levels: int) -> int:
    """Set the levels of one record; returns how many were off the grid. Not inlined, for the rehearsal's sake."""
    book = context.books[symbol]
    off_grid = 0
    for index in range(levels):
        off_tick = _is_off(load_word(record + PRICE + 8 * index), book["tick"], book["per_tick"])
        off_lot = _is_off(load_word(record + QUANTITY + 8 * index), book["lot"], book["per_lot"])
        off_grid += int(off_tick | off_lot)
    for index in range(levels):
        price, quantity = load_word(record + PRICE + 8 * index), load_word(record + QUANTITY + 8 * index)
        l2_book.set_level(book["top"], int(index >= bid_count), price, quantity)
    return off_grid


@primitive
def _is_off(mantissa: int, step: int, per_step: float) -> bool:
    """Whether a mantissa is no multiple of the step: legal, for old orders survive changes of the grid.

    No whole number times the step gives one that is not; the nearest to the quotient gives one that is, as long as the
    quotient is below 2**51. An integer division would take 10 ns.
    """
    return int(mantissa * per_step + 0.5) * step != mantissa


@primitive
def _take_trade(context: Context, symbol: int, record: int, price: int, side: int) -> None:
    """Somebody aggressed on this side, at this price."""
    if load_word(record) >> 8 & AGGREGATE == 0:
        context.books[symbol]["volume"] += load_word(record + QUANTITY)
    _tell_trade(context, symbol, record, price, side)


@primitive
def _end_levels(context: Context, levels_max: int | None, record: int, symbol: int) -> None:
    """A snapshot, diff or ticker is complete: its effect on the book's state, then publish."""
    if levels_max is None:
        return
    state, counters, kind = context.state[0], context.counters[0], load_word(record) & 0xFF
    book = context.books[symbol]
    last_id = load_word(record + LAST_ID)
    if kind == TICKER:
        remember_ticker(book["tickers"], book["ticker_count"], record)
        book["ticker_count"] += 1
        return
    if kind == DIFF and book["is_known"] == 0:
        counters["diffs_ignored"] += 1
        return
    if kind == SNAPSHOT:
        book["deepest_bid"] = l2.deepest_key(l2_book.side_at(book["top"], 0))
        book["deepest_ask"] = l2.deepest_key(l2_book.side_at(book["top"], 1))
        book["is_known"] = 1
        top.set_state(book["top"], VALID)
    book["last_id"] = last_id
    book["exchange_time_ns"] = load_word(record + EXCHANGE_TIME_NS)
    dropped = l2_book.dropped(book["top"])
    if dropped != book["dropped"]:
        book["dropped"] = dropped
        top.set_state(book["top"], STALE)
    counters["crossed"] += int(l2_book.end_event(book["top"]))
    consistent_ns = read_clock(context.clock)
    levels = load_word(record + EVENT_LEVELS)
    if levels > 0:
        note(context.samples, state["update_hop"], (consistent_ns - state["popped_ns"]) // levels)
    _publish(context, symbol, load_word(record + READ_NS))
    note(context.samples, state["publish_hop"], read_clock(context.clock) - consistent_ns)
    if kind == DIFF:
        deepest_bid, deepest_ask = book["deepest_bid"], book["deepest_ask"]
        outcome = check_best(
            book["tickers"], book["ticker_count"], last_id, book["top"], deepest_bid, deepest_ask
        )  # fmt: skip
        counters["bbo_checked"] += int(outcome in (AGREES, DIFFERS))
        counters["bbo_mismatches"] += int(outcome == DIFFERS)
        counters["bbo_beyond_snapshot"] += int(outcome == BEYOND)


@primitive
def _take_order(context: Context, engine: int | None, record: int, symbol: int, likely: int) -> None:
    """A record about a single order, or about trading in a symbol: apply it, tell a trade, publish."""
    if engine is None:
        return
    state, counters, kind = context.state[0], context.counters[0], load_word(record) & 0xFF
    price, own_price, order_side = load_word(record + PRICE), 0, BUY
    if kind not in (ADD, STATUS, START):
        owner, order_side, own_price = standing(engine, load_word(record + FIRST_ID), likely)
        symbol = owner if owner != NO_SYMBOL else symbol  # whatever the message says: it is this book that changes
    book = context.books[symbol]
    if book["is_known"] == 0:
        counters["diffs_ignored"] += 1
        return
    if kind == ADD:
        counters["off_grid"] += int(_is_off(price, book["tick"], book["per_tick"]))
    code = apply_order(context, engine, record, symbol, likely)
    has_turned = settle_state(context, symbol, code)
    book["last_id"] = load_word(record + LAST_ID)
    book["exchange_time_ns"] = load_word(record + EXCHANGE_TIME_NS)
    counters["levels"] += int(code == l3.OK)
    book["dropped"] += int(is_over_limit(code))
    consistent_ns = read_clock(context.clock)
    note(context.samples, state["update_hop"], consistent_ns - state["popped_ns"])
    if is_change(code) and kind == EXECUTE:
        _take_trade(context, symbol, record, price if price != 0 else own_price, 1 - order_side)
    if is_change(code) or has_turned:
        _publish(context, symbol, load_word(record + READ_NS))
    note(context.samples, state["publish_hop"], read_clock(context.clock) - consistent_ns)


@routine
def _invalidate(context: Context, symbol: int, read_ns: int) -> None:
    """Empty the book and say so: nobody may trade on it before the next snapshot."""
    _forget(context, context.levels_max, symbol)
    _publish(context, symbol, read_ns)


@primitive
def _forget(context: Context, levels_max: int | None, symbol: int) -> None:
    """Empty a book of levels. It is DIRTY, but EMPTY if it never was anything else.

    One of orders goes on as it is, STALE for good: no snapshot will tell what was missed.
    """
    book = context.books[symbol]
    if levels_max is None:
        top.set_state(book["top"], STALE)
        return
    was_empty = load_word(book["top"] + top.STATE) == EMPTY
    l2_book.clear(book["top"])
    top.set_state(book["top"], EMPTY if was_empty else DIRTY)
    book["is_known"] = book["last_id"] = 0


@routine
def _write_row(row: int, source: int, payload_bytes: int) -> int:
    """The seqlock's write. Not inlined, for the rehearsal's sake."""
    return seqlock.write(row, source, payload_bytes)


@routine
def _fill_rows(context: Context, symbol: int, read_ns: int) -> None:
    """The scratch records of both tables: the book as it is now."""
    state, book = context.state[0], context.books[symbol]
    fill_bbo(book["top"], state["bbo"], book["last_id"], read_ns, book["volume"])
    _fill_level_depth(context, context.levels_max, symbol, read_ns)
    _fill_order_depth(context, context.engine, symbol, read_ns)


@primitive
def _fill_level_depth(context: Context, levels_max: int | None, symbol: int, read_ns: int) -> None:
    if levels_max is not None:
        state, book = context.state[0], context.books[symbol]
        fill_level_depth(book["top"], state["depth"], book["last_id"], read_ns, book["exchange_time_ns"])


@primitive
def _fill_order_depth(context: Context, engine: int | None, symbol: int, read_ns: int) -> None:
    if engine is not None:
        state, book = context.state[0], context.books[symbol]
        fill_order_depth(book["top"], state["depth"], book["last_id"], read_ns, book["exchange_time_ns"])


@routine
def _publish(context: Context, symbol: int, read_ns: int) -> None:
    """BBO row, depth row, then the notice: who reads the notice finds rows at least as new."""
    state, book = context.state[0], context.books[symbol]
    book["read_ns"] = read_ns
    _fill_rows(context, symbol, read_ns)
    book["version"] = _write_row(state["bbo_table"] + symbol * state["bbo_row_bytes"], state["bbo"], BBO_BYTES)
    _write_row(state["depth_table"] + symbol * state["depth_row_bytes"], state["depth"], DEPTH_BYTES)

    if book["next_pending"] != 0:
        book["pending_merged"] += 1
        context.counters[0]["conflated"] += 1
    else:
        _make_pending(context, symbol)
    _tell_pending(context)


@primitive
def _make_pending(context: Context, symbol: int) -> None:
    """The symbol's newest state has not been told."""
    book = context.books[symbol]
    book["pending_read_ns"], book["pending_merged"] = book["read_ns"], 0
    _enqueue(context, symbol)


@primitive
def _enqueue(context: Context, symbol: int) -> None:
    """Last in the queue of pending symbols."""
    state, books = context.state[0], context.books
    if state["pending_count"] == 0:
        state["pending_first"] = symbol
    else:
        books[state["pending_last"]]["next_pending"] = symbol + 1
    state["pending_last"] = symbol
    books[symbol]["next_pending"] = END_OF_QUEUE
    state["pending_count"] += 1


@primitive
def _dequeue(context: Context) -> None:
    """The first of the queue leaves it."""
    state, first = context.state[0], context.books[context.state[0]["pending_first"]]
    state["pending_first"] = first["next_pending"] - 1
    first["next_pending"] = 0
    state["pending_count"] -= 1


@routine
def _tell_all(context: Context) -> int:
    """A strategy that has started anew knows nothing: tell it the newest state of each book that has one."""
    for symbol in range(len(context.books)):
        if context.books[symbol]["version"] > 0 and context.books[symbol]["next_pending"] == 0:
            _make_pending(context, symbol)
    return _tell_pending(context)


@primitive
def _fill_notice(context: Context, kind: int, symbol: int, read_ns: int) -> None:
    """The fields that notices of both kinds have in common: the book as it is now."""
    state, book, notice = context.state[0], context.books[symbol], context.notice[0]
    at = book["top"]
    notice["kind"], notice["state"], notice["symbol"] = kind, top.state(at), symbol
    notice["version"], notice["last_id"] = book["version"], book["last_id"]
    notice["bid_price"], notice["bid_quantity"] = load_word(at + top.BID_PRICE), load_word(at + top.BID_QUANTITY)
    notice["ask_price"], notice["ask_quantity"] = load_word(at + top.ASK_PRICE), load_word(at + top.ASK_QUANTITY)
    notice["read_ns"] = read_ns
    state["notice_seq"] += 1
    notice["seq"] = state["notice_seq"]
    notice["publish_ns"] = read_clock(context.clock)


@primitive
def _tell_book(context: Context, symbol: int) -> None:
    """Send the notice of the symbol's book. There is room."""
    state, book, notice = context.state[0], context.books[symbol], context.notice[0]
    notice["trade_side"] = notice["trade_price"] = notice["trade_quantity"] = 0
    notice["trade_volume"], notice["exchange_time_ns"] = book["volume"], book["exchange_time_ns"]
    notice["conflated"] = book["pending_merged"]
    _fill_notice(context, NOTICE_BOOK, symbol, book["pending_read_ns"])
    ring.try_push(state["output"], state["notice"])
    context.counters[0]["messages_out"] += 1


@routine
def _tell_pending(context: Context) -> int:
    """Send what is pending while there is room, who waits longest first; returns how many notices that were.

    A symbol with half an event in its book goes to the end of the queue.
    """
    state, told = context.state[0], 0
    for _ in range(state["pending_count"]):
        symbol = state["pending_first"]
        if symbol == state["open_symbol"]:
            _dequeue(context)
            _enqueue(context, symbol)
        elif ring.room(state["output"], 1) < 1:
            break
        else:
            _dequeue(context)
            _tell_book(context, symbol)
            told += 1
    return told


@primitive
def _tell_trade(context: Context, symbol: int, record: int, price: int, side: int) -> None:
    """A notice for one trade, or a count when there is no room."""
    state, book, notice, counters = context.state[0], context.books[symbol], context.notice[0], context.counters[0]
    if ring.room(state["output"], 1) < 1:
        counters["trades_missed"] += 1
        return
    notice["trade_side"] = side
    notice["trade_price"], notice["trade_quantity"] = price, load_word(record + QUANTITY)
    notice["trade_volume"], notice["exchange_time_ns"] = book["volume"], load_word(record + EXCHANGE_TIME_NS)
    notice["conflated"] = 0
    _fill_notice(context, NOTICE_TRADE, symbol, load_word(record + READ_NS))
    ring.try_push(state["output"], state["notice"])
    counters["messages_out"] += 1
