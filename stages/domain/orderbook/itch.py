"""ITCH order messages applied to books of single orders, straight from their bytes."""

from shm.atomics import load_u8
from shm.kernel import primitive
from stages.domain.codecs import itch
from stages.domain.orderbook import l3

NO_ORDER = 1
"""The message is not about an order that is shown."""

_ADD, _ADD_ATTRIBUTED, _EXECUTE, _EXECUTE_AT_PRICE = ord("A"), ord("F"), ord("E"), ord("C")
_CANCEL, _DELETE, _REPLACE = ord("X"), ord("D"), ord("U")
BUY, SELL = 0, 1


@primitive
def apply(engine: int, message: int) -> int:
    """Do what the message at `message` says; its stock locate is the symbol. A code of `l3`, or NO_ORDER."""
    kind = load_u8(message)
    if kind in (_ADD, _ADD_ATTRIBUTED):
        side = BUY if load_u8(message + itch.SIDE) == itch.BUY else SELL
        reference, price = itch.order_reference(message), itch.added_price(message)
        return l3.add(engine, itch.locate(message), reference, side, price, itch.added_shares(message))
    if kind == _DELETE:
        return l3.delete(engine, itch.order_reference(message))
    if kind == _REPLACE:
        old, new = itch.order_reference(message), itch.new_order_reference(message)
        return l3.replace(engine, old, new, itch.new_price(message), itch.new_shares(message))
    if kind in (_EXECUTE, _EXECUTE_AT_PRICE):
        return l3.execute(engine, itch.order_reference(message), itch.changed_shares(message))
    if kind == _CANCEL:
        return l3.cancel(engine, itch.order_reference(message), itch.changed_shares(message))
    return NO_ORDER
