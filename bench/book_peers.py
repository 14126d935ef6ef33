"""The book benchmark's peers: sorted dictionaries of price levels, each used as its users use it, from Python."""

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
        start = time.perf_counter_ns()
        for symbol, side, price, quantity in rows:
            levels = books[symbol][side]
            if quantity:
                levels[price] = quantity
            elif price in levels:
                del levels[price]
        self.slices.append((time.perf_counter_ns() - start) / len(rows))

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


PEERS: tuple[type[Peer], ...] = (OrderBookPeer, SortedContainersPeer)
