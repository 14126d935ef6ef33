"""Binance's WebSocket API as the router speaks it: orders to JSON text, replies and user data events to one record.

Sources: binance-spot-api-docs web-socket-api.md (order.place, order.cancel, order.status) and user-data-stream.md
(executionReport). Requests carry an integer id: twice the order id for a new order, one more for its cancel. Text is
written and read in compiled code; what `parse_message` does not recognise it says so, and the cold side looks at it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_u8, load_unaligned, store_u8, store_unaligned
from shm.kernel import primitive, routine
from shm.layout import align_up, record_dtype
from stages.domain.codecs.json_scan import (
    QUOTE,
    SYNTAX,
    expect,
    find_name,
    read_decimal,
    read_integer,
    read_name,
    read_string,
    read_unsigned,
    skip_value,
    word,
)
from stages.domain.messages import OrderType, Side, TimeInForce
from stages.domain.orders import OrderState

# ---- requests

TEMPLATE_BYTES = 256
TEMPLATE_TEXT = 8
"""A template row is its text's length as a word, then the text."""

CANCEL_BY_CLIENT_ID = 10
CANCEL_BY_ORDER_ID = 11
TEMPLATES_PER_SYMBOL = 12

LIMIT = int(OrderType.LIMIT)
LIMIT_MAKER = int(OrderType.LIMIT_MAKER)
MARKET = int(OrderType.MARKET)

_QUANTITY = (word('","quant'), word('ity":"'))
_PRICE = (word('","price'), word('":"'))
_TIMESTAMP = (word('","times'), word('tamp":'))
_TIMESTAMP_AFTER_NUMBER = (word(',"timest'), word('amp":'))
_ID = word('},"id":')
_BRACE = ord("}")
_DOT, _ZERO, _LETTER_A = ord("."), ord("0"), ord("a")


@primitive
def place_template(side: int, order_type: int, time_in_force: int) -> int:
    """Index of a new order's template among its symbol's: five a side."""
    kind = time_in_force - 1 if order_type == LIMIT else order_type + 1
    return 5 * side + kind


def request_templates(symbols: Sequence[str], client_id_prefix: str) -> NDArray[np.uint8]:
    """Templates of all requests: TEMPLATES_PER_SYMBOL rows of TEMPLATE_BYTES for each symbol, flat.

    Read-only: what nobody writes to, a process forked later need not copy (`stages.prefault`), 24 MB for 8,000 symbols.
    """
    table = np.zeros(len(symbols) * TEMPLATES_PER_SYMBOL * TEMPLATE_BYTES, np.uint8)
    rows = table.reshape(len(symbols), TEMPLATES_PER_SYMBOL, TEMPLATE_BYTES)
    for symbol, row in zip(symbols, rows, strict=True):
        for side in Side:
            for tif in TimeInForce:
                kind = f'"LIMIT","timeInForce":"{tif.name}"'
                _fill(row[5 * side + tif - 1], _place_text(symbol, side, kind, client_id_prefix))
            for order_type in (OrderType.LIMIT_MAKER, OrderType.MARKET):
                text = _place_text(symbol, side, f'"{order_type.name}"', client_id_prefix)
                _fill(row[5 * side + order_type + 1], text)
        cancel = f'{{"method":"order.cancel","params":{{"symbol":"{symbol}",'
        _fill(row[CANCEL_BY_CLIENT_ID], f'{cancel}"origClientOrderId":"{client_id_prefix}')
        _fill(row[CANCEL_BY_ORDER_ID], f'{cancel}"orderId":')
    table.flags.writeable = False
    return table


def _place_text(symbol: str, side: Side, kind: str, client_id_prefix: str) -> str:
    return (
        f'{{"method":"order.place","params":{{"symbol":"{symbol}","side":"{side.name}","type":{kind},'
        f'"newOrderRespType":"ACK","newClientOrderId":"{client_id_prefix}'
    )


def _fill(row: NDArray[np.uint8], text: str) -> None:
    raw = text.encode("ascii")
    if align_up(len(raw), 8) > TEMPLATE_BYTES - TEMPLATE_TEXT:
        raise ValueError(f"request template of {len(raw)} bytes, {TEMPLATE_BYTES - TEMPLATE_TEXT} fit: {text}")
    row[:TEMPLATE_TEXT] = np.frombuffer(len(raw).to_bytes(8, "little"), np.uint8)
    row[TEMPLATE_TEXT : TEMPLATE_TEXT + len(raw)] = np.frombuffer(raw, np.uint8)


@primitive
def _write_template(at: int, template: int) -> int:
    length = load_unaligned(template)
    for offset in range(0, length, 8):  # up to 7 bytes too many: what follows is written over them
        store_unaligned(at + offset, load_unaligned(template + TEMPLATE_TEXT + offset))
    return at + length


@primitive
def write_unsigned(at: int, value: int) -> int:
    """Write `value` >= 0 in decimal; returns the address after it."""
    count, rest = 1, value // 10
    while rest > 0:
        count += 1
        rest //= 10
    for index in range(count - 1, -1, -1):
        store_u8(at + index, _ZERO + value % 10)
        value //= 10
    return at + count


@primitive
def write_fixed(at: int, value: int, decimals: int) -> int:
    """Write `value` * 10**-decimals, value >= 0, with exactly that many decimals; returns the address after it."""
    count, rest = 1, value // 10
    while rest > 0 or count <= decimals:
        count += 1
        rest //= 10
    end = at + count + (1 if decimals > 0 else 0)
    position = end
    for index in range(count):
        if index == decimals and decimals > 0:
            position -= 1
            store_u8(position, _DOT)
        position -= 1
        store_u8(position, _ZERO + value % 10)
        value //= 10
    return end


@primitive
def write_base36(at: int, value: int) -> int:
    """Write `value` >= 0 in digits 0-9a-z; returns the address after it."""
    count, rest = 1, value // 36
    while rest > 0:
        count += 1
        rest //= 36
    for index in range(count - 1, -1, -1):
        digit = value % 36
        store_u8(at + index, (_ZERO if digit < 10 else _LETTER_A - 10) + digit)
        value //= 36
    return at + count


@primitive
def _put(at: int, words: tuple[int, int], length: int) -> int:
    store_unaligned(at, words[0])
    store_unaligned(at + 8, words[1])
    return at + length


@primitive
def _finish(at: int, timestamp_us: int, request_id: int) -> int:
    at = write_unsigned(at, timestamp_us)
    store_unaligned(at, _ID)
    at = write_unsigned(at + 7, request_id)
    store_u8(at, _BRACE)
    return at + 1


@primitive
def encode_place(
    at: int,
    template: int,
    order_id: int,
    quantity: int,
    quantity_decimals: int,
    price: int,
    price_decimals: int,
    has_price: bool,
    timestamp_us: int,
) -> int:
    """Write order.place at `at`; quantity and price in units of 10**-decimals. Returns the address after it."""
    at = write_base36(_write_template(at, template), order_id)
    at = write_fixed(_put(at, _QUANTITY, 14), quantity, quantity_decimals)
    if has_price:
        at = write_fixed(_put(at, _PRICE, 11), price, price_decimals)
    return _finish(_put(at, _TIMESTAMP, 14), timestamp_us, 2 * order_id)


@primitive
def encode_cancel(at: int, template: int, order_id: int, venue_order_id: int, timestamp_us: int) -> int:
    """Write order.cancel at `at`: by the venue's order id (its fastest way) or, when that is 0, by our own."""
    at = _write_template(at, template)
    if venue_order_id > 0:
        at = _put(write_unsigned(at, venue_order_id), _TIMESTAMP_AFTER_NUMBER, 13)
    else:
        at = _put(write_base36(at, order_id), _TIMESTAMP, 14)
    return _finish(at, timestamp_us, 2 * order_id + 1)


# ---- replies and events

UNRECOGNISED = 0
"""Not one of the below, or not JSON: for the cold side."""
REPLY = 1
"""To a request with an integer id: reply_id, status, venue_order_id, or venue_code and message_word."""
EXECUTION = 2
"""executionReport."""
BALANCES = 3
"""outboundAccountPosition: nothing here needs it."""

# Quantities, prices and money are mantissas (1e-8). Fields that a message lacks are 0.
EVENT = record_dtype(
    [
        ("reply_id", "<i8"),
        ("status", "<i8"),
        ("venue_code", "<i8"),
        ("message_word", "<i8"),  # first 8 bytes of the error's words: some errors differ in nothing else
        ("venue_order_id", "<i8"),
        ("order_id", "<i8"),  # ours; -1 when the client order id is not of this run
        ("symbol", "<i8"),  # index, -1 when not in the table
        ("target", "<i8"),  # OrderState
        ("last_quantity", "<i8"),
        ("last_price", "<i8"),
        ("cumulative_quantity", "<i8"),
        ("cumulative_quote", "<i8"),
        ("commission", "<i8"),
        ("commission_asset", "<i8"),  # its name as a word
        ("execution_id", "<i8"),
        ("trade_id", "<i8"),
        ("exchange_time_ns", "<i8"),
        ("is_maker", "<i8"),
        ("found", "<i8"),  # bits of the members seen
    ],
    192,
)

MEMBERS_MAX = 64
_OPEN, _COMMA, _CLOSE, _COLON = ord("{"), ord(","), ord("}"), ord(":")
_DIGIT_0, _DIGIT_9, _TRUE = ord("0"), ord("9"), ord("t")

_KEY_ID, _KEY_STATUS, _KEY_RESULT = word("id"), word("status"), word("result")
_KEY_ERROR, _KEY_EVENT, _KEY_ORDER_ID = word("error"), word("event"), word("orderId")
_KEY_CODE, _KEY_MESSAGE, _KEY_E = word("code"), word("msg"), word("e")
_EXECUTION_LOW, _EXECUTION_HIGH = word("executio"), word("nReport")
_BALANCES_LOW, _BALANCES_LENGTH = word("outbound"), len("outboundAccountPosition")

_FOUND_SYMBOL, _FOUND_CLIENT_ID, _FOUND_STATUS, _FOUND_QUANTITY, _FOUND_QUOTE = 1, 2, 4, 8, 16
_FOUND_ALL = 31

# Members of an executionReport have one letter; the case matters.
_c, _s, _z, _l, _n, _i, _t, _m = (word(letter) for letter in "cszlnitm")
_C, _X, _Z, _L, _N, _I, _T = (word(letter) for letter in "CXZLNIT")

WORKING = int(OrderState.WORKING)
FILLED = int(OrderState.FILLED)
CANCELLED = int(OrderState.CANCELLED)
EXPIRED = int(OrderState.EXPIRED)
REJECTED = int(OrderState.REJECTED)

_NEW, _PENDING_NEW, _PARTIALLY_FILLED = word("NEW"), word("PENDING_"), word("PARTIALL")
_FILLED, _CANCELED, _REJECTED, _EXPIRED = word("FILLED"), word("CANCELED"), word("REJECTED"), word("EXPIRED")
_EXPIRED_IN_MATCH = word("EXPIRED_")

MILLISECONDS_BELOW = 10**14
"""Times of the venue below this are in ms, others in µs (timeUnit of the URL)."""


@primitive
def target_state(low: int, high: int) -> int:
    """OrderState of the venue's order status (16 bytes of its name as two words), -1 when it is none we know."""
    if low in (_NEW, _PARTIALLY_FILLED, _PENDING_NEW):  # PENDING_NEW and PENDING_CANCEL: alive
        return WORKING
    if low == _FILLED:
        return FILLED
    if low == _CANCELED:
        return CANCELLED
    if low == _REJECTED:
        return REJECTED
    if low in (_EXPIRED, _EXPIRED_IN_MATCH):
        return EXPIRED
    return -1


@primitive
def _word_of(address: int, length: int) -> int:
    """A string of up to 8 bytes as a word; 0 for a longer one."""
    if length >= 8:
        return load_unaligned(address) if length == 8 else 0
    return load_unaligned(address) & ((1 << (8 * length)) - 1)


@primitive
def _read_key(at: int, end: int) -> tuple[int, int]:
    """(cursor after the colon, key as a word) of an object's member; SYNTAX when the cursor is an error already."""
    if at < 0:
        return SYNTAX, 0
    at, address, length = read_string(at, end)
    if at < 0:
        return SYNTAX, 0
    return expect(at, end, _COLON), _word_of(address, length)


@routine
def read_client_id(at: int, end: int, prefix: int, prefix_bytes: int) -> tuple[int, int]:
    """(cursor, order id) of a client order id: 0 when it is empty, -1 when it is not `prefix` and base 36 digits."""
    at, address, length = read_string(at, end)
    if at < 0 or length == 0:
        return at, 0
    if length <= prefix_bytes or length > prefix_bytes + 12:
        return at, -1
    for index in range(prefix_bytes):
        if load_u8(address + index) != load_u8(prefix + index):
            return at, -1
    value = 0
    for index in range(prefix_bytes, length):
        byte = load_u8(address + index)
        if _DIGIT_0 <= byte <= _DIGIT_9:
            value = value * 36 + byte - _ZERO
        elif _LETTER_A <= byte < _LETTER_A + 26:
            value = value * 36 + byte - _LETTER_A + 10
        else:
            return at, -1
    return at, value


@primitive
def _after_member(at: int, end: int) -> tuple[int, bool]:
    """(cursor, whether another member follows) after a member's value."""
    if at < 0 or at >= end:
        return SYNTAX, False
    byte = load_u8(at)
    if byte == _COMMA:
        return at + 1, True
    return (at + 1 if byte == _CLOSE else SYNTAX), False


@routine
def _read_error(at: int, end: int, event: NDArray[np.void]) -> int:
    at = expect(at, end, _OPEN)
    for _ in range(MEMBERS_MAX):
        at, key = _read_key(at, end)
        if at < 0:
            return SYNTAX
        if key == _KEY_CODE:
            at, event[0]["venue_code"] = read_integer(at, end)
        elif key == _KEY_MESSAGE:
            at, address, length = read_string(at, end)
            event[0]["message_word"] = load_unaligned(address) if at > 0 and length >= 8 else 0
        else:
            at = skip_value(at, end)
        at, more = _after_member(at, end)
        if not more:
            return at
    return SYNTAX


@routine
def _read_result(at: int, end: int, event: NDArray[np.void]) -> int:
    if at >= end or load_u8(at) != _OPEN:
        return skip_value(at, end)
    if at + 1 < end and load_u8(at + 1) == _CLOSE:
        return at + 2
    at += 1
    for _ in range(MEMBERS_MAX):
        at, key = _read_key(at, end)
        if at < 0:
            return SYNTAX
        if key == _KEY_ORDER_ID:
            at, event[0]["venue_order_id"] = read_unsigned(at, end)
        else:
            at = skip_value(at, end)
        at, more = _after_member(at, end)
        if not more:
            return at
    return SYNTAX


@primitive
def _read_execution_member(
    key: int, at: int, end: int, event: np.void, names: int, symbols: int, prefix: int, prefix_bytes: int
) -> int:
    """One member of an executionReport; unknown keys are skipped. Returns the cursor."""
    if key == _c:
        at, order_id = read_client_id(at, end, prefix, prefix_bytes)
        if event["order_id"] == 0:  # else `C`, the order that a cancel was for, came first
            event["order_id"] = order_id
        event["found"] |= _FOUND_CLIENT_ID
    elif key == _C:
        at, order_id = read_client_id(at, end, prefix, prefix_bytes)
        if order_id != 0:
            event["order_id"] = order_id
    elif key == _s:
        at, low, high = read_name(at, end)
        event["symbol"] = find_name(names, symbols, low, high)
        event["found"] |= _FOUND_SYMBOL
    elif key == _X:
        at, low, high = read_name(at, end)
        event["target"] = target_state(low, high)
        event["found"] |= _FOUND_STATUS
    elif key == _z:
        at, event["cumulative_quantity"] = read_decimal(at, end)
        event["found"] |= _FOUND_QUANTITY
    elif key == _Z:
        at, event["cumulative_quote"] = read_decimal(at, end)
        event["found"] |= _FOUND_QUOTE
    elif key == _l:
        at, event["last_quantity"] = read_decimal(at, end)
    elif key == _L:
        at, event["last_price"] = read_decimal(at, end)
    elif key == _n:
        at, event["commission"] = read_decimal(at, end)
    elif key == _N and at < end and load_u8(at) == QUOTE:
        at, event["commission_asset"], _ = read_name(at, end)
    elif key == _i:
        at, event["venue_order_id"] = read_unsigned(at, end)
    elif key == _I:
        at, event["execution_id"] = read_integer(at, end)
    elif key == _t:
        at, event["trade_id"] = read_integer(at, end)
    elif key == _T:
        at, time = read_unsigned(at, end)
        event["exchange_time_ns"] = time * (1_000_000 if time < MILLISECONDS_BELOW else 1_000)
    elif key == _m:
        event["is_maker"] = 1 if at < end and load_u8(at) == _TRUE else 0
        at = skip_value(at, end)
    else:
        at = skip_value(at, end)
    return at


@routine
def _read_event(
    at: int, end: int, event: NDArray[np.void], names: int, symbols: int, prefix: int, prefix_bytes: int
) -> tuple[int, int]:
    """(cursor, EXECUTION, BALANCES or UNRECOGNISED) of a user data event, whose first member must be its type `e`."""
    start = at
    at, key = _read_key(expect(at, end, _OPEN), end)
    if at < 0 or key != _KEY_E:
        return skip_value(start, end), UNRECOGNISED
    at, address, length = read_string(at, end)
    if at < 0:
        return SYNTAX, UNRECOGNISED
    if length == _BALANCES_LENGTH and load_unaligned(address) == _BALANCES_LOW:
        return skip_value(start, end), BALANCES
    if length != 15 or load_unaligned(address) != _EXECUTION_LOW or _word_of(address + 8, 7) != _EXECUTION_HIGH:
        return skip_value(start, end), UNRECOGNISED
    record = event[0]
    at, more = _after_member(at, end)
    for _ in range(MEMBERS_MAX):
        if not more:
            break
        at, key = _read_key(at, end)
        if at < 0:
            break
        at = _read_execution_member(key, at, end, record, names, symbols, prefix, prefix_bytes)
        at, more = _after_member(at, end)
    if more or record["found"] != _FOUND_ALL or record["target"] < 0:
        return at, UNRECOGNISED
    return at, EXECUTION


@routine
def parse_message(
    at: int, end: int, event: NDArray[np.void], names: int, symbols: int, prefix: int, prefix_bytes: int
) -> int:
    """Read one message of the WebSocket API into `event[0]`; `event` is an EVENT array of 2, its second all zero.

    `names` is the address of the symbols' 16-byte names, `prefix` that of the client order ids' prefix. Guard bytes as
    in json_scan. Returns REPLY, EXECUTION, BALANCES or UNRECOGNISED; after the last, `event` means nothing.
    """
    event[0] = event[1]
    record = event[0]
    kind = UNRECOGNISED
    at = expect(at, end, _OPEN)
    for _ in range(MEMBERS_MAX):
        if at < 0:
            break
        at, key = _read_key(at, end)
        if at < 0:
            break
        if key == _KEY_EVENT:
            at, kind = _read_event(at, end, event, names, symbols, prefix, prefix_bytes)
        elif key == _KEY_ID and at < end and _DIGIT_0 <= load_u8(at) <= _DIGIT_9:
            at, record["reply_id"] = read_unsigned(at, end)
            kind = REPLY
        elif key == _KEY_STATUS:
            at, record["status"] = read_unsigned(at, end)
        elif key == _KEY_RESULT:
            at = _read_result(at, end, event)
        elif key == _KEY_ERROR:
            at = _read_error(at, end, event)
        else:
            at = skip_value(at, end)
        at, more = _after_member(at, end)
        if not more:
            return kind if at == end and not (kind == REPLY and record["status"] == 0) else UNRECOGNISED
    return UNRECOGNISED
