"""Memory of the books, all of it allocated when the stage is made: what a symbol costs, and what holds a level."""

from typing import Any

from shm.layout import WRITER_SEPARATION_BYTES, align_up
from stages.book.settings import BookSettings
from stages.domain.orderbook import l2
from stages.domain.orderbook.top import BOOK_BYTES


def side_bytes(levels_max: int) -> int:
    """Bytes of a side of a book of levels."""
    return align_up(l2.side_bytes(levels_max), WRITER_SEPARATION_BYTES)


def symbol_bytes(levels_max: int) -> int:
    """Bytes of a book of levels, both sides and its top."""
    return BOOK_BYTES + 2 * side_bytes(levels_max)


def memory_document(settings: BookSettings, symbols: int) -> dict[str, Any]:
    """What the books of `symbols` symbols take, and the limits at which one goes stale."""
    return {
        "symbols": symbols,
        "levels_max": settings.levels_max,
        "bytes_per_level": round(side_bytes(settings.levels_max) / settings.levels_max, 1),
        "bytes_per_symbol": symbol_bytes(settings.levels_max),
        "bytes": symbols * symbol_bytes(settings.levels_max),
    }


def memory_words(document: dict[str, Any]) -> str:
    """The same in a line."""
    return (
        f"books: {document['bytes'] / 1e6:.1f} MB of the book's own memory: {document['symbols']} symbols of "
        f"{document['bytes_per_symbol']:,} bytes, each with room for {document['levels_max']:,} levels a side "
        f"({document['bytes_per_level']:g} bytes a level, book.levels_max); one more makes its symbol stale"
    )
