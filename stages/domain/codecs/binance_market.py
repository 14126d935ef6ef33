"""Binance Spot market data: JSON bytes to MARKET records, in compiled code, straight from the receive buffer.

Understood are the payloads of binance.md 1.4: `depthUpdate`, `trade`, `aggTrade`, `bookTicker` (which has no `e` on
Spot), plain or in the combined stream's wrapper, and the REST depth snapshot. The keys of a payload may come in any
order, but for `a` before `b` in a diff.

An event is written to the slots after the tail of a ring (a private one: the staging area) and is not committed: the
caller commits it, or leaves it, and then it has never been. A document that is not understood completely, to its last
byte, gives an error code and no event.
"""

import numpy as np

from shm.atomics import load_u8, load_unaligned, load_word, store_word
from shm.kernel import primitive, routine
from shm.ring import CAPACITY, claim, room
from stages.domain.codecs.json_scan import (
    OVERFLOW,
    QUOTE,
    SYNTAX,
    TOO_DEEP,
    TOO_MANY_DECIMALS,
    find_name,
    read_decimal,
    read_name,
    read_string,
    read_unsigned,
    skip_value,
    word,
)
from stages.domain.messages import LEVELS_PER_RECORD, MARKET, MarketFlag, MarketKind

UNRECOGNISED = SYNTAX
"""Not a document this parser knows; a full parser has to look at it. The other codes are final."""
UNKNOWN_SYMBOL = -5
NO_ROOM = -6
"""The event has more records than the staging area has free slots."""

__all__ = [
    "NO_ROOM",
    "OVERFLOW",
    "TOO_MANY_DECIMALS",
    "UNKNOWN_SYMBOL",
    "UNRECOGNISED",
    "parse_message",
    "parse_snapshot",
]

PRICE_LIMIT = 2**62
"""A level's price is below this: a book's keys are prices of both signs, whose differences must fit int64."""

SNAPSHOT, DIFF = int(MarketKind.SNAPSHOT), int(MarketKind.DIFF)
TICKER, TRADE = int(MarketKind.TICKER), int(MarketKind.TRADE)
FIRST, END = int(MarketFlag.FIRST), int(MarketFlag.END)
SELLER_AGGRESSED, AGGREGATE = int(MarketFlag.SELLER_AGGRESSED), int(MarketFlag.AGGREGATE)


def _offset(field: str) -> int:
    assert MARKET.fields is not None
    return int(MARKET.fields[field][1])


FIRST_ID, LAST_ID = _offset("first_id"), _offset("last_id")
EXCHANGE_TIME_NS, READ_NS, PUBLISH_NS = _offset("exchange_time_ns"), _offset("read_ns"), _offset("publish_ns")
EVENT_LEVELS, SEQ = _offset("event_levels"), _offset("seq")
PRICE, QUANTITY = _offset("price"), _offset("quantity")
# The first word of a record is written and read as one: kind, flags, symbol, bid_count, level_count.
assert [_offset(name) for name in ("kind", "flags", "symbol", "bid_count", "level_count", "first_id")] == [
    0, 1, 2, 4, 6, 8,
]  # fmt: skip
assert LEVELS_PER_RECORD == 4, "levels are numbered by shifts of 2"
assert np.little_endian

_STREAM, _DATA = word('{"stream'), word(',"data":')
_LAST_UPDATE_LOW, _LAST_UPDATE_HIGH = word('{"lastUp'), word('dateId":')
_BIDS, _ASKS = word(',"bids":'), word(',"asks":')
_DEPTH_LOW, _DEPTH_HIGH = word("depthUpd"), word("ate")
_TRADE, _AGGREGATE = word("trade"), word("aggTrade")
_TICKER_LOW, _TICKER_HIGH = word("bookTick"), word("er")
_TRUE, _FALSE = word("true"), word("false")
_MASK_4, _MASK_5 = (1 << 32) - 1, (1 << 40) - 1

_COLON, _COMMA = ord(":"), ord(",")
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = ord("{"), ord("}"), ord("["), ord("]")
_KEY_MASK, _KEY_FORM = 0xFFFF00FF, QUOTE | QUOTE << 16 | _COLON << 24
"""A key of one character, as the low 4 bytes of a load: quote, character, quote, colon."""
_FIRST_LETTER, _LAST_LETTER = ord("a"), ord("z")
_e, _E, _s, _u, _U, _b, _a, _B, _A, _p, _q, _t, _T, _m = (ord(key) for key in "eEsuUbaBApqtTm")

# What a payload has given so far, a bit each.
_HAS_TYPE, _HAS_TIME, _HAS_SYMBOL, _HAS_LAST, _HAS_FIRST = 1, 2, 4, 8, 16
_HAS_BIDS, _HAS_ASKS, _HAS_BID, _HAS_ASK = 32, 64, 128, 256
_HAS_BID_QUANTITY, _HAS_ASK_QUANTITY, _HAS_PRICE, _HAS_QUANTITY = 512, 1024, 2048, 4096
_HAS_TRADE_ID, _HAS_TRADE_TIME, _HAS_MAKER, _HAS_AGGREGATE_ID, _HAS_OTHER = 8192, 16384, 32768, 65536, 131072
_DIFF_HAS = _HAS_TYPE | _HAS_TIME | _HAS_SYMBOL | _HAS_FIRST | _HAS_LAST | _HAS_BIDS | _HAS_ASKS
_TICKER_HAS = _HAS_SYMBOL | _HAS_LAST | _HAS_BID | _HAS_ASK | _HAS_BID_QUANTITY | _HAS_ASK_QUANTITY
_TRADE_HAS = _HAS_TYPE | _HAS_TIME | _HAS_SYMBOL | _HAS_PRICE | _HAS_QUANTITY | _HAS_TRADE_TIME | _HAS_MAKER

_MICROSECONDS_FROM = 10**14
"""Venue times from here on are in microseconds (timeUnit=MICROSECOND): as milliseconds it is the year 5138."""
_MICROSECONDS_MAX = 9 * 10**15


@primitive
def _time_ns(value: int) -> int:
    """A venue time in ms or µs as ns; 0 when it is out of range."""
    if value < _MICROSECONDS_FROM:
        return value * 1_000_000 if value < _MICROSECONDS_MAX // 1000 else 0
    return value * 1000 if value < _MICROSECONDS_MAX else 0


@primitive
def store_level(staging: int, index: int, price: int, quantity: int) -> None:
    """Store level number `index` of the event that is being staged."""
    slot = claim(staging, index >> 2) + 8 * (index & 3)
    store_word(slot + PRICE, price)
    store_word(slot + QUANTITY, quantity)


@routine
def _read_levels(at: int, end: int, staging: int, count: int, limit: int) -> tuple[int, int]:
    """(cursor, levels) after an array of [price, quantity]; `count` levels are staged already, `limit` fit."""
    if load_u8(at) != _OPEN_ARRAY:
        return SYNTAX, count
    at += 1
    if load_u8(at) == _CLOSE_ARRAY:
        return at + 1, count
    while at < end:
        if count == limit:
            return NO_ROOM, count
        if load_u8(at) != _OPEN_ARRAY:
            return SYNTAX, count
        at, price = read_decimal(at + 1, end)
        if at < 0:
            return at, count
        if price >= PRICE_LIMIT:
            return OVERFLOW, count
        if load_u8(at) != _COMMA:
            return SYNTAX, count
        at, quantity = read_decimal(at + 1, end)
        if at < 0:
            return at, count
        if load_u8(at) != _CLOSE_ARRAY or price == 0:
            return SYNTAX, count
        store_level(staging, count, price, quantity)
        count += 1
        byte = load_u8(at + 1)
        at += 2
        if byte == _CLOSE_ARRAY:
            return at, count
        if byte != _COMMA:
            return SYNTAX, count
    return SYNTAX, count


@primitive
def stage_headers(
    staging: int,
    kind: int,
    flags: int,
    symbol: int,
    bids: int,
    levels: int,
    first_id: int,
    last_id: int,
    time_ns: int,
    read_ns: int,
) -> int:
    """Write the headers of an event whose levels are stored; returns how many records it takes, not yet committed."""
    records = (levels + 3) >> 2 if levels > 0 else 1
    for index in range(records):
        record = claim(staging, index)
        count = min(levels - 4 * index, 4)
        bid_count = min(max(bids - 4 * index, 0), count)
        mark = flags | (FIRST if index == 0 else 0) | (END if index == records - 1 else 0)
        store_word(record, kind | mark << 8 | symbol << 16 | bid_count << 32 | count << 48)
        store_word(record + FIRST_ID, first_id)
        store_word(record + LAST_ID, last_id)
        store_word(record + EXCHANGE_TIME_NS, time_ns)
        store_word(record + READ_NS, read_ns)
        store_word(record + EVENT_LEVELS, levels)
        for unused in range(count, 4):  # equal events are equal bytes, whatever the slot held before
            store_word(record + PRICE + 8 * unused, 0)
            store_word(record + QUANTITY + 8 * unused, 0)
    return records


@primitive
def _final(code: int) -> int:
    return UNRECOGNISED if code == TOO_DEEP else code


@routine
def parse_message(at: int, end: int, symbols: int, symbol_count: int, staging: int, read_ns: int) -> tuple[int, int]:
    """(MarketKind, records staged) of one stream message, or (error code, 0).

    at, end       the message's bytes, with json_scan.GUARD_BYTES of readable memory on both sides
    symbols       address of the symbols as two words each, zero padded; `symbol_count` of them
    staging       ring whose free slots take the event; the caller commits it
    read_ns       stamp of the read that brought the message
    """
    is_wrapped = load_unaligned(at) == _STREAM
    if is_wrapped:
        if load_u8(at + 8) != QUOTE or load_u8(at + 9) != _COLON:
            return UNRECOGNISED, 0
        at, _, _ = read_string(at + 10, end)
        if at < 0 or load_unaligned(at) != _DATA:
            return UNRECOGNISED, 0
        at += 8
    code, records, at = _parse_payload(at, end, symbols, symbol_count, staging, read_ns)
    if code < 0:
        return code, 0
    if is_wrapped:
        if load_u8(at) != _CLOSE_OBJECT:
            return UNRECOGNISED, 0
        at += 1
    if at != end:
        return UNRECOGNISED, 0
    return code, records


@routine
def _parse_payload(
    at: int, end: int, symbols: int, symbol_count: int, staging: int, read_ns: int
) -> tuple[int, int, int]:
    """(kind, records, cursor after the object) or (error code, 0, 0)."""
    if load_u8(at) != _OPEN_OBJECT:
        return UNRECOGNISED, 0, 0
    at += 1
    has = 0
    type_low = type_high = symbol = first_id = last_id = trade_id = aggregate_id = event_time = trade_time = 0
    bid = bid_quantity = ask = ask_quantity = price = quantity = 0
    bids = levels = flags = 0
    limit = 4 * room(staging, load_word(staging + CAPACITY))
    while True:
        if at >= end:
            return UNRECOGNISED, 0, 0
        form = load_unaligned(at)
        if form & _KEY_MASK != _KEY_FORM:
            return UNRECOGNISED, 0, 0
        key = form >> 8 & 0xFF
        at += 4
        bit = _HAS_OTHER
        byte = load_u8(at)
        if key == _p:
            bit = _HAS_PRICE
            at, price = read_decimal(at, end)
        elif key == _q:
            bit = _HAS_QUANTITY
            at, quantity = read_decimal(at, end)
        elif key == _u:
            bit = _HAS_LAST
            at, last_id = read_unsigned(at, end)
        elif key == _s:
            bit = _HAS_SYMBOL
            begin = at
            at, low, high = read_name(at, end)
            if at >= 0:
                symbol = find_name(symbols, symbol_count, low, high)
                if symbol < 0:
                    at, _, _ = read_string(begin, end)  # an escaped name is nothing for this parser
        elif key == _e:
            bit = _HAS_TYPE
            at, type_low, type_high = read_name(at, end)
        elif key == _E:
            bit = _HAS_TIME
            at, event_time = read_unsigned(at, end)
        elif key == _U:
            bit = _HAS_FIRST
            at, first_id = read_unsigned(at, end)
        elif key == _b and byte == _OPEN_ARRAY:
            if has & _HAS_ASKS:
                return UNRECOGNISED, 0, 0  # bids are staged before asks
            bit = _HAS_BIDS
            at, levels = _read_levels(at, end, staging, 0, limit)
            bids = levels
        elif key == _a and byte == _OPEN_ARRAY:
            bit = _HAS_ASKS
            at, levels = _read_levels(at, end, staging, levels, limit)
        elif key == _b and byte == QUOTE:
            bit = _HAS_BID
            at, bid = read_decimal(at, end)
        elif key == _a and byte == QUOTE:
            bit = _HAS_ASK
            at, ask = read_decimal(at, end)
        elif key == _B:
            bit = _HAS_BID_QUANTITY
            at, bid_quantity = read_decimal(at, end)
        elif key == _A:
            bit = _HAS_ASK_QUANTITY
            at, ask_quantity = read_decimal(at, end)
        elif key == _t:
            bit = _HAS_TRADE_ID
            at, trade_id = read_unsigned(at, end)
        elif key == _a:
            bit = _HAS_AGGREGATE_ID  # of an aggTrade; the seller's order id in the trades of old recordings
            at, aggregate_id = read_unsigned(at, end)
        elif key == _T:
            bit = _HAS_TRADE_TIME
            at, trade_time = read_unsigned(at, end)
        elif key == _m:
            bit = _HAS_MAKER
            value = load_unaligned(at)
            if value & _MASK_4 == _TRUE:
                flags |= SELLER_AGGRESSED  # the buyer waited, so the seller came
                at += 4
            elif value & _MASK_5 == _FALSE:
                at += 5
            else:
                return UNRECOGNISED, 0, 0
        elif _FIRST_LETTER <= key | 0x20 <= _LAST_LETTER:
            at = skip_value(at, end)
        else:
            return UNRECOGNISED, 0, 0
        if at < 0:
            return _final(at), 0, 0
        if has & bit & ~_HAS_OTHER:
            return UNRECOGNISED, 0, 0  # a key twice: nobody can say which one counts
        has |= bit
        byte = load_u8(at)
        at += 1
        if byte == _CLOSE_OBJECT:
            break
        if byte != _COMMA:
            return UNRECOGNISED, 0, 0
    if at > end:
        return UNRECOGNISED, 0, 0
    if has & _HAS_SYMBOL and symbol < 0:
        return UNKNOWN_SYMBOL, 0, 0
    if has & _HAS_TYPE == 0 or (type_low == _TICKER_LOW and type_high == _TICKER_HIGH):
        if has & _TICKER_HAS != _TICKER_HAS:
            return UNRECOGNISED, 0, 0
        if limit < 4:
            return NO_ROOM, 0, 0
        store_level(staging, 0, bid, bid_quantity)
        store_level(staging, 1, ask, ask_quantity)
        time_ns = _time_ns(event_time)
        return TICKER, stage_headers(staging, TICKER, 0, symbol, 1, 2, last_id, last_id, time_ns, read_ns), at
    if type_low == _DEPTH_LOW and type_high == _DEPTH_HIGH:
        if has & _DIFF_HAS != _DIFF_HAS or first_id > last_id:
            return UNRECOGNISED, 0, 0
        if limit < 4:
            return NO_ROOM, 0, 0
        time_ns = _time_ns(event_time)
        return DIFF, stage_headers(staging, DIFF, 0, symbol, bids, levels, first_id, last_id, time_ns, read_ns), at
    is_aggregate = type_low == _AGGREGATE
    if type_high != 0 or (type_low != _TRADE and not is_aggregate):
        return UNRECOGNISED, 0, 0
    needed = _TRADE_HAS | (_HAS_AGGREGATE_ID if is_aggregate else _HAS_TRADE_ID)
    if has & needed != needed:
        return UNRECOGNISED, 0, 0
    if price == 0 or quantity == 0:
        return UNRECOGNISED, 0, 0
    if limit < 4:
        return NO_ROOM, 0, 0
    if is_aggregate:
        flags |= AGGREGATE
        trade_id = aggregate_id
    store_level(staging, 0, price, quantity)
    time_ns = _time_ns(trade_time)
    return TRADE, stage_headers(staging, TRADE, flags, symbol, 0, 1, trade_id, trade_id, time_ns, read_ns), at


@routine
def parse_snapshot(at: int, end: int, symbol: int, staging: int, read_ns: int) -> tuple[int, int]:
    """(SNAPSHOT, records staged) of a REST depth reply for instrument `symbol`, or (error code, 0).

    Arguments as in `parse_message`. The levels must be in the venue's order of keys: lastUpdateId, bids, asks.
    """
    if end - at < 16 or load_unaligned(at) != _LAST_UPDATE_LOW or load_unaligned(at + 8) != _LAST_UPDATE_HIGH:
        return UNRECOGNISED, 0
    at, last_id = read_unsigned(at + 16, end)
    if at < 0 or load_unaligned(at) != _BIDS:
        return UNRECOGNISED, 0
    limit = 4 * room(staging, load_word(staging + CAPACITY))
    at, bids = _read_levels(at + 8, end, staging, 0, limit)
    if at < 0:
        return _final(at), 0
    if load_unaligned(at) != _ASKS:
        return UNRECOGNISED, 0
    at, levels = _read_levels(at + 8, end, staging, bids, limit)
    if at < 0:
        return _final(at), 0
    if load_u8(at) != _CLOSE_OBJECT or at + 1 != end:
        return UNRECOGNISED, 0
    if limit < 4:
        return NO_ROOM, 0
    return SNAPSHOT, stage_headers(staging, SNAPSHOT, 0, symbol, bids, levels, last_id, last_id, 0, read_ns)
