"""ITCH messages to market records: which symbol a message is about, and what it says of the symbol's book.

A message names its security by stock locate, a number of the day. The stock directory (R) says whose it is; a stream
that begins later does so with any other message that has the stock's name. What is about a locate that nobody has
named yet, or about a security that is not traded here, gives no record.

    A F          ADD
    E C          EXECUTE      C with its own price; one that is not printable adds no volume
    X D U        REDUCE, DELETE, REPLACE
    P Q          TRADE        of orders not shown, of a cross; an empty cross gives no record
    H h          STATUS       trading goes on, or not (halted, paused, quotation only); h: on one market

ITCH prices have 4 decimals and quantities none; records have the exponents of the instrument table.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_u8, load_unaligned, load_word, store_word
from shm.kernel import primitive, routine
from shm.layout import field_offset, record_dtype
from shm.ring import claim
from stages.domain.codecs import itch
from stages.domain.codecs.big_endian import load_big_u32, load_big_u64
from stages.domain.codecs.binance_market import AGGREGATE, PRICE, QUANTITY, SELLER_AGGRESSED, stage_headers
from stages.domain.codecs.itch import MESSAGES
from stages.domain.messages import MarketKind

LOCATES = 65_536
NOT_TRADED = -1
OTHER = 0
TOO_LARGE = -2
"""What `stage_message` says of a message that gives no record: of a security that is not traded here or not named yet;
of a type that is no market event; with a quantity that does not fit a mantissa."""

STOCK_BYTES = 8
_NOBODY = bytes(STOCK_BYTES)
"""In the place of a name that is too long for a stock's."""
QUANTITY_LIMIT = 2**62

DIRECTORY = record_dtype(
    [
        ("names", "<i8"),  # address of the symbols' names, STOCK_BYTES each, padded with blanks: in order, as words,
        ("symbols", "<i8"),  # and of a word for each of them: whose it is
        ("symbol_count", "<i8"),
        ("locates", "<i8"),  # address of a word per locate: 0 not named yet, NOT_TRADED, or the symbol + 1
        ("stock_offsets", "<i8"),  # address of a word per type byte: where a message has the stock's name, or 0
        ("price_scales", "<i8"),  # address of a word per symbol: what a price of ITCH is to be multiplied by
        ("quantity_scales", "<i8"),
    ],
    64,
)

_NAMES, _SYMBOLS, _SYMBOL_COUNT, _LOCATES, _STOCK_OFFSETS, _PRICE_SCALES, _QUANTITY_SCALES = (
    field_offset(DIRECTORY, name)
    for name in ("names", "symbols", "symbol_count", "locates", "stock_offsets", "price_scales", "quantity_scales")
)
_TRADING_STATE, _HALT_ACTION = field_offset(MESSAGES["H"], "trading_state"), field_offset(MESSAGES["h"], "halt_action")
_MARKET = field_offset(MESSAGES["h"], "market_code")
_PRINTABLE = field_offset(MESSAGES["C"], "printable")
_CROSS_SHARES, _CROSS_PRICE = field_offset(MESSAGES["Q"], "shares"), field_offset(MESSAGES["Q"], "cross_price")

ADD, EXECUTE, REDUCE = int(MarketKind.ADD), int(MarketKind.EXECUTE), int(MarketKind.REDUCE)
DELETE, REPLACE = int(MarketKind.DELETE), int(MarketKind.REPLACE)
STATUS, TRADE = int(MarketKind.STATUS), int(MarketKind.TRADE)
_A, _F, _E, _C, _X, _D, _U = (ord(letter) for letter in "AFECXDU")
_P, _Q, _R, _H, _OPERATIONAL = (ord(letter) for letter in "PQRHh")
_TRADING, _YES = ord("T"), ord("Y")
_KIND_MASK = 31
"""The kind of halt: 0, or of an operational one its market by these bits of its letter."""


class Directory:
    """Cold: the memory of a directory, for the symbols of an INSTRUMENT table."""

    def __init__(self, instruments: NDArray[np.void]) -> None:
        self.locates = np.zeros(LOCATES, np.int64)
        names = [bytes(name).ljust(STOCK_BYTES) for name in instruments["symbol"]]
        words = np.frombuffer(b"".join(name if len(name) == STOCK_BYTES else _NOBODY for name in names), np.int64)
        self._symbols = np.argsort(words, kind="stable")
        self._names = words[self._symbols]
        self._stock_offsets = np.zeros(256, np.int64)
        for letter, dtype in MESSAGES.items():
            if dtype.fields is not None and "stock" in dtype.fields:
                self._stock_offsets[ord(letter)] = dtype.fields["stock"][1]
        self._price_scales = scales(instruments["price_exponent"], itch.PRICE_EXPONENT)
        self._quantity_scales = scales(instruments["quantity_exponent"], 0)
        self.words: NDArray[Any] = np.zeros(1, DIRECTORY)
        self.words["symbol_count"] = len(names)
        self.words["names"], self.words["symbols"] = self._names.ctypes.data, self._symbols.ctypes.data
        self.words["locates"] = self.locates.ctypes.data
        self.words["stock_offsets"] = self._stock_offsets.ctypes.data
        self.words["price_scales"] = self._price_scales.ctypes.data
        self.words["quantity_scales"] = self._quantity_scales.ctypes.data
        self.address = int(self.words.ctypes.data)


def scales(exponents: NDArray[np.int64], exponent: int) -> NDArray[np.int64]:
    """What mantissas of `exponent` are multiplied by to have `exponents`. Raises ValueError where none is whole."""
    if (exponents > exponent).any():
        raise ValueError(f"exponents up to {int(exponents.max())} are too coarse for a feed of exponent {exponent}")
    return np.array([10 ** (exponent - int(each)) for each in exponents], np.int64)


@primitive
def _symbol_of(directory: int, message: int, kind: int) -> int:
    """Index of the symbol that a message is about, or NOT_TRADED."""
    slot = load_word(directory + _LOCATES) + 8 * itch.locate(message)
    known = load_word(slot)
    if known == 0 or kind == _R:
        stock = load_word(load_word(directory + _STOCK_OFFSETS) + 8 * kind)
        if stock == 0:
            return NOT_TRADED
        known = _look_up(directory, load_unaligned(message + stock))
        store_word(slot, known)
    return known - 1 if known > 0 else NOT_TRADED


@routine
def _look_up(directory: int, stock: int) -> int:
    """Symbol + 1 of a name, or NOT_TRADED. Looked for by a bisection, once a locate and day."""
    names, low, count = load_word(directory + _NAMES), 0, load_word(directory + _SYMBOL_COUNT)
    high = count
    while low < high:
        middle = (low + high) >> 1
        if load_word(names + STOCK_BYTES * middle) < stock:
            low = middle + 1
        else:
            high = middle
    if low == count or load_word(names + STOCK_BYTES * low) != stock:
        return NOT_TRADED
    return load_word(load_word(directory + _SYMBOLS) + 8 * low) + 1


@routine
def forget_locates(directory: int) -> None:
    """Another session begins: its directory gives the locates anew."""
    locates = load_word(directory + _LOCATES)
    for locate in range(LOCATES):
        store_word(locates + 8 * locate, 0)


@routine
def stage_message(directory: int, message: int, staging: int, number: int, read_ns: int) -> int:
    """Write the record of a message to the first slot behind the tail of a ring, not yet committed.

    number   the message's own in its stream, from 1 on: the record's `last_id`
    Returns the record's kind, OTHER, NOT_TRADED or TOO_LARGE. The times of ITCH count from midnight.
    """
    kind = load_u8(message)
    symbol = _symbol_of(directory, message, kind)
    if symbol < 0:
        return NOT_TRADED
    price_scale = load_word(load_word(directory + _PRICE_SCALES) + 8 * symbol)
    quantity_scale = load_word(load_word(directory + _QUANTITY_SCALES) + 8 * symbol)
    record = claim(staging, 0)
    reference, bids, flags, other = itch.order_reference(message), 0, 0, 0
    price, quantity = 0, 0
    if kind in (_A, _F):
        made, price, quantity = ADD, itch.added_price(message), itch.added_shares(message)
        bids = 1 if load_u8(message + itch.SIDE) == itch.BUY else 0
    elif kind == _D:
        made = DELETE
    elif kind == _U:
        made, price, quantity = REPLACE, itch.new_price(message), itch.new_shares(message)
        other = itch.new_order_reference(message)
    elif kind == _E:
        made, quantity = EXECUTE, itch.changed_shares(message)
    elif kind == _C:
        made, price, quantity = EXECUTE, itch.execution_price(message), itch.changed_shares(message)
        flags = 0 if load_u8(message + _PRINTABLE) == _YES else AGGREGATE
    elif kind == _X:
        made, quantity = REDUCE, itch.changed_shares(message)
    elif kind == _P:
        made, price, quantity = TRADE, itch.added_price(message), itch.added_shares(message)
        flags = SELLER_AGGRESSED if load_u8(message + itch.SIDE) == itch.BUY else 0
    elif kind == _Q:
        made, price, quantity = TRADE, load_big_u32(message + _CROSS_PRICE), load_big_u64(message + _CROSS_SHARES)
        if quantity == 0:
            return OTHER
    elif kind == _H:
        made, quantity = STATUS, int(load_u8(message + _TRADING_STATE) == _TRADING)
    elif kind == _OPERATIONAL:
        made, quantity = STATUS, int(load_u8(message + _HALT_ACTION) == _TRADING)
        other = load_u8(message + _MARKET) & _KIND_MASK
    else:
        return OTHER
    if made != STATUS:
        if quantity < 0 or quantity >= QUANTITY_LIMIT // quantity_scale:
            return TOO_LARGE
        price, quantity = price * price_scale, quantity * quantity_scale
    store_word(record + PRICE, price)
    store_word(record + QUANTITY, quantity)
    stage_headers(staging, made, flags, symbol, bids, 1, reference, number, itch.time_ns(message), read_ns)
    store_word(record + QUANTITY + 8, other)
    return made
