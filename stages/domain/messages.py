"""Every record that crosses a ring or a seqlock, declared once.

Prices and quantities of market data are int64 mantissas (value = mantissa * 10**exponent of the instrument; -8 on
Binance). Orders are in ticks and lots: their product fits int64, that of two mantissas does not. Times are ns on
CLOCK_MONOTONIC's scale unless the name says `exchange_time` (ns since the epoch, from the venue).

`read_ns` is when the read that brought the cause returned; `publish_ns` when the record was last published.
"""

from enum import IntEnum

from shm.layout import record_dtype

LEVELS_PER_RECORD = 4
DEPTH_LEVELS = 20
PRICE_EXPONENT = -8
"""Binance's mantissas; the instrument table may say otherwise."""


class Side(IntEnum):
    """Buy or sell; as an aggressor side too."""

    BUY = 0
    SELL = 1


class MarketKind(IntEnum):
    """Kind of a market data record."""

    SNAPSHOT = 1
    """Levels of a full book; the first record of it clears the book."""
    DIFF = 2
    """Absolute quantities of changed levels; 0 removes."""
    TICKER = 3
    """Best bid and ask, levels[0] and levels[1]; compared with the book, never merged into it."""
    TRADE = 4
    """levels[0]; `first_id` is the trade id."""
    RESET = 5
    """The book is invalid until the next snapshot."""
    # Of books of single orders. levels[0] is the order's, among the bids or not; `first_id` is the order.
    ADD = 6
    EXECUTE = 7
    """So much of the order was traded, at its own price where this one is 0."""
    REDUCE = 8
    """So much of the order was withdrawn."""
    DELETE = 9
    REPLACE = 10
    """The order gives way to another, whose id is in quantity[1], on its side."""
    STATUS = 11
    """A halt of the symbol's trading has ended (quantity[0] = 1) or begun (0). There may be several at a time: the kind
    of this one, below 63, is in quantity[1]."""
    START = 12
    """Another session begins: no order of the one before is left."""


class MarketFlag(IntEnum):
    """Bits of a market data record's `flags`."""

    FIRST = 1
    END = 2
    """Last record of its event: only now may the book publish."""
    SELLER_AGGRESSED = 4
    AGGREGATE = 8
    """The trade is told again elsewhere (aggTrade repeats single trades, a cross its executions): it adds no volume."""


# Levels 0..bid_count-1 are bids, the rest up to level_count asks.
# A diff with more than LEVELS_PER_RECORD levels spans records.
MARKET = record_dtype(
    [
        ("kind", "u1"),
        ("flags", "u1"),
        ("symbol", "<u2"),  # index in the instrument table
        ("bid_count", "<u2"),
        ("level_count", "<u2"),
        ("first_id", "<i8"),  # U, or the trade id
        ("last_id", "<i8"),  # u; lastUpdateId of a snapshot
        ("exchange_time_ns", "<i8"),  # 0 where the venue gives none
        ("read_ns", "<i8"),
        ("publish_ns", "<i8"),
        ("event_levels", "<i8"),  # levels in the whole event, in its first record
        ("seq", "<i8"),  # counts events the feed has published
        ("price", "<i8", LEVELS_PER_RECORD),
        ("quantity", "<i8", LEVELS_PER_RECORD),
    ],
    128,
)


class BookState(IntEnum):
    """Whether a book may be traded on."""

    EMPTY = 0
    VALID = 1
    DIRTY = 2
    """Was valid, or lacks orders that were there before its stream began; waits for a snapshot."""
    STALE = 3
    """A limit was reached: what the book shows is not all there is, until the next snapshot."""
    HALTED = 4
    """The book is right, but the venue has halted trading in the symbol."""


class NoticeKind(IntEnum):
    """Kind of a notice from the book to the strategy."""

    BOOK = 1
    TRADE = 2


NOTICE = record_dtype(
    [
        ("kind", "u1"),
        ("state", "u1"),  # BookState
        ("symbol", "<u2"),
        ("trade_side", "<u4"),  # aggressor, of a TRADE
        ("version", "<i8"),  # of the symbol's row in the BBO table
        ("last_id", "<i8"),
        ("bid_price", "<i8"),  # mantissas; 0 with quantity 0 when the side is empty
        ("bid_quantity", "<i8"),
        ("ask_price", "<i8"),
        ("ask_quantity", "<i8"),
        ("trade_price", "<i8"),
        ("trade_quantity", "<i8"),
        ("trade_volume", "<i8"),  # cumulative traded quantity of the symbol, mantissa, wraps
        ("exchange_time_ns", "<i8"),
        ("read_ns", "<i8"),  # of the oldest tick a conflated notice merges
        ("publish_ns", "<i8"),
        ("conflated", "<i8"),  # ticks merged into this notice beyond the first
        ("seq", "<i8"),
    ],
    128,
)

BBO = record_dtype(
    [
        ("bid_price", "<i8"),
        ("bid_quantity", "<i8"),
        ("ask_price", "<i8"),
        ("ask_quantity", "<i8"),
        ("last_id", "<i8"),
        ("read_ns", "<i8"),
        ("state", "<i8"),  # BookState
        ("volume", "<i8"),  # cumulative traded quantity of the symbol, mantissa, wraps
    ],
    64,
)

DEPTH = record_dtype(
    [
        ("bid_levels", "<i8"),  # how many of the rows below are set
        ("ask_levels", "<i8"),
        ("bid_count", "<i8"),  # levels of the whole book
        ("ask_count", "<i8"),
        ("last_id", "<i8"),
        ("exchange_time_ns", "<i8"),
        ("read_ns", "<i8"),
        ("state", "<i8"),  # BookState
        ("bid_price", "<i8", DEPTH_LEVELS),
        ("bid_quantity", "<i8", DEPTH_LEVELS),
        ("ask_price", "<i8", DEPTH_LEVELS),
        ("ask_quantity", "<i8", DEPTH_LEVELS),
    ],
    704,
)


# Published by the book in its table, one row per symbol: the newest integrity check that came to its end.
BOOK_CHECK = record_dtype(
    [
        ("request", "<i8"),  # number of the newest request that it, or an earlier one, answers; 0: none yet
        ("fault", "<i8"),  # 0, or what was wrong (orderbook.integrity.FAULTS)
        ("is_whole", "<i8"),  # 1: of all there is, and nothing changed from its beginning to its end
        ("levels", "<i8"),  # looked at
        ("orders", "<i8"),  # of these levels; 0 in a book of levels
        ("checks", "<i8"),  # of this symbol, by the process that writes this
        ("violations", "<i8"),  # of these, which found something wrong
        ("checked_ns", "<i8"),
    ],
    64,
)

# Written by the supervisor. Row 0 counts all requests, row 1 + symbol those for a check of its book.
CHECK_REQUEST = record_dtype([("count", "<i8")], 64)


class OrderKind(IntEnum):
    """What an order record asks for."""

    NEW = 1
    CANCEL = 2


class OrderType(IntEnum):
    """FIX 40, by Binance's names."""

    LIMIT = 1
    LIMIT_MAKER = 2
    MARKET = 3


class TimeInForce(IntEnum):
    """FIX 59."""

    GTC = 1
    IOC = 2
    FOK = 3


class Origin(IntEnum):
    """What made the strategy ask; tick to trade counts market data only."""

    MARKET_DATA = 1
    REPORT = 2
    TIMER = 3


# A cancel repeats symbol, side and order_id of the order it is for.
ORDER = record_dtype(
    [
        ("kind", "u1"),  # OrderKind
        ("side", "u1"),
        ("symbol", "<u2"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("origin", "u1"),
        ("order_id", "<i8"),  # the seq of client order id t<run>-<seq>; given by the strategy, from 1 upwards
        ("price_ticks", "<i8"),
        ("quantity_lots", "<i8"),
        ("version", "<i8"),  # of the BBO the decision was made on
        ("read_ns", "<i8"),
        ("publish_ns", "<i8"),
        ("seq", "<i8"),
        ("cause_seq", "<i8"),  # seq of the record this one answers
    ],
    128,
)


class ReportKind(IntEnum):
    """Kind of a report that travels from router to risk to strategy."""

    ACKED = 1
    FILLED = 2
    """A (partial) fill; `leaves_lots` says what remains."""
    CANCELLED = 3
    EXPIRED = 4
    """Ended by the venue without our asking (IOC remainder, FOK)."""
    REJECTED = 5
    """The venue refused the order."""
    CANCEL_REJECTED = 6
    """The venue refused a cancel; the order's own reports still come."""
    DENIED = 7
    """Risk refused the order: it never left."""
    UNKNOWN = 8
    """The venue did not say what became of the order."""
    WORKING = 9
    """State told again: the order is open, and so much of it is filled."""
    POSITION = 10
    """State told again: `cumulative_lots` is the symbol's position, signed."""
    STATE_END = 11
    """State told again: that was all, for the reader of epoch `execution_id`; `order_id` is the last one ever seen."""


class ReportOrigin(IntEnum):
    """Who says it, and why."""

    ROUTER = 0
    """News; `cause_seq` in risk's copy is the seq of the router's report."""
    RISK = 1
    """Risk's own answer to an order, `cause_seq`, or its state told again (`cause_seq` 0)."""
    RETOLD = 2
    """The router tells its state again because it, or its reader, started anew: mostly nothing new."""


class Reason(IntEnum):
    """Why an order was denied or refused. Risk's reasons come first; the router's and the venue's from 100."""

    NONE = 0
    QUANTITY_BELOW_MINIMUM = 1
    QUANTITY_EXCEEDS_MAXIMUM = 2
    NOTIONAL_BELOW_MINIMUM = 3
    NOTIONAL_EXCEEDS_MAXIMUM = 4
    PRICE_NOT_POSITIVE = 5
    PRICE_OUTSIDE_COLLAR = 6
    MARKET_DATA_STALE = 7
    MARKET_DATA_INVALID = 8
    POSITION_EXCEEDS_MAXIMUM = 9
    OPEN_ORDERS_EXCEED_MAXIMUM = 10
    ORDER_RATE_EXCEEDED = 11
    DUPLICATE_ORDER_ID = 12
    UNKNOWN_SYMBOL = 13
    NO_LIMIT_CONFIGURED = 14
    TRADING_STOPPED = 15
    UNKNOWN_ORDER = 16
    MALFORMED_ORDER = 17
    TRADING_HALTED = 18
    ROUTER_FULL = 100
    NOT_CONNECTED = 101
    NO_ANSWER = 102
    VENUE_FILTER = 110
    VENUE_INSUFFICIENT_BALANCE = 111
    VENUE_WOULD_MATCH = 112
    VENUE_UNKNOWN_ORDER = 113
    VENUE_RATE_LIMIT = 114
    VENUE_OTHER = 119


REPORT = record_dtype(
    [
        ("kind", "u1"),  # ReportKind
        ("side", "u1"),
        ("symbol", "<u2"),
        ("reason", "<u2"),  # Reason
        ("maker", "u1"),  # 1: the fill was passive
        ("final", "u1"),  # 1: nothing of this order remains at the venue after this report
        ("order_id", "<i8"),
        ("price_ticks", "<i8"),  # of the order
        ("last_price_ticks", "<i8"),  # of this fill
        ("last_quantity_lots", "<i8"),
        ("cumulative_lots", "<i8"),  # filled so far: reports are idempotent
        ("leaves_lots", "<i8"),  # still working
        ("execution_id", "<i8"),  # of the venue, 0 for reports of our own
        ("venue_code", "<i8"),  # error code of the venue, as it gave it
        ("exchange_time_ns", "<i8"),
        ("read_ns", "<i8"),
        ("publish_ns", "<i8"),
        ("seq", "<i8"),
        ("cause_seq", "<i8"),
        ("origin", "<i8"),  # ReportOrigin
    ],
    128,
)

# Published by the router in its table, one row per symbol. Money is in quote mantissas (1e-8 of the quote asset).
POSITION = record_dtype(
    [
        ("quantity_lots", "<i8"),  # signed: long is positive
        ("cost_quote", "<i8"),  # signed: what the open quantity was bought (sold) for
        ("realized_quote", "<i8"),
        ("fees_quote", "<i8"),  # commissions, converted at the fill's price when charged in the base asset
        ("fees_unconverted", "<i8"),  # fills whose commission was in a third asset
        ("working_buy_lots", "<i8"),
        ("working_sell_lots", "<i8"),
        ("open_orders", "<i8"),
        ("bought_lots", "<i8"),
        ("sold_lots", "<i8"),
    ],
    128,
)
