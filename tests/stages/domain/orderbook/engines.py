"""Order engines and books of levels in memory of their own, for tests: the kernels' faces for ordinary Python."""

from typing import Any

import numpy as np

from shm.kernel import kernel
from shm.layout import bytes_at
from stages.domain.orderbook import l2, l2_book, l3, top
from stages.domain.orderbook.book import depth, queue_ahead, volume, volume_at
from stages.domain.orderbook.engine import Capacity, book_at, engine_bytes, format_engine
from stages.domain.orderbook.integrity import SOUND, check_engine, check_levels
from tests.entered import entered

SCRATCH_LEVELS = 4096


@kernel
def _counted(engine: int, code: int) -> int:
    return l3.count_of(engine, code)


@kernel
def _book_at(engine: int, symbol: int) -> int:
    return book_at(engine, symbol)


@kernel
def _figures(book: int) -> tuple[int, int, int, int, int, int]:
    derived = top.mid(book), top.spread(book), top.microprice(book), top.imbalance(book)
    return top.state(book), top.sequence(book), *derived


@kernel
def _begin(book: int) -> None:
    top.begin_update(book)


def aligned(size: int) -> tuple[np.ndarray[Any, Any], int]:
    """(what keeps it alive, address) of zeroed memory at a multiple of 128."""
    memory = np.zeros(size + 128, np.uint8)
    return memory, -(-int(memory.ctypes.data) // 128) * 128


class Face:
    """A book for ordinary Python."""

    def __init__(self, book: int) -> None:
        self.address = book
        self._scratch = np.zeros((2, SCRATCH_LEVELS), np.int64)

    def levels(self, side: int, count: int = SCRATCH_LEVELS) -> list[tuple[int, int]]:
        prices, quantities = self._scratch[0][:count], self._scratch[1][:count]
        prices[:] = quantities[:] = -1
        copied = entered(depth)(self.address, side, count, prices.ctypes.data, quantities.ctypes.data)
        assert not prices[copied:].any()
        assert not quantities[copied:].any()
        return list(zip(prices[:copied].tolist(), quantities[:copied].tolist(), strict=True))

    def volume(self, side: int, levels: int) -> int:
        return int(volume(self.address, side, levels, self._scratch.ctypes.data))

    def volume_at(self, side: int, price: int) -> int:
        return int(entered(volume_at)(self.address, side, price))

    def queue_ahead(self, order_id: int) -> tuple[int, int]:
        return queue_ahead(self.address, order_id)  # type: ignore[no-any-return]

    def best(self) -> list[int]:
        """Bid, its quantity, ask, its quantity, doubled mid, spread, as they stand in the top line."""
        return np.ndarray((6,), np.int64, bytes_at(self.address, 48)).tolist()

    @property
    def state(self) -> int:
        return int(_figures(self.address)[0])

    @property
    def sequence(self) -> int:
        return int(_figures(self.address)[1])

    def derived(self) -> tuple[int, int, int, int]:
        """Mid, spread, microprice, imbalance."""
        return tuple(int(figure) for figure in _figures(self.address)[2:])  # type: ignore[return-value]


class Engine:
    """An engine, its memory, its books."""

    def __init__(self, capacity: Capacity, salt: int = 0) -> None:
        self.capacity = capacity
        self.size = engine_bytes(capacity)
        self.memory, self.address = aligned(self.size)
        format_engine(self.address, capacity, salt)
        self.books = [Face(int(_book_at(self.address, symbol))) for symbol in range(capacity.symbols)]

    def __getattr__(self, name: str) -> Any:
        operation = entered(getattr(l3, name))
        return lambda *arguments: operation(self.address, *arguments)

    def restore(self, memory: np.ndarray[Any, Any]) -> None:
        """Be again what the engine was when `memory` was copied of it."""
        self.memory[:] = memory

    def memory_bytes(self) -> np.ndarray[Any, Any]:
        """A copy of all of it."""
        return np.ndarray((self.size,), np.uint8, bytes_at(self.address, self.size)).copy()

    def counted(self, code: int) -> int:
        return int(_counted(self.address, code))

    def assert_sound(self) -> None:
        assert check_engine(self.address) == SOUND


class LevelBook(Face):
    """A book of levels, and its memory."""

    def __init__(self, capacity: int) -> None:
        size = l2.side_bytes(capacity)
        self.memory, address = aligned(128 + 2 * (size + 128))
        bids = address + 128
        asks = bids + -(-size // 128) * 128
        for side in (bids, asks):
            l2.format_side(side, capacity)
        l2_book.format_l2_book(address, bids, asks)
        super().__init__(address)

    def event(self, changes: list[tuple[int, int, int]]) -> None:
        """Apply (side, price, quantity) changes as one event."""
        _begin(self.address)
        for side, price, quantity in changes:
            entered(l2_book.set_level)(self.address, side, price, quantity)
        entered(l2_book.end_event)(self.address)

    def restore(self, memory: np.ndarray[Any, Any]) -> None:
        """Be again what the book was when `memory` was copied of it."""
        self.memory[:] = memory

    def assert_sound(self) -> None:
        assert check_levels(self.address) == SOUND
