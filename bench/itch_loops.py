"""The loops of the ITCH benchmark that C++ has too: frames that stand in memory, looked ahead and one by one."""

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_u8, load_word, store_word
from shm.kernel import kernel, primitive
from stages.domain.codecs import itch
from stages.domain.codecs.itch_frames import next_message
from stages.domain.orderbook import batch
from stages.domain.orderbook.batch import AHEAD_LEVEL, AHEAD_TABLE
from stages.domain.orderbook.engine import ORDER_TABLE
from stages.domain.orderbook.itch import apply, side_of

_ADD, _ADD_ATTRIBUTED, _REPLACE = ord("A"), ord("F"), ord("U")
REFERENCE_END = itch.ORDER_REFERENCE + 8
_WINDOW_SLOTS, _SLOT_BYTES, _FOUND = 16, 16, 8
"""A power of two above AHEAD_TABLE; of a message's address, and of what looking at it has found out."""
_MASK = _WINDOW_SLOTS - 1


@primitive
def look_for(engine: int, message: int) -> int:
    """First: ask for the lines of the order and, where one is added, of its level; returns the home.

    Reads REFERENCE_END bytes of a message that is about no order, too: asking whether it is one costs more.
    """
    kind = load_u8(message)
    home = batch.look_for_order(engine, itch.order_reference(message))
    if kind in (_ADD, _ADD_ATTRIBUTED):
        home = batch.look_for_level(engine, itch.locate(message), side_of(message), itch.added_price(message))
    return home


@primitive
def look_around(engine: int, message: int, home: int) -> int:
    """Second: ask for what stands around the order in its queue; returns what is likely to be needed, as in `l3`."""
    kind = load_u8(message)
    if kind in (_ADD, _ADD_ATTRIBUTED):
        return batch.look_around_level(engine, itch.locate(message), side_of(message), itch.added_price(message), home)
    order = batch.look_around_order(engine, itch.order_reference(message), home)
    if kind == _REPLACE:
        batch.look_for_successor(engine, order, itch.new_order_reference(message), itch.new_price(message))
    return order


def new_window() -> NDArray[np.int64]:
    """The memory of `apply_frames`: where the messages stand that were framed and not yet applied."""
    return np.zeros(_WINDOW_SLOTS * _SLOT_BYTES // 8, np.int64)


@primitive
def _slot(window: int, index: int) -> int:
    return window + _SLOT_BYTES * (index & _MASK)


@primitive
def _apply_slot(engine: int, slot: int) -> int:
    return apply(engine, load_word(slot), load_word(slot + _FOUND))


@kernel
def apply_frames(engine: int, framer: int, window: int, end: int, is_last: bool) -> int:
    """Apply the messages of a stream up to `end`, as far as they are whole. Returns how many were refused.

    framer    of `itch_frames`; the stock locate of a message is its symbol
    window    address of `new_window`'s words
    is_last   the stream ends at `end`
    """
    refused, framed = 0, 0
    nowhere = engine + load_word(engine + ORDER_TABLE)
    while True:
        message = next_message(framer, end, is_last)
        if message == 0:
            break
        slot = _slot(window, framed)
        store_word(slot, message)
        store_word(slot + _FOUND, look_for(engine, message) if message + REFERENCE_END <= end else nowhere)
        if framed >= AHEAD_TABLE - AHEAD_LEVEL:
            looked = _slot(window, framed - (AHEAD_TABLE - AHEAD_LEVEL))
            store_word(looked + _FOUND, look_around(engine, load_word(looked), load_word(looked + _FOUND)))
        if framed >= AHEAD_TABLE:
            refused += int(_apply_slot(engine, _slot(window, framed - AHEAD_TABLE)) < 0)
        framed += 1
    for index in range(max(0, framed - AHEAD_TABLE), framed):  # of the last ones only the homes are known: records, too
        refused += int(_apply_slot(engine, _slot(window, index)) < 0)
    return refused


@kernel
def apply_frames_singly(engine: int, framer: int, window: int, end: int, is_last: bool) -> int:
    """`apply_frames` by a caller that knows one message at a time."""
    refused = 0
    message = next_message(framer, end, is_last)
    while message != 0:
        refused += int(apply(engine, message) < 0)
        message = next_message(framer, end, is_last)
    return refused
