"""The account's orders, and the JSON shapes in which Binance shows them (binance.md 1.6 and 1.10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Order
from stages.venue.fixed import show
from stages.venue.instruments import Instrument


class OrderType(Enum):
    LIMIT = "LIMIT"
    LIMIT_MAKER = "LIMIT_MAKER"
    MARKET = "MARKET"


class TimeInForce(Enum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class OrderStatus(Enum):
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"


class ResponseType(Enum):
    ACK = "ACK"
    RESULT = "RESULT"
    FULL = "FULL"


OPEN_STATUSES = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True)
class OwnFill:
    """One execution of one of our orders."""

    price: int
    quantity: int
    quote: int
    commission: int
    commission_asset: str
    trade_id: int
    is_maker: bool
    time_ms: int


@dataclass(slots=True, eq=False)
class UserOrder:
    """One order of the account; numbers scaled by 10^8, times in ms since the epoch."""

    order_id: int
    client_order_id: str
    instrument: Instrument
    side: Side
    kind: OrderType
    time_in_force: TimeInForce
    price: int  # 0 for a market order
    quantity: int
    quote_quantity: int  # quoteOrderQty, 0 when not given
    time_ms: int
    update_time_ms: int
    book_order: Order
    status: OrderStatus = OrderStatus.NEW
    executed: int = 0
    executed_quote: int = 0
    locked: int = 0  # of the asset this order spends
    cancel_client_id: str = ""
    expiry_reason: str = ""
    strategy_id: int | None = None
    strategy_type: int | None = None
    fills: list[OwnFill] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def spent_asset(self) -> str:
        return self.instrument.quote_asset if self.side is Side.BUY else self.instrument.base_asset

    @property
    def received_asset(self) -> str:
        return self.instrument.base_asset if self.side is Side.BUY else self.instrument.quote_asset


def _strategy(order: UserOrder) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if order.strategy_id is not None:
        found["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        found["strategyType"] = order.strategy_type
    return found


def placement_result(order: UserOrder, response: ResponseType) -> dict[str, Any]:
    """Reply to a new order: ACK, RESULT or FULL."""
    result: dict[str, Any] = {
        "symbol": order.instrument.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "transactTime": order.update_time_ms,
    }
    if response is ResponseType.ACK:
        return result
    result |= {
        "price": show(order.price),
        "origQty": show(order.quantity),
        "executedQty": show(order.executed),
        "origQuoteOrderQty": show(order.quote_quantity),
        "cummulativeQuoteQty": show(order.executed_quote),
        "status": order.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.kind.value,
        "side": order.side.name,
        **_strategy(order),
        "workingTime": order.time_ms,
    }
    if response is ResponseType.FULL:
        result["fills"] = [
            {
                "price": show(fill.price),
                "qty": show(fill.quantity),
                "commission": show(fill.commission),
                "commissionAsset": fill.commission_asset,
                "tradeId": fill.trade_id,
            }
            for fill in order.fills
        ]
    result["selfTradePreventionMode"] = "NONE"
    if order.expiry_reason:
        result["expiryReason"] = order.expiry_reason
    return result


def cancel_result(order: UserOrder) -> dict[str, Any]:
    """Reply to a cancel."""
    return {
        "symbol": order.instrument.symbol,
        "origClientOrderId": order.client_order_id,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.cancel_client_id,
        "transactTime": order.update_time_ms,
        "price": show(order.price),
        "origQty": show(order.quantity),
        "executedQty": show(order.executed),
        "origQuoteOrderQty": show(order.quote_quantity),
        "cummulativeQuoteQty": show(order.executed_quote),
        "status": order.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.kind.value,
        "side": order.side.name,
        **_strategy(order),
        "selfTradePreventionMode": "NONE",
    }


def status_result(order: UserOrder) -> dict[str, Any]:
    """One order as order.status and openOrders show it."""
    return {
        "symbol": order.instrument.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "price": show(order.price),
        "origQty": show(order.quantity),
        "executedQty": show(order.executed),
        "cummulativeQuoteQty": show(order.executed_quote),
        "status": order.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.kind.value,
        "side": order.side.name,
        "stopPrice": "0.00000000",
        "icebergQty": "0.00000000",
        "time": order.time_ms,
        "updateTime": order.update_time_ms,
        "isWorking": True,
        "workingTime": order.time_ms,
        "origQuoteOrderQty": show(order.quote_quantity),
        **_strategy(order),
        "selfTradePreventionMode": "NONE",
    }


def trade_results(order: UserOrder) -> list[dict[str, Any]]:
    """The order's executions as myTrades shows them."""
    return [
        {
            "symbol": order.instrument.symbol,
            "id": fill.trade_id,
            "orderId": order.order_id,
            "orderListId": -1,
            "price": show(fill.price),
            "qty": show(fill.quantity),
            "quoteQty": show(fill.quote),
            "commission": show(fill.commission),
            "commissionAsset": fill.commission_asset,
            "time": fill.time_ms,
            "isBuyer": order.side is Side.BUY,
            "isMaker": fill.is_maker,
            "isBestMatch": True,
        }
        for fill in order.fills
    ]


def execution_report(
    order: UserOrder, execution: str, execution_id: int, now_ms: int, fill: OwnFill | None = None
) -> dict[str, Any]:
    """executionReport in Binance's key order. `v` (prevented match) and the other conditional keys do not occur
    without self-trade prevention; `j`, `J` appear when a strategy id was given, `eR` on an expiry."""
    is_cancel = execution == "CANCELED"
    report: dict[str, Any] = {
        "e": "executionReport",
        "E": now_ms,
        "s": order.instrument.symbol,
        "c": order.cancel_client_id if is_cancel else order.client_order_id,
        "S": order.side.name,
        "o": order.kind.value,
        "f": order.time_in_force.value,
        "q": show(order.quantity),
        "p": show(order.price),
        "P": "0.00000000",
        "F": "0.00000000",
        "g": -1,
        "C": order.client_order_id if is_cancel else "",
        "x": execution,
        "X": order.status.value,
        "r": "NONE",
        "i": order.order_id,
        "l": show(fill.quantity) if fill else "0.00000000",
        "z": show(order.executed),
        "L": show(fill.price) if fill else "0.00000000",
        "n": show(fill.commission) if fill else "0",
        "N": fill.commission_asset if fill else None,
        "T": order.update_time_ms,
        "t": fill.trade_id if fill else -1,
        "I": execution_id,
        "w": order.is_open and order.kind is not OrderType.MARKET,
        "m": fill.is_maker if fill else False,
        "M": fill is not None,
        "O": order.time_ms,
        "Z": show(order.executed_quote),
        "Y": show(fill.quote) if fill else "0.00000000",
        "Q": show(order.quote_quantity),
        "W": order.time_ms,
        "V": "NONE",
    }
    if order.strategy_id is not None:
        report["j"] = order.strategy_id
    if order.strategy_type is not None:
        report["J"] = order.strategy_type
    if execution == "EXPIRED" and order.expiry_reason:
        report["eR"] = order.expiry_reason
    return report
