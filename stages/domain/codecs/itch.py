"""NASDAQ TotalView-ITCH 5.0: every message, declared once, and the loads that read it in place.

A message is its type letter and fixed fields, packed, big-endian. Each type's layout is a numpy dtype (a view of the
bytes for cold code); compiled code loads single fields at the offsets that these dtypes give. Nothing is copied.

Prices are 4-byte integers with PRICE_DECIMALS decimals; those of the market-wide circuit breaker (V) have 8 bytes and
8 decimals. Times are ns since midnight, New York, in 6 bytes. Stock symbols are 8 letters, padded with blanks.

Source: Nasdaq TotalView-ITCH 5.0 specification, sections 1.1 to 1.8 (O: Direct Listing with Capital Raise, of 2021).
"""

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_u8
from shm.kernel import primitive
from stages.domain.codecs.big_endian import load_big_u16, load_big_u32, load_big_u48, load_big_u64

PRICE_DECIMALS = 4
PRICE_EXPONENT = -PRICE_DECIMALS

_Fields = list[tuple[str, str]]

# numpy has no integers of 6 bytes: a time is two fields.
_HEADER: _Fields = [
    ("message_type", "S1"),
    ("stock_locate", ">u2"),
    ("tracking_number", ">u2"),
    ("time_high", ">u2"),
    ("time_low", ">u4"),
]
_STOCK: _Fields = [("stock", "S8")]
_ORDER: _Fields = [("order_reference", ">u8")]
_ADD: _Fields = [*_ORDER, ("side", "S1"), ("shares", ">u4"), *_STOCK, ("price", ">u4")]
_EXECUTED: _Fields = [*_ORDER, ("executed_shares", ">u4"), ("match_number", ">u8")]

_BODIES: dict[str, _Fields] = {
    # System event
    "S": [("event_code", "S1")],
    # Stock directory
    "R": [
        *_STOCK,
        ("market_category", "S1"),
        ("financial_status", "S1"),
        ("round_lot_size", ">u4"),
        ("round_lots_only", "S1"),
        ("issue_classification", "S1"),
        ("issue_sub_type", "S2"),
        ("authenticity", "S1"),
        ("short_sale_threshold", "S1"),
        ("ipo_flag", "S1"),
        ("luld_price_tier", "S1"),
        ("etp_flag", "S1"),
        ("etp_leverage_factor", ">u4"),
        ("inverse_indicator", "S1"),
    ],
    # Stock trading action: H halted, P paused, Q quotation only, T trading
    "H": [*_STOCK, ("trading_state", "S1"), ("reserved", "S1"), ("reason", "S4")],
    # Reg SHO short sale price test
    "Y": [*_STOCK, ("reg_sho_action", "S1")],
    # Market participant position
    "L": [
        ("mpid", "S4"),
        *_STOCK,
        ("primary_market_maker", "S1"),
        ("market_maker_mode", "S1"),
        ("participant_state", "S1"),
    ],
    # Market-wide circuit breaker: decline levels, status
    "V": [("level_1", ">u8"), ("level_2", ">u8"), ("level_3", ">u8")],
    "W": [("breached_level", "S1")],
    # Quoting period update
    "K": [*_STOCK, ("release_time_s", ">u4"), ("release_qualifier", "S1"), ("ipo_price", ">u4")],
    # Limit up, limit down auction collar
    "J": [
        *_STOCK,
        ("reference_price", ">u4"),
        ("upper_price", ">u4"),
        ("lower_price", ">u4"),
        ("extension", ">u4"),
    ],
    # Operational halt
    "h": [*_STOCK, ("market_code", "S1"), ("halt_action", "S1")],
    # Orders: added (F: attributed), executed (C: at another price than shown), cancelled in part, deleted, replaced
    "A": _ADD,
    "F": [*_ADD, ("attribution", "S4")],
    "E": _EXECUTED,
    "C": [*_EXECUTED, ("printable", "S1"), ("execution_price", ">u4")],
    "X": [*_ORDER, ("cancelled_shares", ">u4")],
    "D": _ORDER,
    "U": [*_ORDER, ("new_order_reference", ">u8"), ("shares", ">u4"), ("price", ">u4")],
    # Trades: of orders not shown, of a cross, broken
    "P": [*_ADD, ("match_number", ">u8")],
    "Q": [("shares", ">u8"), *_STOCK, ("cross_price", ">u4"), ("match_number", ">u8"), ("cross_type", "S1")],
    "B": [("match_number", ">u8")],
    # Net order imbalance
    "I": [
        ("paired_shares", ">u8"),
        ("imbalance_shares", ">u8"),
        ("imbalance_direction", "S1"),
        *_STOCK,
        ("far_price", ">u4"),
        ("near_price", ">u4"),
        ("reference_price", ">u4"),
        ("cross_type", "S1"),
        ("price_variation", "S1"),
    ],
    # Retail price improvement
    "N": [*_STOCK, ("interest_flag", "S1")],
    # Direct listing with capital raise
    "O": [
        *_STOCK,
        ("open_eligibility", "S1"),
        ("minimum_price", ">u4"),
        ("maximum_price", ">u4"),
        ("near_price", ">u4"),
        ("near_time", ">u8"),
        ("lower_collar_price", ">u4"),
        ("upper_collar_price", ">u4"),
    ],
}

MESSAGES: dict[str, np.dtype] = {letter: np.dtype(_HEADER + body) for letter, body in _BODIES.items()}
"""Packed big-endian dtype of each message type, by its letter."""

MESSAGE_BYTES_MAX = max(dtype.itemsize for dtype in MESSAGES.values())


def lengths_by_type() -> NDArray[np.int64]:
    """Message length in bytes by type byte, shape (256,); 0 where there is no such type."""
    lengths = np.zeros(256, np.int64)
    for letter, dtype in MESSAGES.items():
        lengths[ord(letter)] = dtype.itemsize
    return lengths


def _offset(field: str, *letters: str) -> int:
    """Where a field is, the same in all of `letters`."""
    found = {int(MESSAGES[letter].fields[field][1]) for letter in letters}  # type: ignore[index]
    assert len(found) == 1, f"{field} is at {found}"
    return found.pop()


_ORDER_TYPES = ("A", "F", "E", "C", "X", "D", "U")
STOCK_LOCATE = _offset("stock_locate", *MESSAGES)
TIME = _offset("time_high", *MESSAGES)
ORDER_REFERENCE = _offset("order_reference", *_ORDER_TYPES, "P")
SIDE = _offset("side", "A", "F", "P")
SHARES = _offset("shares", "A", "F", "P")
STOCK = _offset("stock", "A", "F", "P")
PRICE = _offset("price", "A", "F", "P")
CHANGED_SHARES = _offset("executed_shares", "E", "C")
assert _offset("cancelled_shares", "X") == CHANGED_SHARES
EXECUTION_PRICE = _offset("execution_price", "C")
NEW_ORDER_REFERENCE = _offset("new_order_reference", "U")
NEW_SHARES, NEW_PRICE = _offset("shares", "U"), _offset("price", "U")

EVENT = _offset("event_code", "S")

BUY = ord("B")
SYSTEM_EVENT, START_OF_MESSAGES = ord("S"), ord("O")


@primitive
def locate(at: int) -> int:
    """Stock locate of the message at `at`: the day's number of its security, 0 for what concerns none."""
    return load_big_u16(at + STOCK_LOCATE)


@primitive
def time_ns(at: int) -> int:
    """Time of the message at `at`, ns since midnight."""
    return load_big_u48(at + TIME)


@primitive
def begins_day(at: int, before_ns: int) -> bool:
    """Whether the message at `at`, which follows one of the time `before_ns`, is the first of another day.

    Orders and stock locates are of one day. Streams do go on with the next one: files put together.
    """
    return load_u8(at) == SYSTEM_EVENT and load_u8(at + EVENT) == START_OF_MESSAGES and time_ns(at) < before_ns


@primitive
def order_reference(at: int) -> int:
    """Order that a message of type A, F, E, C, X, D or U is about (of P: always 0), 64 bits."""
    return load_big_u64(at + ORDER_REFERENCE)


@primitive
def added_shares(at: int) -> int:
    """Shares of an A, F or P."""
    return load_big_u32(at + SHARES)


@primitive
def added_price(at: int) -> int:
    """Price of an A, F or P."""
    return load_big_u32(at + PRICE)


@primitive
def changed_shares(at: int) -> int:
    """Shares executed by an E or C, or cancelled by an X."""
    return load_big_u32(at + CHANGED_SHARES)


@primitive
def execution_price(at: int) -> int:
    """Price of a C."""
    return load_big_u32(at + EXECUTION_PRICE)


@primitive
def new_order_reference(at: int) -> int:
    """Order that takes the place of the U's order, 64 bits."""
    return load_big_u64(at + NEW_ORDER_REFERENCE)


@primitive
def new_shares(at: int) -> int:
    """Shares of a U's new order."""
    return load_big_u32(at + NEW_SHARES)


@primitive
def new_price(at: int) -> int:
    """Price of a U's new order."""
    return load_big_u32(at + NEW_PRICE)
