"""When the spread is wide, quote inside it at the middle: one order at a time per symbol.

The side alternates by inventory: short or flat buys, long sells. The order is cancelled when the spread has closed or
the middle has moved away from it, and a new one is placed when the cancel's report is in.
"""

from stages.strategy.api import (
    BUY,
    LIMIT_MAKER,
    SELL,
    Book,
    Parameter,
    StrategyContext,
    cancel,
    is_open,
    lots_of,
    place,
    slot_of,
    state_record,
)

PARAMETERS = {
    "spread_ticks": Parameter(
        default=3, minimum=2, maximum=1_000_000, help="Quote when ask minus bid is more than this, in ticks"
    ),
    "stale_ticks": Parameter(
        default=5, minimum=1, maximum=1_000_000, help="Cancel when the middle is this far from the order, in ticks"
    ),
    "order_quote": Parameter(default=500, minimum=1, maximum=1_000_000, help="Value of an order, in quote units"),
}

STATE = state_record("order_id")


def on_book(ctx: StrategyContext, book: Book) -> None:
    mine = ctx.state[book.symbol]
    is_wide = book.is_valid and book.ask_ticks - book.bid_ticks > ctx.parameters.spread_ticks
    middle = (book.bid_ticks + book.ask_ticks) // 2
    if is_open(ctx, mine["order_id"]):
        distance = abs(ctx.orders[slot_of(mine["order_id"])]["price_ticks"] - middle)
        if not is_wide or distance >= ctx.parameters.stale_ticks:
            cancel(ctx, mine["order_id"])
    elif is_wide:
        side = SELL if ctx.positions[book.symbol] > 0 else BUY
        lots = lots_of(ctx, book.symbol, ctx.parameters.order_quote, middle)
        mine["order_id"] = place(ctx, book.symbol, side, middle, lots, LIMIT_MAKER)
