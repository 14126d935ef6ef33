"""Raw messages to market records: a trade is told; a quote, which does not say its side, is no book and gives none.

Nor does a trade say who was the aggressor: it counts as a buyer's. Prices have 8 decimals and quantities none; records
have the exponents of the instrument table. A symbol's id is what the table says; by default what its name says where
all are called ID and a number, else its index.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_word, store_word
from shm.kernel import primitive, routine
from shm.layout import field_offset, record_dtype
from shm.ring import claim
from stages.domain.codecs import raw
from stages.domain.codecs.binance_market import PRICE, QUANTITY, stage_headers
from stages.domain.codecs.itch_market import NOT_TRADED, OTHER, TOO_LARGE, scales
from stages.domain.messages import MarketKind

TABLE = record_dtype(
    [
        ("symbol_count", "<i8"),
        ("ids", "<i8"),  # addresses of a word per symbol: all ids in ascending order,
        ("symbols", "<i8"),  # whose each of them is,
        ("price_scales", "<i8"),  # and by symbol what a price is to be multiplied by
        ("quantity_scales", "<i8"),
    ],
    64,
)
_SYMBOL_COUNT, _IDS, _SYMBOLS, _PRICE_SCALES, _QUANTITY_SCALES = (
    field_offset(TABLE, name) for name in ("symbol_count", "ids", "symbols", "price_scales", "quantity_scales")
)
TRADE = int(MarketKind.TRADE)
MANTISSA_LIMIT = 2**62


_NAME = re.compile(r"ID(\d{1,10})")


def symbol_name(symbol_id: int) -> str:
    """What the symbol of an id is called that nobody has named."""
    return f"ID{symbol_id}"


def _ids_of(names: Sequence[str]) -> Sequence[int]:
    found = [int(match[1]) for match in map(_NAME.fullmatch, names) if match is not None]
    return found if len(found) == len(names) else range(len(names))


class SymbolTable:
    """Cold: the memory of a table, for the symbols of an INSTRUMENT table. Raises ValueError."""

    def __init__(self, instruments: NDArray[np.void], ids: Sequence[int] = ()) -> None:
        count = len(instruments)
        if ids and len(ids) != count:
            raise ValueError(f"feed.symbol_ids has {len(ids)} ids for {count} symbols")
        own = np.array(ids or _ids_of([name.decode() for name in instruments["symbol"].tolist()]), np.int64)
        self._symbols = np.argsort(own, kind="stable")
        self._ids = own[self._symbols]
        self._price_scales = scales(instruments["price_exponent"], raw.PRICE_EXPONENT)
        self._quantity_scales = scales(instruments["quantity_exponent"], 0)
        self.words: NDArray[Any] = np.zeros(1, TABLE)
        self.words["symbol_count"], self.words["ids"] = count, self._ids.ctypes.data
        self.words["symbols"] = self._symbols.ctypes.data
        self.words["price_scales"] = self._price_scales.ctypes.data
        self.words["quantity_scales"] = self._quantity_scales.ctypes.data
        self.address = int(self.words.ctypes.data)


@primitive
def _symbol_of(table: int, symbol_id: int) -> int:
    """Index of the symbol with an id, the first of several; or NOT_TRADED, in as many steps."""
    ids, count = load_word(table + _IDS), load_word(table + _SYMBOL_COUNT)
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if load_word(ids + 8 * middle) < symbol_id:
            low = middle + 1
        else:
            high = middle
    if low == count or load_word(ids + 8 * low) != symbol_id:
        return NOT_TRADED
    return load_word(load_word(table + _SYMBOLS) + 8 * low)


@routine
def stage_raw(table: int, message: int, staging: int, number: int, read_ns: int) -> int:
    """As `itch_market.stage_message`, for the raw message at address `message`."""
    symbol = _symbol_of(table, raw.symbol_id(message))
    if symbol < 0:
        return NOT_TRADED
    if raw.message_type(message) != raw.TRADE:
        return OTHER
    price, price_scale = raw.price(message), load_word(load_word(table + _PRICE_SCALES) + 8 * symbol)
    quantity, quantity_scale = raw.quantity(message), load_word(load_word(table + _QUANTITY_SCALES) + 8 * symbol)
    price_limit = MANTISSA_LIMIT // price_scale
    if quantity < 0 or quantity >= MANTISSA_LIMIT // quantity_scale or not -price_limit < price < price_limit:
        return TOO_LARGE
    record = claim(staging, 0)
    store_word(record + PRICE, price * price_scale)
    store_word(record + QUANTITY, quantity * quantity_scale)
    stage_headers(staging, TRADE, 0, symbol, 0, 1, number, number, raw.timestamp_ns(message), read_ns)
    return TRADE
