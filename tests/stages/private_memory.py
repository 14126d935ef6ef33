"""An agent attached to private memory in place of shared segments: rings and tables a test fills and empties itself."""

import numpy as np

from shm import ring, seqlock
from shm.atomics import peek, poke
from shm.kernel import kernel
from stages import private_memory
from stages.agent import Array
from stages.domain.instruments import INSTRUMENT
from stages.private_memory import attach


@kernel
def push(base: int, record: int) -> bool:
    return ring.try_push(base, record)


@kernel
def pop(base: int, record: int) -> bool:
    return ring.try_pop(base, record)


@kernel
def write_row(row: int, source: int, payload_bytes: int) -> int:
    return seqlock.write(row, source, payload_bytes)


@kernel
def read_row(row: int, target: int, payload_bytes: int) -> int:
    return seqlock.read(row, target, payload_bytes)


class PrivateSegments(private_memory.PrivateSegments):
    """With hands for a test: fills and empties rings, writes and reads rows."""

    def push(self, name: str, record: Array) -> bool:
        """Publish a 1-element record array into ring `name`."""
        return bool(push(self[name].address, record.ctypes.data))

    def pop_all(self, name: str, dtype: np.dtype) -> list[np.void]:
        """Consume everything in ring `name`."""
        records = []
        while True:
            record = np.zeros(1, dtype)
            if not pop(self[name].address, record.ctypes.data):
                return records
            records.append(record[0])

    def unread(self, name: str) -> int:
        head, tail = ring.cursors(self[name].address)
        return tail - head

    def write_row(self, name: str, index: int, record: Array) -> None:
        """Publish a 1-element record array as row `index` of seqlock table `name`."""
        size = record.dtype.itemsize
        write_row(self[name].address + index * seqlock.row_bytes(size), record.ctypes.data, size)

    def read_row(self, name: str, index: int, dtype: np.dtype) -> np.void:
        record = np.zeros(1, dtype)
        read_row(self[name].address + index * seqlock.row_bytes(dtype.itemsize), record.ctypes.data, dtype.itemsize)
        return record[0]


def instruments() -> Array:
    """BTCUSDT and ETHUSDT on Binance's grids."""
    table = np.zeros(2, INSTRUMENT)
    for row, symbol, base, lot, decimals in (
        (table[0], b"BTCUSDT", b"BTC", 1_000, 5),
        (table[1], b"ETHUSDT", b"ETH", 10_000, 4),
    ):
        row["symbol"], row["base_asset"], row["quote_asset"] = symbol, base, b"USDT"
        row["price_exponent"] = row["quantity_exponent"] = -8
        row["tick"], row["lot"] = 1_000_000, lot
        row["minimum_lots"], row["maximum_lots"] = 1, 9_000 * 10**8 // lot
        row["minimum_notional"] = -(-5 * 10**16 // (1_000_000 * lot))
        row["price_decimals"], row["quantity_decimals"] = 2, decimals
    return table


__all__ = ["PrivateSegments", "attach", "instruments", "peek", "poke", "pop", "push", "read_row", "write_row"]
