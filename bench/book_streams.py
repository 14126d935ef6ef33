"""Order messages for the book benchmark: made from a seed, valid, keeping about as many orders alive as wanted.

    random   symbol, price and the order that a message is about are drawn uniformly; ids are random words
    local    as ITCH has it: ids ascend, few symbols have most messages, near the touch; 95 in 100 messages are about
             one of the 2,000 newest orders, the others about any

Of 1,000 messages about 465 are adds, 465 deletes, 30 executions, 10 partial cancels, 30 replacements (the last day of
2019 on Nasdaq: 367 A+F, 167 D, 225 U in its first second, 443 A, 483 D, 45 E+C, 23 U later, of the recorded files).
"""

import numpy as np

from shm.atomics import load_u32, load_word
from shm.kernel import kernel
from stages.domain.orderbook import batch, l3, table, top
from stages.domain.orderbook.batch import ORDER_MESSAGE, OrderKind
from stages.domain.orderbook.book import volume_at
from stages.domain.orderbook.engine import LEVEL_KEY, ORDER_LEVEL, book_at, record_at

ADD, EXECUTE, CANCEL, DELETE, REPLACE = (
    int(kind) for kind in (OrderKind.ADD, OrderKind.EXECUTE, OrderKind.CANCEL, OrderKind.DELETE, OrderKind.REPLACE)
)
TICK, PRICES = 100, 50
"""Prices a side: 1 to PRICES ticks from the symbol's own mid, which lies on no price."""
NEWEST = 2_000
LOT = 100


@kernel
def _fraction(bits: int) -> float:
    return (bits >> 10) / 4503599627370496.0


@kernel
def _price(symbol: int, side: int, depth: int) -> int:
    return (symbol * 7919 % 1000 + 100) * 10_000 + (TICK * (depth + 1) if side == 1 else -TICK * (depth + 1))


@kernel
def _fill(message, bits, ids, owners, live, symbols, is_local, order_id):  # type: ignore[no-untyped-def]
    """An ADD of order `order_id`, which becomes live number `live`."""
    if is_local:
        u, v = _fraction(bits[1]), _fraction(bits[3])
        symbol, depth = int(symbols * u * u * u * u), int(PRICES * v * v * v)
    else:
        symbol, depth = int(symbols * _fraction(bits[1])), int(PRICES * _fraction(bits[3]))
    side = bits[4] & 1
    message["kind"], message["side"], message["symbol"], message["order_id"] = ADD, side, symbol, order_id
    message["price"], message["quantity"] = _price(symbol, side, depth), LOT * (1 + (bits[4] >> 1) % 9)
    ids[live], owners[live] = order_id, 2 * symbol + side


@kernel
def _preload(messages, bits, ids, owners, symbols, is_local):  # type: ignore[no-untyped-def]
    for index in range(len(messages)):
        order_id = index + 1 if is_local else bits[index][2]
        _fill(messages[index], bits[index], ids, owners, index, symbols, False, order_id)


@kernel
def _generate(messages, bits, ids, owners, state, symbols, is_local):  # type: ignore[no-untyped-def]
    """state: live orders now, wanted, next ascending id."""
    for index in range(len(messages)):
        bit, message, live = bits[index], messages[index], state[0]
        drawn = bit[0] % 1000
        state[2] += 1
        if drawn < (470 if live < state[1] else 460):
            _fill(message, bit, ids, owners, live, symbols, is_local, state[2] if is_local else bit[2])
            state[0] += 1
            continue
        u = _fraction(bit[2])
        number = int(live * u)
        if is_local and bit[3] % 100 < 95:
            number = live - 1 - int(min(live - 1, NEWEST) * u * u)
        message["order_id"], message["symbol"] = ids[number], owners[number] >> 1
        if drawn < 930:
            message["kind"] = DELETE
            state[0] -= 1
            ids[number], owners[number] = ids[live - 1], owners[live - 1]
        elif drawn < 970:
            message["kind"], message["quantity"] = (EXECUTE if drawn < 960 else CANCEL), 1
        else:
            ids[number] = state[2] if is_local else bit[1]
            message["kind"], message["new_id"] = REPLACE, ids[number]
            side = owners[number] & 1
            message["price"] = _price(owners[number] >> 1, side, int(PRICES * _fraction(bit[3])))
            message["quantity"] = LOT * (1 + (bit[4] >> 1) % 9)


class Stream:
    """Messages for ever, after those that make the first `live` orders."""

    def __init__(self, *, is_local: bool, live: int, symbols: int, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self._is_local, self._symbols = is_local, symbols
        self._ids, self._owners = (
            np.zeros(live + live // 20 + 1000, np.int64),
            np.zeros(live + live // 20 + 1000, np.int64),
        )
        self._state = np.array([live, live, live], np.int64)

    def _bits(self, count: int) -> np.ndarray:
        return self._random.integers(0, 2**62, (count, 5))

    def preload(self) -> np.ndarray:
        """ADDs of the first orders, everywhere alike."""
        messages = np.zeros(int(self._state[0]), ORDER_MESSAGE)
        _preload(messages, self._bits(len(messages)), self._ids, self._owners, self._symbols, self._is_local)
        return messages

    def messages(self, count: int) -> np.ndarray:
        """The next `count` ORDER_MESSAGEs."""
        messages = np.zeros(count, ORDER_MESSAGE)
        _generate(messages, self._bits(count), self._ids, self._owners, self._state, self._symbols, self._is_local)
        return messages


@kernel
def _tell_level(engine, owner, key, out):  # type: ignore[no-untyped-def]
    symbol, side = (owner - 1) >> 1, (owner - 1) & 1
    price = top.signed(key, side)
    out["symbol"], out["side"], out["price"] = symbol, side, price
    out["quantity"] = volume_at(book_at(engine, symbol), side, price)


@kernel
def _to_levels(engine, messages, changes):  # type: ignore[no-untyped-def]
    count = 0
    for index in range(len(messages)):
        message = messages[index]
        order = l3.find_order(engine, l3.order_hash(engine, message["order_id"]), message["order_id"])
        owner, key = 0, 0
        if order != 0:
            owner = table.owner_of(order)
            key = load_word(record_at(engine, load_u32(order + ORDER_LEVEL)) + LEVEL_KEY)
        batch.apply(engine, messages.ctypes.data + batch.MESSAGE_BYTES * index)
        if owner != 0:
            _tell_level(engine, owner, key, changes[count])
            count += 1
        if message["kind"] == ADD or message["kind"] == REPLACE:
            if message["kind"] == ADD:
                owner = 2 * int(message["symbol"]) + int(message["side"]) + 1
            _tell_level(engine, owner, top.signed(message["price"], (owner - 1) & 1), changes[count])
            count += 1
    return count


def levels_of(engine: int, messages: np.ndarray) -> np.ndarray:
    """Apply messages to a reference engine; what they change as (symbol, side, price, quantity), in ORDER_MESSAGEs."""
    changes = np.zeros(2 * len(messages), ORDER_MESSAGE)
    return changes[: int(_to_levels(engine, messages, changes))]
