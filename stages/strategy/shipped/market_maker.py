"""Quote both sides around the middle, leaning against the inventory.

The quotes stand `half_spread_ticks` away from a reference price: the middle of the book, moved against the position by
up to `skew_ticks` when the position is at its limit. So a long position makes both prices lower: easier to sell, harder
to buy. A quote that is `requote_ticks` away from where it should be is cancelled, and placed anew on the first tick
after the cancel is through. A side that would carry the position over `position_quote` is not quoted.
"""

from stages.strategy.api import (
    BUY,
    FREE,
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
    "half_spread_ticks": Parameter(
        default=1, minimum=0, maximum=1_000_000, help="Distance of a quote from the reference price, in ticks"
    ),
    "skew_ticks": Parameter(
        default=20, minimum=0, maximum=1_000_000, help="How far a full position moves the reference, in ticks"
    ),
    "requote_ticks": Parameter(
        default=2, minimum=1, maximum=1_000_000, help="Replace a quote that is this far from its place, in ticks"
    ),
    "order_quote": Parameter(default=1_000, minimum=1, maximum=1_000_000, help="Value of a quote, in quote units"),
    "position_quote": Parameter(
        default=10_000, minimum=1, maximum=100_000_000, help="Largest position either way, in quote units"
    ),
}

STATE = state_record("bid_id", "ask_id")
"""The order that quotes each side, 0 for none."""


def on_restart(ctx: StrategyContext) -> None:
    for slot in range(len(ctx.orders)):
        order = ctx.orders[slot]
        if order["status"] != FREE:
            mine = ctx.state[order["symbol"]]
            if order["side"] == BUY:
                mine["bid_id"] = order["order_id"]
            else:
                mine["ask_id"] = order["order_id"]


def on_book(ctx: StrategyContext, book: Book) -> None:
    mine = ctx.state[book.symbol]
    if not book.is_valid:
        cancel(ctx, mine["bid_id"])
        cancel(ctx, mine["ask_id"])
        return
    symbol, bid, ask = book.symbol, book.bid_ticks, book.ask_ticks
    size = lots_of(ctx, symbol, ctx.parameters.order_quote, ask)
    limit = lots_of(ctx, symbol, ctx.parameters.position_quote, ask)
    position = ctx.positions[symbol]
    skew = ctx.parameters.skew_ticks * position // limit
    half_spread = ctx.parameters.half_spread_ticks
    # Never through the other side: a LIMIT_MAKER that would take is refused by the venue.
    buy_at = min((bid + ask) // 2 - half_spread - skew, ask - 1)
    sell_at = max((bid + ask + 1) // 2 + half_spread - skew, bid + 1)
    mine["bid_id"] = keep(ctx, symbol, mine["bid_id"], BUY, buy_at, size if position + size <= limit else 0)
    mine["ask_id"] = keep(ctx, symbol, mine["ask_id"], SELL, sell_at, size if position - size >= -limit else 0)


def keep(ctx: StrategyContext, symbol: int, order_id: int, side: int, price_ticks: int, lots: int) -> int:
    """Keep one quote in place; returns the id of the order that quotes it, 0 for none."""
    if is_open(ctx, order_id):
        away = abs(ctx.orders[slot_of(order_id)]["price_ticks"] - price_ticks)
        if lots == 0 or away >= ctx.parameters.requote_ticks:
            cancel(ctx, order_id)
        return order_id
    return place(ctx, symbol, side, price_ticks, lots, LIMIT_MAKER) if lots > 0 else 0
