"""The life of an order: its states, the one table of allowed transitions, and the table that finds an order by its id.

Order ids come from the strategy, ascending from 1. Strategy, risk and router each keep their orders in a direct-mapped
table of ORDER_SLOTS rows: an order lives in row `order_id & (ORDER_SLOTS - 1)`, so finding it is one load. The strategy
skips an id whose row still holds a working order, hence a row is never wanted twice; risk and router refuse if it is.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ORDER_SLOTS = 1_024
SLOT_MASK = ORDER_SLOTS - 1


class OrderState(IntEnum):
    """Where an order is, as the router knows it."""

    FREE = 0
    """The row holds no order yet."""
    PENDING_NEW = 1
    """Handed to the socket; the venue has not answered."""
    WORKING = 2
    """Accepted by the venue; may be partly filled."""
    PENDING_CANCEL = 3
    """A cancel was handed to the socket; the venue has not said what became of it."""
    FILLED = 4
    CANCELLED = 5
    EXPIRED = 6
    REJECTED = 7
    UNKNOWN = 8
    """The connection or the answer was lost: only the venue knows. Asked for, never sent again."""


_ENDS = (OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED)

TRANSITIONS: dict[OrderState, tuple[OrderState, ...]] = {
    OrderState.FREE: (OrderState.PENDING_NEW,),
    OrderState.PENDING_NEW: (OrderState.WORKING, OrderState.PENDING_CANCEL, OrderState.UNKNOWN, *_ENDS),
    OrderState.WORKING: (OrderState.PENDING_CANCEL, OrderState.UNKNOWN, *_ENDS),
    # Back to WORKING when the venue refuses the cancel. REJECTED: the cancel overtook the order's refusal.
    OrderState.PENDING_CANCEL: (OrderState.WORKING, OrderState.UNKNOWN, *_ENDS),
    OrderState.UNKNOWN: (OrderState.WORKING, *_ENDS),
    # An order that ended stays ended; its row is used again.
    OrderState.FILLED: (OrderState.PENDING_NEW,),
    OrderState.CANCELLED: (OrderState.PENDING_NEW,),
    OrderState.EXPIRED: (OrderState.PENDING_NEW,),
    OrderState.REJECTED: (OrderState.PENDING_NEW,),
}

OPEN_STATES = (OrderState.PENDING_NEW, OrderState.WORKING, OrderState.PENDING_CANCEL, OrderState.UNKNOWN)
"""States in which something of the order may still be at the venue."""


def _allowed() -> NDArray[np.bool_]:
    table = np.zeros((len(OrderState), len(OrderState)), np.bool_)
    for source, targets in TRANSITIONS.items():
        table[source, list(targets)] = True
    return table


ALLOWED = _allowed()
"""ALLOWED[from, to], for kernels."""

IS_OPEN = np.array([state in OPEN_STATES for state in OrderState], np.bool_)
"""IS_OPEN[state], for kernels."""


def base36(value: int) -> str:
    """`value` >= 0 in digits 0-9a-z."""
    digits = ""
    while True:
        value, digit = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
        if value == 0:
            return digits


def client_order_id_prefix(run_start_ms: int) -> str:
    """Prefix of every client order id of a run: `t<run start, ms since the epoch, base 36>-`."""
    return f"t{base36(run_start_ms)}-"
