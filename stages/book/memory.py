"""Memory of the books, all of it allocated when the stage is made: what a symbol costs, and what holds a level."""

from typing import Any

from shm.layout import WRITER_SEPARATION_BYTES, align_up
from stages.book.settings import BookSettings
from stages.domain.orderbook import l2
from stages.domain.orderbook.engine import Capacity, bytes_per_order, bytes_per_symbol, engine_bytes
from stages.domain.orderbook.top import BOOK_BYTES


def side_bytes(levels_max: int) -> int:
    """Bytes of a side of a book of levels."""
    return align_up(l2.side_bytes(levels_max), WRITER_SEPARATION_BYTES)


def symbol_bytes(levels_max: int) -> int:
    """Bytes of a book of levels, both sides and its top."""
    return BOOK_BYTES + 2 * side_bytes(levels_max)


SYMBOL_SHARE = 4
"""By default a symbol has at most one part in so many of the orders, and, with each at a price of its own, of one in
two of the levels: what one symbol takes must leave room for the others, or all go stale with it."""


def order_capacity(settings: BookSettings, symbols: int) -> Capacity:
    """How much books of orders hold together."""
    share = settings.orders_max // (SYMBOL_SHARE if symbols > 1 else 1)
    return Capacity.of(symbols, settings.orders_max, symbol_orders_max=settings.symbol_orders_max or share)


def memory_document(settings: BookSettings, symbols: int, *, of_orders: bool) -> dict[str, Any]:
    """What the books of `symbols` symbols take, and the limits at which one goes stale."""
    if of_orders:
        capacity = order_capacity(settings, symbols)
        return {
            "symbols": symbols,
            "orders_max": capacity.orders,
            "order_levels_max": capacity.levels,
            "symbol_orders_max": capacity.symbol_orders_max,
            "bytes_per_order": round(bytes_per_order(capacity), 1),
            "bytes_per_symbol": bytes_per_symbol(),
            "bytes": engine_bytes(capacity),
        }
    return {
        "symbols": symbols,
        "levels_max": settings.levels_max,
        "bytes_per_level": round(side_bytes(settings.levels_max) / settings.levels_max, 1),
        "bytes_per_symbol": symbol_bytes(settings.levels_max),
        "bytes": symbols * symbol_bytes(settings.levels_max),
    }


def memory_words(document: dict[str, Any]) -> str:
    """The same in a line."""
    if "orders_max" in document:
        return (
            f"books: {document['bytes'] / 1e6:.1f} MB of the book's own memory: {document['orders_max']:,} live orders "
            f"of {document['bytes_per_order']:g} bytes (book.orders_max) on {document['order_levels_max']:,} price "
            f"levels (half as many), {document['symbols']} symbols of "
            f"{document['bytes_per_symbol']:,} bytes, each with {document['symbol_orders_max']:,} orders at most "
            "(book.symbol_orders_max); one more makes its symbol stale"
        )
    return (
        f"books: {document['bytes'] / 1e6:.1f} MB of the book's own memory: {document['symbols']} symbols of "
        f"{document['bytes_per_symbol']:,} bytes, each with room for {document['levels_max']:,} levels a side "
        f"({document['bytes_per_level']:g} bytes a level, book.levels_max); one more makes its symbol stale"
    )
