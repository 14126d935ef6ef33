"""Order messages through the book stage: records in its ring, its notices and rows out, of two equal stages.

    stage    the ring holds WAITING records at a time: what the next ones need is asked for while the first are applied
    alone    one record at a time

The rows of both, and the bytes of their books, must be equal in the end.
"""

import time

import numpy as np
from numpy.typing import NDArray

from bench.book import LIVE, QUICK_LIVE, QUICK_SYMBOLS, SYMBOLS
from bench.book_streams import Stream
from pipeline.line.stepped import NEVER_NS, SteppedLine
from shm import ring
from shm.kernel import kernel
from shm.layout import bytes_at
from stages.book.context import Context
from stages.book.kernel import BATCH, poll
from stages.book.memory import order_capacity
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE, FEED_TO_BOOK
from stages.domain.instruments import INSTRUMENT
from stages.domain.messages import MARKET, MarketFlag, MarketKind
from stages.domain.orderbook.batch import OrderKind
from stages.domain.orderbook.engine import engine_bytes
from stages.feed.context import Format

WAITING = {"stage": 64, "alone": 1}
MARKET_BYTES = MARKET.itemsize
SLICE = 8_192
ROUNDS, QUICK_ROUNDS = 120, 4
_KINDS = {
    OrderKind.ADD: MarketKind.ADD,
    OrderKind.EXECUTE: MarketKind.EXECUTE,
    OrderKind.CANCEL: MarketKind.REDUCE,
    OrderKind.DELETE: MarketKind.DELETE,
    OrderKind.REPLACE: MarketKind.REPLACE,
}


@kernel
def _through(context: Context, source: int, target: int, records: int, count: int, waiting: int) -> None:
    """Fill the input ring and empty it, again and again; the strategy takes all notices at once."""
    for at in range(0, count, waiting):
        ring.push_batch(source, records + at * MARKET_BYTES, min(waiting, count - at))
        while ring.count(source) > 0:
            poll(context, 0)
            ring.advance(target, ring.available(target, 4 * BATCH))


class Stage:
    """A book stage over memory; ns a message of each slice."""

    def __init__(self, waiting: int, live: int, symbols: int) -> None:
        most = live + live // 20
        self._waiting, self._settings = waiting, BookSettings(orders_max=most, symbol_orders_max=most)
        table = np.zeros(symbols, INSTRUMENT)
        table["symbol"] = [f"S{symbol}".encode() for symbol in range(symbols)]
        table["tick"] = table["lot"] = 1
        table["price_exponent"] = table["quantity_exponent"] = -8
        self.line = SteppedLine(table, book=self._settings, stream_format=Format.ITCH)
        self.line.rest()
        self.line.book.context.audit["next_ns"] = NEVER_NS
        self.slices: list[float] = []

    def run(self, records: NDArray[np.void]) -> None:
        """A slice."""
        source, target = (self.line.segments[name].address for name in (FEED_TO_BOOK, BOOK_TO_STRATEGY))
        start = time.thread_time_ns()
        _through(self.line.book.context, source, target, records.ctypes.data, len(records), self._waiting)
        self.slices.append((time.thread_time_ns() - start) / len(records))

    def outcome(self) -> tuple[bytes, bytes]:
        """The rows of all symbols, and the books."""
        rows = (
            self.line.row(table, symbol)[1] for table in (BBO_TABLE, DEPTH_TABLE) for symbol in range(self.line.symbols)
        )
        engine = self.line.book.context.engine
        assert engine is not None
        size = engine_bytes(order_capacity(self._settings, self.line.symbols))
        return b"".join(row.tobytes() for row in rows), bytes(bytes_at(engine, size))


def market_records(messages: NDArray[np.void]) -> NDArray[np.void]:
    """ORDER_MESSAGEs as the feed hands them on."""
    kinds = np.zeros(1 + max(OrderKind), np.uint8)
    for kind, market_kind in _KINDS.items():
        kinds[kind] = market_kind
    records = np.zeros(len(messages), MARKET)
    records["kind"], records["flags"] = kinds[messages["kind"]], MarketFlag.FIRST | MarketFlag.END
    records["symbol"], records["bid_count"] = messages["symbol"], 1 - messages["side"]
    records["first_id"] = messages["order_id"]
    records["price"][:, 0], records["quantity"][:, 0] = messages["price"], messages["quantity"]
    records["quantity"][:, 1] = messages["new_id"]
    return records


def run_stage(*, is_local: bool, quick: bool) -> dict[str, list[float]]:
    """ns a message of each slice, by mode. Raises RuntimeError when the two stages differ."""
    live, symbols = (QUICK_LIVE, QUICK_SYMBOLS) if quick else (LIVE, SYMBOLS)
    stages = {mode: Stage(waiting, live, symbols) for mode, waiting in WAITING.items()}
    source = Stream(is_local=is_local, live=live, symbols=symbols)
    preload = source.preload()
    parts = [preload[at : at + SLICE] for at in range(0, len(preload), SLICE)]
    for number in range(len(parts) + (QUICK_ROUNDS if quick else ROUNDS)):
        records = market_records(parts[number] if number < len(parts) else source.messages(SLICE))
        for stage in stages.values():
            stage.run(records)
    if len({stage.outcome() for stage in stages.values()}) != 1:
        raise RuntimeError("what the stage published depends on how many records waited")
    return {mode: stage.slices[len(parts) :] for mode, stage in stages.items()}
