"""The router's journal, hot side: what an order and its symbol's position are now, appended before anybody is told.

An entry is the whole truth about one order and one position at one moment: to recover is to take the newest entry of
each. Nothing is computed again, so a change of the code that computes them cannot change what was.

    new order     entry, then the input is consumed, then the order is sent: sent at most once, and never unknown to us
    cancel        entry, then the input is consumed, then the cancel is sent
    report        order and position changed, entry, then the reports go out to risk

A process killed in the middle of an entry leaves a wrong checksum: the torn tail, which recovery leaves out. What it
was about to say was said to nobody, and is asked from the venue.
"""

from typing import Any

import numpy as np

from shm.atomics import load_word, multiply_wrapping, store_release, store_word
from shm.clock import now_ns as read_clock
from shm.kernel import primitive
from shm.layout import record_dtype
from stages.domain.messages import POSITION
from stages.router.records import ORDER_ROW, Context

ROW_WORDS = len(ORDER_ROW.names or ())
POSITION_WORDS = len(POSITION.names or ())

ENTRY = record_dtype(
    [
        ("checksum", "<i8"),  # over all that follows; stored last
        ("number", "<i8"),  # from 1 on, over all files of a run
        ("time_ns", "<i8"),
        ("taken_seq", "<i8"),  # seq of the last order record that was acted on
        ("slot", "<i8"),  # of the order in the router's table
        ("row", "<i8", ROW_WORDS),
        ("position", "<i8", POSITION_WORDS),
        ("rest", "<i8", 32 - 5 - ROW_WORDS - POSITION_WORDS),
    ],
    256,
)
ENTRY_BYTES = ENTRY.itemsize
NUMBER, TIME, TAKEN, SLOT, ROW, POSITION_AT = (
    int(ENTRY.fields[name][1])  # type: ignore[index]  # it has fields
    for name in ("number", "time_ns", "taken_seq", "slot", "row", "position")
)
ROW_BYTES, POSITION_BYTES = ORDER_ROW.itemsize, POSITION.itemsize

ENTRIES_PER_POLL = 160
"""At least so many must fit before a poll: orders taken, messages applied, cancels of a sweep."""

MULTIPLIER: Any = np.int64(0x5851F42D4C957F2D)

assert ORDER_ROW.fields is not None
assert [ORDER_ROW.fields[name][1] for name in ORDER_ROW.names or ()] == [8 * index for index in range(ROW_WORDS)]


@primitive
def checksum(entry: int) -> int:
    """Of the entry at address `entry`, its first word left out: four multiplicative hashes side by side, joined."""
    a, b, c, d = 1, 2, 3, 4
    for offset in range(8, ENTRY_BYTES - 24, 32):
        a = _mix(a, load_word(entry + offset))
        b = _mix(b, load_word(entry + offset + 8))
        c = _mix(c, load_word(entry + offset + 16))
        d = _mix(d, load_word(entry + offset + 24))
    a = _mix(a, load_word(entry + ENTRY_BYTES - 24))
    b = _mix(b, load_word(entry + ENTRY_BYTES - 16))
    c = _mix(c, load_word(entry + ENTRY_BYTES - 8))
    return _mix(_mix(_mix(a, b), c), d)


@primitive
def _mix(value: int, word: int) -> int:
    # The shift brings the upper bits down: a multiplication carries upwards only.
    return multiply_wrapping(value ^ word ^ (word >> 29), MULTIPLIER)


@primitive
def has_room(context: Context) -> bool:
    """Whether a poll's entries fit. In private memory (twins, tests without a folder) the journal starts over."""
    state = context.state[0]
    if state["journal_end"] - state["journal_at"] >= ENTRIES_PER_POLL * ENTRY_BYTES:
        return True
    if state["journal_begin"] != 0:
        state["journal_at"] = state["journal_begin"]
        return True
    return False


@primitive
def is_any(context: Context, symbol: int) -> bool:
    """Whether there is anything in the position of `symbol`."""
    position = context.state[0]["positions"] + symbol * POSITION_BYTES
    bits = 0
    for offset in range(0, 8 * POSITION_WORDS, 8):
        bits |= load_word(position + offset)
    return bits != 0


@primitive
def append(context: Context, slot: int) -> None:
    """Write down the order in row `slot` and its symbol's position as they are now. Room is the caller's to see."""
    state = context.state[0]
    entry = state["journal_at"]
    row = context.orders.ctypes.data + slot * ROW_BYTES
    position = state["positions"] + context.orders[slot]["symbol"] * POSITION_BYTES
    state["journal_number"] += 1
    store_word(entry + NUMBER, state["journal_number"])
    store_word(entry + TIME, read_clock(context.clock))
    store_word(entry + TAKEN, state["taken_seq"])
    store_word(entry + SLOT, slot)
    for offset in range(0, 8 * ROW_WORDS, 8):
        store_word(entry + ROW + offset, load_word(row + offset))
    for offset in range(0, 8 * POSITION_WORDS, 8):
        store_word(entry + POSITION_AT + offset, load_word(position + offset))
    store_release(entry, checksum(entry))
    state["journal_at"] = entry + ENTRY_BYTES
