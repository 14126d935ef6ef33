"""ITCH messages into books of single orders, each change of an order compared with the order, in compiled code."""

from shm.atomics import load_u8, load_u32, load_unaligned, load_word, store_word
from shm.kernel import kernel, primitive, routine
from shm.layout import record_dtype
from stages.domain.codecs import itch
from stages.domain.codecs.itch_frames import next_message
from stages.domain.orderbook import book, l3, table, top
from stages.domain.orderbook.engine import BEST, LOTS, ORDER_LEVEL, PREVIOUS, book_at, side_at
from stages.domain.orderbook.itch import BUY, apply

SYMBOLS = 65_536
SIDELESS = SYMBOLS
"""The symbol of orders that replaced one from before the file: nothing says on which side they are."""

TALLY = record_dtype(
    [
        ("origin", "<i8"),  # as the framer's
        ("names", "<i8"),  # addresses of a word per stock locate: its name; messages seen; unknown orders
        ("seen", "<i8"),
        ("unknown_by_locate", "<i8"),
        ("stock_offsets", "<i8"),  # address of a word per type: where a message has its stock's name, or 0
        ("days", "<i8"),  # that began behind another one
        ("messages", "<i8"),
        ("unknown", "<i8"),
        ("sideless", "<i8"),  # messages about orders of unknown side
        ("compared", "<i8"),
        ("matched", "<i8"),
        ("executions", "<i8"),  # of orders known with their side; of these:
        ("at_best", "<i8"),  # at their side's best price
        ("first_in_queue", "<i8"),
        ("last_time_ns", "<i8"),
        ("time_back", "<i8"),
        ("time_back_offset", "<i8"),
        ("time_before_ns", "<i8"),
        ("time_after_ns", "<i8"),
        ("refused", "<i8"),  # messages that no book took: duplicates, bad quantities, limits
        ("refused_offset", "<i8"),
        ("refused_code", "<i8"),
        # the first mismatch
        ("offset", "<i8"),
        ("kind", "<i8"),
        ("locate", "<i8"),
        ("reference", "<i8"),
        ("left", "<i8"),
        ("shares", "<i8"),
    ],
    256,
)


def _offset(field: str) -> int:
    assert TALLY.fields is not None
    return int(TALLY.fields[field][1])


_ORIGIN, _NAMES, _SEEN, _UNKNOWN_BY_LOCATE, _STOCK_OFFSETS = (
    _offset(name) for name in ("origin", "names", "seen", "unknown_by_locate", "stock_offsets")
)
_DAYS, _MESSAGES, _UNKNOWN, _SIDELESS, _COMPARED, _MATCHED = (
    _offset(name) for name in ("days", "messages", "unknown", "sideless", "compared", "matched")
)
_EXECUTIONS, _AT_BEST, _FIRST_IN_QUEUE = (_offset(name) for name in ("executions", "at_best", "first_in_queue"))
_LAST_TIME_NS, _TIME_BACK, _TIME_BACK_OFFSET, _TIME_BEFORE_NS, _TIME_AFTER_NS = (
    _offset(name) for name in ("last_time_ns", "time_back", "time_back_offset", "time_before_ns", "time_after_ns")
)
_REFUSED, _REFUSED_OFFSET, _REFUSED_CODE = (_offset(name) for name in ("refused", "refused_offset", "refused_code"))
_MISMATCH, _KIND, _LOCATE, _REFERENCE, _LEFT, _SHARES = (
    _offset(name) for name in ("offset", "kind", "locate", "reference", "left", "shares")
)
_EXECUTE, _EXECUTE_AT_PRICE, _CANCEL, _REPLACE = ord("E"), ord("C"), ord("X"), ord("U")


@primitive
def _add(address: int, amount: int) -> None:
    store_word(address, load_word(address) + amount)


@kernel
def take_piece(framer: int, engine: int, tally: int, end: int, is_last: bool) -> None:
    """Take all messages up to `end`, as far as they are whole."""
    message = next_message(framer, end, is_last)
    while message != 0:
        take_message(engine, tally, message)
        message = next_message(framer, end, is_last)


@routine
def take_message(engine: int, tally: int, message: int) -> None:
    """Compare one message with the order it is about, and apply it."""
    kind, locate = load_u8(message), itch.locate(message)
    if itch.begins_day(message, load_word(tally + _LAST_TIME_NS)):
        _begin_day(engine, tally)
    _add(tally + _MESSAGES, 1)
    _add(load_word(tally + _SEEN) + 8 * locate, 1)
    _watch_time(tally, message)
    stock = load_word(load_word(tally + _STOCK_OFFSETS) + 8 * kind)
    if stock != 0:
        store_word(load_word(tally + _NAMES) + 8 * locate, load_unaligned(message + stock))
    if kind in (_EXECUTE, _EXECUTE_AT_PRICE, _CANCEL):
        _compare(engine, tally, message, kind)
    code = apply(engine, message)
    if code == l3.UNKNOWN:
        _add(tally + _UNKNOWN, 1)
        _add(load_word(tally + _UNKNOWN_BY_LOCATE) + 8 * locate, 1)
        if kind == _REPLACE:
            reference, shares = itch.new_order_reference(message), itch.new_shares(message)
            code = l3.add(engine, SIDELESS, reference, BUY, itch.new_price(message), shares)
    if code < 0 and code != l3.UNKNOWN and code != l3.TOO_MUCH:
        if load_word(tally + _REFUSED) == 0:
            store_word(tally + _REFUSED_OFFSET, message - load_word(tally + _ORIGIN))
            store_word(tally + _REFUSED_CODE, code)
        _add(tally + _REFUSED, 1)


@routine
def _begin_day(engine: int, tally: int) -> None:
    """Of the day before, orders, names and what was unknown are no more."""
    _add(tally + _DAYS, 1)
    store_word(tally + _LAST_TIME_NS, 0)
    for symbol in range(SIDELESS + 1):
        if top.sequence(book_at(engine, symbol)) != 0:
            l3.clear(engine, symbol)
    for locate in range(SYMBOLS):
        store_word(load_word(tally + _NAMES) + 8 * locate, 0)
        store_word(load_word(tally + _UNKNOWN_BY_LOCATE) + 8 * locate, 0)


@primitive
def _watch_time(tally: int, message: int) -> None:
    time_ns, before_ns = itch.time_ns(message), load_word(tally + _LAST_TIME_NS)
    if time_ns < before_ns:
        if load_word(tally + _TIME_BACK) == 0:
            store_word(tally + _TIME_BACK_OFFSET, message - load_word(tally + _ORIGIN))
            store_word(tally + _TIME_BEFORE_NS, before_ns)
            store_word(tally + _TIME_AFTER_NS, time_ns)
        _add(tally + _TIME_BACK, 1)
    store_word(tally + _LAST_TIME_NS, time_ns)


@primitive
def _compare(engine: int, tally: int, message: int, kind: int) -> None:
    """An order can lose no more than it has. Where in the book an executed one stood is noted."""
    reference, shares = itch.order_reference(message), itch.changed_shares(message)
    order = l3.find_order(engine, l3.order_hash(engine, reference), reference)
    if order == 0:
        return
    left, number = load_word(order + LOTS), load_u32(order + ORDER_LEVEL)
    _add(tally + _COMPARED, 1)
    if 0 < shares <= left:
        _add(tally + _MATCHED, 1)
    elif load_word(tally + _COMPARED) - load_word(tally + _MATCHED) == 1:
        store_word(tally + _MISMATCH, message - load_word(tally + _ORIGIN))
        store_word(tally + _KIND, kind)
        store_word(tally + _LOCATE, itch.locate(message))
        store_word(tally + _REFERENCE, reference)
        store_word(tally + _LEFT, left)
        store_word(tally + _SHARES, shares)
    owner = table.owner_of(order) - 1
    if owner >> 1 == SIDELESS:
        _add(tally + _SIDELESS, 1)
    elif kind == _EXECUTE:
        _add(tally + _EXECUTIONS, 1)
        best = load_u32(side_at(book_at(engine, owner >> 1), owner & 1) + BEST)
        _add(tally + _AT_BEST, int(best == number))
        _add(tally + _FIRST_IN_QUEUE, int(load_u32(order + PREVIOUS) == number))


@kernel
def best_of(engine: int, symbol: int, target: int) -> None:
    """Write the best bid and its quantity, the best ask and its quantity, the levels of both sides, the number of
    updates and the state to eight words at `target`."""
    at = book_at(engine, symbol)
    store_word(target, load_word(at + top.BID_PRICE))
    store_word(target + 8, load_word(at + top.BID_QUANTITY))
    store_word(target + 16, load_word(at + top.ASK_PRICE))
    store_word(target + 24, load_word(at + top.ASK_QUANTITY))
    store_word(target + 32, book.level_count(at, 0))
    store_word(target + 40, book.level_count(at, 1))
    store_word(target + 48, top.sequence(at))
    store_word(target + 56, top.state(at))
