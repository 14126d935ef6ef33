"""Price levels of one side, best first: a dict for the values and a sorted list for the order.

Inserting into a sorted list moves memory, but a book of 5,000 levels is 40 kB: about a microsecond, and this
code is cold (the paper exchange and test oracles use it; the pipeline's own books are compiled).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from enum import IntEnum
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Side(IntEnum):
    """The side of an order; as a number, the sign that makes a better price a larger key."""

    BUY = 1
    SELL = -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class Ladder(Generic[Value]):
    """Values by price for one side; the best price is the highest bid or the lowest ask."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._sign = int(side)
        self._values: dict[int, Value] = {}
        self._keys: list[int] = []  # sign * price, ascending: the best is last

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, price: int) -> bool:
        return price in self._values

    def get(self, price: int) -> Value | None:
        return self._values.get(price)

    def put(self, price: int, value: Value) -> None:
        if price not in self._values:
            insort(self._keys, self._sign * price)
        self._values[price] = value

    def remove(self, price: int) -> None:
        """Forget a level; an unknown price is no error (recorded diffs delete levels we never saw)."""
        if self._values.pop(price, None) is not None:
            del self._keys[bisect_left(self._keys, self._sign * price)]

    def best_price(self) -> int | None:
        return self._sign * self._keys[-1] if self._keys else None

    def best_first(self) -> Iterator[tuple[int, Value]]:
        """Levels from the best price outwards; do not change the ladder while iterating."""
        values, sign = self._values, self._sign
        for key in reversed(self._keys):
            price = sign * key
            yield price, values[price]

    def clear(self) -> None:
        self._values.clear()
        self._keys.clear()
