"""Answers every book event with one order, so that each tick of the wire benchmark has its answer."""

from stages.strategy.api import BUY, IOC, LIMIT, Book, StrategyContext, place

ORDER_LOTS = 100


def on_book(ctx: StrategyContext, book: Book) -> None:
    if book.is_valid:
        place(ctx, book.symbol, BUY, book.bid_ticks, ORDER_LOTS, LIMIT, IOC)
