"""ITCH order messages applied to books of single orders, straight from their bytes."""

from shm.atomics import load_u8
from shm.kernel import primitive, routine
from stages.domain.codecs import itch
from stages.domain.orderbook import l3

NO_ORDER = 1
"""The message is not about an order that is shown."""

_ADD, _ADD_ATTRIBUTED, _EXECUTE, _EXECUTE_AT_PRICE = ord("A"), ord("F"), ord("E"), ord("C")
_CANCEL, _DELETE, _REPLACE = ord("X"), ord("D"), ord("U")
BUY, SELL = 0, 1


@routine
def apply(engine: int, message: int, likely: int = 0) -> int:
    """Do what the message at `message` says; its stock locate is the symbol. A code of `l3`, or NO_ORDER.

    likely   as in `l3`
    """
    kind = load_u8(message)
    if kind in (_ADD, _ADD_ATTRIBUTED):
        reference, price = itch.order_reference(message), itch.added_price(message)
        shares = itch.added_shares(message)
        return l3.add(engine, itch.locate(message), reference, side_of(message), price, shares, likely)
    if kind == _DELETE:
        return l3.delete(engine, itch.order_reference(message), likely)
    if kind == _REPLACE:
        old, new = itch.order_reference(message), itch.new_order_reference(message)
        return l3.replace(engine, old, new, itch.new_price(message), itch.new_shares(message), likely)
    if kind in (_EXECUTE, _EXECUTE_AT_PRICE):
        return l3.execute(engine, itch.order_reference(message), itch.changed_shares(message), likely)
    if kind == _CANCEL:
        return l3.cancel(engine, itch.order_reference(message), itch.changed_shares(message), likely)
    return NO_ORDER


@primitive
def side_of(message: int) -> int:
    """Of an A or F."""
    return BUY if load_u8(message + itch.SIDE) == itch.BUY else SELL
