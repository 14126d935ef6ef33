"""Reading a new order from its parameters (binance-spot-api-docs, "New order": what each type must and must not
carry)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stages.domain.matching.ladder import Side
from stages.venue import errors
from stages.venue.endpoints.params import Params
from stages.venue.orders import OrderStatus, OrderType, ResponseType, TimeInForce


class SideName(Enum):
    BUY = "BUY"
    SELL = "SELL"


class CancelRestriction(Enum):
    ONLY_NEW = "ONLY_NEW"
    ONLY_PARTIALLY_FILLED = "ONLY_PARTIALLY_FILLED"


_RESTRICTED_TO = {
    CancelRestriction.ONLY_NEW: OrderStatus.NEW,
    CancelRestriction.ONLY_PARTIALLY_FILLED: OrderStatus.PARTIALLY_FILLED,
}


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """A new order as asked for; prices and quantities scaled by 10^8, None when not given."""

    symbol: str
    side: Side
    kind: OrderType
    time_in_force: TimeInForce
    price: int | None
    quantity: int | None
    quote_quantity: int | None
    client_order_id: str | None
    response: ResponseType
    strategy_id: int | None
    strategy_type: int | None


def read_order(params: Params) -> OrderRequest:
    symbol = params.symbol()
    params.required("side")
    side = params.choice("side", SideName, errors.bad_side())
    params.required("type")
    kind = params.choice("type", OrderType, errors.bad_order_type())
    assert side is not None
    assert kind is not None
    time_in_force, price, quantity, quote_quantity = _terms(params, kind)
    stp = params.text("selfTradePreventionMode")
    if stp not in (None, "NONE"):
        raise errors.bad_value("selfTradePreventionMode")
    strategy_type = params.long("strategyType")
    if strategy_type is not None and strategy_type < 1_000_000:
        raise errors.bad_strategy_type()
    default = ResponseType.ACK if kind is OrderType.LIMIT_MAKER else ResponseType.FULL
    response = params.choice("newOrderRespType", ResponseType, errors.bad_value("newOrderRespType"))
    return OrderRequest(
        symbol=symbol,
        side=Side[side.value],
        kind=kind,
        time_in_force=time_in_force,
        price=price,
        quantity=quantity,
        quote_quantity=quote_quantity,
        client_order_id=params.client_id("newClientOrderId"),
        response=response or default,
        strategy_id=params.long("strategyId"),
        strategy_type=strategy_type,
    )


def _terms(params: Params, kind: OrderType) -> tuple[TimeInForce, int | None, int | None, int | None]:
    """(time in force, price, quantity, quote quantity) by the rules of the order type."""
    for name in ("stopPrice", "trailingDelta", "icebergQty"):
        params.refuse(name)
    if kind is OrderType.MARKET:
        for name in ("timeInForce", "price"):
            params.refuse(name)
        quantity, quote = params.decimal("quantity"), params.decimal("quoteOrderQty")
        if quantity is None and quote is None:
            raise errors.missing_either("quantity", "quoteOrderQty")
        if quantity is not None and quote is not None:
            raise errors.bad_combination()
        return TimeInForce.GTC, None, quantity, quote
    params.refuse("quoteOrderQty")
    time_in_force = TimeInForce.GTC
    if kind is OrderType.LIMIT:
        params.required("timeInForce")
        chosen = params.choice("timeInForce", TimeInForce, errors.bad_time_in_force())
        assert chosen is not None
        time_in_force = chosen
    else:
        params.refuse("timeInForce")
    return time_in_force, params.required_decimal("price"), params.required_decimal("quantity"), None


@dataclass(frozen=True, slots=True)
class OrderReference:
    """Which order is meant: by either id, or both."""

    symbol: str
    order_id: int | None
    client_order_id: str | None


def read_reference(params: Params) -> OrderReference:
    symbol = params.symbol()
    order_id = params.long("orderId")
    client_id = params.client_id("origClientOrderId")
    if order_id is None and client_id is None:
        raise errors.missing_either("origClientOrderId", "orderId")
    return OrderReference(symbol, order_id, client_id)


def read_cancel_restriction(params: Params) -> OrderStatus | None:
    """The status an order must have to be cancelled; None when any open one will do."""
    chosen = params.choice("cancelRestrictions", CancelRestriction, errors.bad_cancel_restrictions())
    return _RESTRICTED_TO[chosen] if chosen is not None else None
