"""What a strategy file imports. A strategy is plain functions; the line compiles them.

    from stages.strategy.api import BUY, LIMIT, Parameter, cancel, is_open, place, state_record

    PARAMETERS = {"size_lots": Parameter(default=10, minimum=1, maximum=1_000, help="Size of an order, in lots")}
    STATE = state_record("order_id")                    # one private record per symbol, all zero at the start

    def on_book(ctx, book):                             # the best bid or ask of a symbol changed
        mine = ctx.state[book.symbol]
        if book.is_valid and not is_open(ctx, mine["order_id"]):
            mine["order_id"] = place(ctx, book.symbol, BUY, book.bid_ticks, ctx.parameters.size_lots)

    def on_trade(ctx, trade): ...                       # somebody traded                   (optional)
    def on_report(ctx, report): ...                     # news of one of our own orders     (optional)
    def on_restart(ctx): ...                            # go on for a process that died     (optional, see below)

Everything is an integer: prices in ticks, quantities in lots, times in ns. `shipped/spread.py` and
`shipped/market_maker.py` are the worked examples.

`ctx` has
    positions[symbol]         net position in lots, from our own fills
    working_buys[symbol], working_sells[symbol]         lots of our open orders
    orders[slot]              our orders (ORDER_VIEW); `slot_of(order_id)` names the row
    parameters.name           the values of PARAMETERS
    instruments[symbol]       the grid: tick, lot, minimum_lots ... (stages.domain.instruments.INSTRUMENT)
    state[symbol]["field"]    your own record per symbol, as STATE declares it
    now_ns                    the time of this decision

When the strategy's process is restarted while the line trades, positions and open orders are handed over to the new
one, and ctx.state is empty again. `on_restart` is then called before any other handler: it finds its orders in
ctx.orders (those with a `status` other than FREE). Without it the line cancels them.

A handler's orders leave together when it returns. One that raises (an index out of range, say) has sent nothing, and
stops trading. Functions a handler calls, here or in modules beside the strategy file, are compiled with it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm import ring
from shm.kernel import primitive
from shm.layout import record_dtype
from stages.domain import messages
from stages.domain.messages import OrderKind
from stages.domain.orders import ORDER_SLOTS, SLOT_MASK

BUY = int(messages.Side.BUY)
SELL = int(messages.Side.SELL)
LIMIT = int(messages.OrderType.LIMIT)
LIMIT_MAKER = int(messages.OrderType.LIMIT_MAKER)
MARKET = int(messages.OrderType.MARKET)
GTC = int(messages.TimeInForce.GTC)
IOC = int(messages.TimeInForce.IOC)
FOK = int(messages.TimeInForce.FOK)

ACKED = int(messages.ReportKind.ACKED)
FILLED = int(messages.ReportKind.FILLED)
CANCELLED = int(messages.ReportKind.CANCELLED)
EXPIRED = int(messages.ReportKind.EXPIRED)
REJECTED = int(messages.ReportKind.REJECTED)
CANCEL_REJECTED = int(messages.ReportKind.CANCEL_REJECTED)
DENIED = int(messages.ReportKind.DENIED)
UNKNOWN = int(messages.ReportKind.UNKNOWN)

FREE, PENDING, WORKING, CANCELLING = 0, 1, 2, 3
"""`status` of an order: over or never placed, on its way, at the venue, being cancelled."""

MAXIMUM_OUTPUTS = 64
"""Most orders and cancels one call of a handler can send."""

NEW = int(OrderKind.NEW)
CANCEL = int(OrderKind.CANCEL)


@dataclass(frozen=True)
class Parameter:
    """A number the trader may set: default, least and greatest value, and help that names the unit."""

    default: int
    minimum: int
    maximum: int
    help: str


def state_record(*fields: str) -> np.dtype:
    """A record of int64 `fields`, for STATE."""
    return np.dtype([(field, "<i8") for field in fields])


ORDER_VIEW = record_dtype(
    [
        ("order_id", "<i8"),
        ("status", "<i8"),
        ("symbol", "<i8"),
        ("side", "<i8"),
        ("price_ticks", "<i8"),
        ("quantity_lots", "<i8"),
        ("leaves_lots", "<i8"),
        ("cumulative_lots", "<i8"),
    ],
    64,
)


class Book(NamedTuple):
    """The best bid and ask of a symbol, rounded to the grid away from the middle (bid down, ask up)."""

    symbol: int
    is_valid: bool
    """False while the book is being rebuilt, one side is empty or the sides cross: cancel, do not quote."""
    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    version: int
    exchange_time_ns: int
    read_ns: int
    is_halted: bool
    """The venue has halted trading in the symbol: new orders are denied, cancels pass. Such a book is not valid."""


class Trade(NamedTuple):
    """A trade of the market. `side` is the aggressor's."""

    symbol: int
    side: int
    price_ticks: int
    quantity_lots: int
    exchange_time_ns: int
    read_ns: int


class Report(NamedTuple):
    """News of one of our orders; positions and ctx.orders already show it. `is_final`: the order is over."""

    symbol: int
    kind: int
    reason: int
    order_id: int
    side: int
    price_ticks: int
    last_price_ticks: int
    last_lots: int
    cumulative_lots: int
    leaves_lots: int
    is_final: bool


class StrategyContext(NamedTuple):
    """`ctx`; see the module's text."""

    positions: NDArray[np.int64]
    working_buys: NDArray[np.int64]
    working_sells: NDArray[np.int64]
    orders: NDArray[np.void]
    parameters: Any
    """A NamedTuple of ints, made from PARAMETERS."""
    instruments: NDArray[np.void]
    state: NDArray[np.void]
    now_ns: int
    engine: NDArray[np.void]
    """This and what follows are the line's own: leave them alone. Arrays, because Numba copies a record in a tuple."""
    counters: NDArray[np.void]
    outgoing: NDArray[np.void]


@primitive
def slot_of(order_id: int) -> int:
    """Row of an order in ctx.orders."""
    return order_id & SLOT_MASK


@primitive
def status(ctx: StrategyContext, order_id: int) -> int:
    """FREE, PENDING, WORKING or CANCELLING; FREE for order id 0."""
    order = ctx.orders[slot_of(order_id)]
    return order["status"] if order_id > 0 and order["order_id"] == order_id else FREE


@primitive
def is_open(ctx: StrategyContext, order_id: int) -> bool:
    """True until the order's final report: something of it is, or may be, at the venue."""
    return status(ctx, order_id) != FREE


@primitive
def lots_of(ctx: StrategyContext, symbol: int, quote_units: int, price_ticks: int) -> int:
    """Lots whose value at `price_ticks` is at most `quote_units` whole units of the quote asset, at least 1."""
    instrument = ctx.instruments[symbol]
    # value of one lot in quote mantissas (1e-8), rounded up; price mantissa x lot mantissa x 1e-16 would overflow
    price = price_ticks * instrument["tick"]
    lot = instrument["lot"]
    lot_value = price // 100_000_000 * lot + (price % 100_000_000 * lot + 99_999_999) // 100_000_000
    return max(1, quote_units * 100_000_000 // max(1, lot_value))


@primitive
def place(
    ctx: StrategyContext,
    symbol: int,
    side: int,
    price_ticks: int,
    quantity_lots: int,
    order_type: int = LIMIT,
    time_in_force: int = GTC,
) -> int:
    """Ask for a new order. Returns its id, or 0 when the line is busy: decide again at the next event.

    A MARKET order has price_ticks 0; LIMIT_MAKER never takes and has no time in force. Raises IndexError for a symbol
    or side that does not exist.
    """
    if symbol < 0 or symbol >= len(ctx.positions) or side < BUY or side > SELL:
        raise IndexError("place: symbol must be an index of the instrument table, side BUY or SELL")
    engine = ctx.engine[0]
    order_id = _free_id(ctx)
    target = _claim(ctx)
    if order_id == 0 or target == 0:
        ctx.counters[0]["busy"] += 1
        return 0
    engine["last_order_id"] = order_id
    order = ctx.orders[slot_of(order_id)]
    order["order_id"] = order_id
    order["status"] = PENDING
    order["symbol"] = symbol
    order["side"] = side
    order["price_ticks"] = price_ticks
    order["quantity_lots"] = quantity_lots
    order["leaves_lots"] = quantity_lots
    order["cumulative_lots"] = 0
    if side == BUY:
        ctx.working_buys[symbol] += quantity_lots
    else:
        ctx.working_sells[symbol] += quantity_lots
    _write(ctx, target, NEW, order, order_type, time_in_force)
    ctx.counters[0]["submitted"] += 1
    return order_id


@primitive
def cancel(ctx: StrategyContext, order_id: int) -> bool:
    """Ask to cancel an order. True when the request is on its way or was before; False when the order is not open, or
    the line is busy. The order stays open until its final report."""
    current = status(ctx, order_id)
    if current == CANCELLING:
        return True
    if current == FREE:
        return False
    target = _claim(ctx)
    if target == 0:
        ctx.counters[0]["busy"] += 1
        return False
    order = ctx.orders[slot_of(order_id)]
    order["status"] = CANCELLING
    _write(ctx, target, CANCEL, order, LIMIT, GTC)
    ctx.counters[0]["cancels_submitted"] += 1
    return True


@primitive
def _free_id(ctx: StrategyContext) -> int:
    """The next order id whose row is free, 0 when there is none."""
    candidate = ctx.engine[0]["last_order_id"]
    for _ in range(ORDER_SLOTS):
        candidate += 1
        if ctx.orders[slot_of(candidate)]["status"] == FREE:
            return candidate
    return 0


@primitive
def _claim(ctx: StrategyContext) -> int:
    """Address of the ring slot for the handler's next output, 0 when there is no room."""
    engine = ctx.engine[0]
    pending = engine["pending"]
    if pending >= MAXIMUM_OUTPUTS or ring.room(engine["orders_out"], pending + 1) <= pending:
        return 0
    return ring.claim(engine["orders_out"], pending)


@primitive
def _write(ctx: StrategyContext, target: int, kind: int, order: np.void, order_type: int, time_in_force: int) -> None:
    """Put the request into its claimed slot; nobody sees it before the handler has returned."""
    engine, record = ctx.engine[0], ctx.outgoing[0]
    engine["pending"] += 1
    record["kind"] = kind
    record["side"] = order["side"]
    record["symbol"] = order["symbol"]
    record["order_type"] = order_type
    record["time_in_force"] = time_in_force
    record["origin"] = engine["origin"]
    record["order_id"] = order["order_id"]
    record["price_ticks"] = order["price_ticks"]
    record["quantity_lots"] = order["quantity_lots"]
    record["version"] = engine["version"]
    record["read_ns"] = engine["read_ns"]
    record["seq"] = engine["order_seq"] + engine["pending"]
    record["cause_seq"] = engine["cause_seq"]
    ring.copy_record(target, engine["outgoing"], ORDER_BYTES)


ORDER_BYTES = messages.ORDER.itemsize
