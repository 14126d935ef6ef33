"""What everybody may know of a book, of levels or of orders: the BBO and DEPTH records that stand in seqlock tables."""

import numpy as np

from shm.atomics import load_word, store_word
from shm.kernel import primitive, routine
from stages.domain.messages import BBO, DEPTH, DEPTH_LEVELS
from stages.domain.orderbook import l2, l2_book, top
from stages.domain.orderbook.book import level_depth, order_depth, order_level_count


def _offsets(dtype: np.dtype, *fields: str) -> tuple[int, ...]:
    assert dtype.fields is not None
    return tuple(int(dtype.fields[field][1]) for field in fields)


BBO_LAST_ID, BBO_READ_NS, BBO_STATE, BBO_VOLUME = _offsets(BBO, "last_id", "read_ns", "state", "volume")
# The best prices and quantities stand in the record as they stand in the top.
assert _offsets(BBO, "bid_price", "bid_quantity", "ask_price", "ask_quantity") == (
    top.BID_PRICE, top.BID_QUANTITY, top.ASK_PRICE, top.ASK_QUANTITY,
)  # fmt: skip
BID_LEVELS, ASK_LEVELS, BID_COUNT, ASK_COUNT = _offsets(DEPTH, "bid_levels", "ask_levels", "bid_count", "ask_count")
LAST_ID, EXCHANGE_TIME_NS = _offsets(DEPTH, "last_id", "exchange_time_ns")
READ_NS, STATE = _offsets(DEPTH, "read_ns", "state")
PRICES, QUANTITIES = _offsets(DEPTH, "bid_price", "ask_price"), _offsets(DEPTH, "bid_quantity", "ask_quantity")
BID_PRICES, ASK_PRICES = PRICES
BID_QUANTITIES, ASK_QUANTITIES = QUANTITIES


@routine
def fill_bbo(book: int, target: int, last_id: int, read_ns: int, volume: int) -> None:
    """Write the BBO record at address `target`: the book as it is now."""
    for offset in range(0, 32, 8):
        store_word(target + offset, load_word(book + offset))
    store_word(target + BBO_LAST_ID, last_id)
    store_word(target + BBO_READ_NS, read_ns)
    store_word(target + BBO_STATE, top.state(book))
    store_word(target + BBO_VOLUME, volume)


@routine
def fill_level_depth(book: int, target: int, last_id: int, read_ns: int, exchange_time_ns: int) -> None:
    """Write the DEPTH record at address `target`: the best DEPTH_LEVELS levels of both sides of a book of levels."""
    store_word(target + BID_LEVELS, level_depth(book, 0, DEPTH_LEVELS, target + BID_PRICES, target + BID_QUANTITIES))
    store_word(target + ASK_LEVELS, level_depth(book, 1, DEPTH_LEVELS, target + ASK_PRICES, target + ASK_QUANTITIES))
    store_word(target + BID_COUNT, l2.level_count(l2_book.side_at(book, 0)))
    store_word(target + ASK_COUNT, l2.level_count(l2_book.side_at(book, 1)))
    _fill_rest(book, target, last_id, read_ns, exchange_time_ns)


@routine
def fill_order_depth(book: int, target: int, last_id: int, read_ns: int, exchange_time_ns: int) -> None:
    """The same of a book of orders."""
    store_word(target + BID_LEVELS, order_depth(book, 0, DEPTH_LEVELS, target + BID_PRICES, target + BID_QUANTITIES))
    store_word(target + ASK_LEVELS, order_depth(book, 1, DEPTH_LEVELS, target + ASK_PRICES, target + ASK_QUANTITIES))
    store_word(target + BID_COUNT, order_level_count(book, 0))
    store_word(target + ASK_COUNT, order_level_count(book, 1))
    _fill_rest(book, target, last_id, read_ns, exchange_time_ns)


@primitive
def _fill_rest(book: int, target: int, last_id: int, read_ns: int, exchange_time_ns: int) -> None:
    store_word(target + LAST_ID, last_id)
    store_word(target + EXCHANGE_TIME_NS, exchange_time_ns)
    store_word(target + READ_NS, read_ns)
    store_word(target + STATE, top.state(book))
