"""The book benchmark's peers: books of price levels, each used as its users use it, from Python."""

import importlib.util
import time
from typing import Any

import numpy as np


class Peer:
    """A book of price levels a symbol; `sides` are mappings from price to quantity."""

    name: str
    package: str

    def __init__(self, symbols: int) -> None:
        self._sides: list[tuple[Any, Any]] = [self.sides() for _ in range(symbols)]
        self.slices: list[float] = []

    @classmethod
    def is_installed(cls) -> bool:
        """Whether this Python has it."""
        return importlib.util.find_spec(cls.package) is not None

    def sides(self) -> tuple[Any, Any]:
        """Bids and asks of a new book."""
        raise NotImplementedError

    def run(self, changes: np.ndarray) -> None:
        """Set the levels of a slice, timed."""
        names = ("symbol", "side", "price", "quantity")
        rows = list(zip(*(changes[name].tolist() for name in names), strict=True))
        books = self._sides
        start = time.thread_time_ns()
        for symbol, side, price, quantity in rows:
            levels = books[symbol][side]
            if quantity:
                levels[price] = quantity
            elif price in levels:
                del levels[price]
        self.slices.append((time.thread_time_ns() - start) / len(rows))

    def levels(self, symbol: int, side: int) -> dict[int, int]:
        """All of a side."""
        levels = self._sides[symbol][side]
        return dict(levels.to_dict() if hasattr(levels, "to_dict") else levels)


class OrderBookPeer(Peer):
    """order-book: sorted dictionaries in C."""

    name = "order-book"
    package = "order_book"

    def sides(self) -> tuple[Any, Any]:
        from order_book import OrderBook

        book = OrderBook()
        return book.bids, book.asks


class SortedContainersPeer(Peer):
    """sortedcontainers: a SortedDict a side."""

    name = "sortedcontainers"
    package = "sortedcontainers"

    def sides(self) -> tuple[Any, Any]:
        from sortedcontainers import SortedDict

        return SortedDict(), SortedDict()


class NautilusPeer(Peer):
    """nautilus_trader: its OrderBook of price levels, in Rust, told of each level by a delta of its own."""

    name = "nautilus_trader"
    package = "nautilus_trader"

    def __init__(self, symbols: int) -> None:
        from nautilus_trader.model.book import OrderBook
        from nautilus_trader.model.enums import BookType
        from nautilus_trader.model.identifiers import InstrumentId

        self._ids = [InstrumentId.from_str(f"S{symbol}.BENCH") for symbol in range(symbols)]
        self._books = [OrderBook(each, BookType.L2_MBP) for each in self._ids]
        self.slices = []

    def run(self, changes: np.ndarray) -> None:
        """A delta a level; making the objects is part of it, as it is for its users."""
        from nautilus_trader.model.data import BookOrder, OrderBookDelta
        from nautilus_trader.model.enums import BookAction, OrderSide
        from nautilus_trader.model.objects import Price, Quantity

        sides = (OrderSide.BUY, OrderSide.SELL)
        names = ("symbol", "side", "price", "quantity")
        rows = list(zip(*(changes[name].tolist() for name in names), strict=True))
        ids, books = self._ids, self._books
        start = time.thread_time_ns()
        for symbol, side, price, quantity in rows:
            order = BookOrder(sides[side], Price.from_int(price), Quantity.from_int(quantity), 0)
            action = BookAction.UPDATE if quantity else BookAction.DELETE
            books[symbol].apply_delta(OrderBookDelta(ids[symbol], action, order, 0, 0, 0, 0))
        self.slices.append((time.thread_time_ns() - start) / len(rows))

    def levels(self, symbol: int, side: int) -> dict[int, int]:
        """All of a side."""
        book = self._books[symbol]
        return {int(level.price): int(level.size()) for level in (book.asks() if side else book.bids())}


PEERS: tuple[type[Peer], ...] = (OrderBookPeer, SortedContainersPeer, NautilusPeer)
