"""What both doors, REST and the WebSocket API, can ask of the venue: parameters in, JSON values or bytes out.

Authentication, replies and their order are the doors' own; here is only what a request means. `weight` is
Binance's request weight.
"""

from __future__ import annotations

import json
from typing import Any

from stages.venue import errors, instruments, orders
from stages.venue.endpoints.params import Params
from stages.venue.exchange import Exchange, now_ms
from stages.venue.limits import Limits
from stages.venue.order_request import read_cancel_restriction, read_order, read_reference
from stages.venue.settings import VenueSettings

DEPTH_LIMIT_DEFAULT, DEPTH_LIMIT_MAX = 100, 5000
_DEPTH_WEIGHTS = ((100, 5), (500, 25), (1000, 50), (DEPTH_LIMIT_MAX, 250))


class Operations:
    def __init__(self, exchange: Exchange, limits: Limits, settings: VenueSettings) -> None:
        self.exchange = exchange
        self.limits = limits
        self._settings = settings

    def ping(self, params: Params) -> dict[str, Any]:
        params.finish()
        self.limits.spend_weight(1)
        return {}

    def time(self, params: Params) -> dict[str, Any]:
        params.finish()
        self.limits.spend_weight(1)
        return {"serverTime": now_ms()}

    def exchange_info(self, params: Params) -> dict[str, Any]:
        self.limits.spend_weight(20)
        symbol, listed = params.text("symbol"), params.text("symbols")
        if symbol is not None and listed is not None:
            raise errors.bad_combination()
        chosen = list(self.exchange.instruments.values())
        if symbol is not None:
            chosen = [self.exchange.instrument(params.symbol())]
        elif listed is not None:
            chosen = [self.exchange.instrument(name) for name in _symbol_list(listed)]
        params.finish()
        return instruments.exchange_info(chosen, self._settings, now_ms())

    async def depth(self, params: Params) -> bytes:
        item = self.exchange.instrument(params.symbol())
        limit = params.long("limit")
        if limit == 0:
            raise errors.bad_value("limit")
        limit = min(limit or DEPTH_LIMIT_DEFAULT, DEPTH_LIMIT_MAX)
        params.finish()
        self.limits.spend_weight(next(weight for top, weight in _DEPTH_WEIGHTS if limit <= top))
        return await self.exchange.markets[item.symbol].depth(limit)

    def place(self, params: Params) -> dict[str, Any]:
        self.limits.spend_weight(1)
        request = read_order(params)
        params.finish()
        self.limits.spend_order()
        return orders.placement_result(self.exchange.place(request), request.response)

    def test_order(self, params: Params) -> dict[str, Any]:
        rates = params.boolean("computeCommissionRates")
        self.limits.spend_weight(20 if rates else 1)
        request = read_order(params)
        params.finish()
        self.exchange.check(request)
        return {"standardCommissionForOrder": self._rates()} if rates else {}

    def cancel(self, params: Params) -> dict[str, Any]:
        self.limits.spend_weight(1)
        reference = read_reference(params)
        cancel_client_id = params.client_id("newClientOrderId")
        restriction = read_cancel_restriction(params)
        params.finish()
        order = self.exchange.cancel(
            reference.symbol,
            reference.order_id,
            reference.client_order_id,
            cancel_client_id=cancel_client_id,
            restriction=restriction,
        )
        return orders.cancel_result(order)

    def cancel_all(self, params: Params) -> list[dict[str, Any]]:
        self.limits.spend_weight(1)
        symbol = params.symbol()
        params.finish()
        return [orders.cancel_result(order) for order in self.exchange.cancel_all(symbol)]

    def order_status(self, params: Params) -> dict[str, Any]:
        self.limits.spend_weight(4)
        reference = read_reference(params)
        params.finish()
        return orders.status_result(self.exchange.find(reference.symbol, reference.order_id, reference.client_order_id))

    def open_orders(self, params: Params) -> list[dict[str, Any]]:
        symbol = params.symbol() if params.has("symbol") else None
        self.limits.spend_weight(80 if symbol is None else 6)
        params.finish()
        return [orders.status_result(order) for order in self.exchange.open_orders(symbol)]

    def all_orders(self, params: Params) -> list[dict[str, Any]]:
        self.limits.spend_weight(20)
        symbol = params.symbol()
        first, limit = params.long("orderId"), _count_limit(params)
        params.finish()
        found = [order for order in self.exchange.all_orders(symbol) if first is None or order.order_id >= first]
        chosen = found[:limit] if first is not None else found[-limit:]
        return [orders.status_result(order) for order in chosen]

    def my_trades(self, params: Params) -> list[dict[str, Any]]:
        symbol = params.symbol()
        order_id, first, limit = params.long("orderId"), params.long("fromId"), _count_limit(params)
        self.limits.spend_weight(20 if order_id is None else 5)
        params.finish()
        found = [
            trade
            for order in self.exchange.all_orders(symbol)
            if order_id in (None, order.order_id)
            for trade in orders.trade_results(order)
            if first is None or trade["id"] >= first
        ]
        found.sort(key=lambda trade: trade["id"])
        return found[:limit] if first is not None else found[-limit:]

    def account(self, params: Params) -> dict[str, Any]:
        self.limits.spend_weight(20)
        omit_zero = params.boolean("omitZeroBalances") or False
        params.finish()
        account = self.exchange.account
        return {
            "makerCommission": self.exchange.maker_fee_bps,
            "takerCommission": self.exchange.taker_fee_bps,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {**self._rates(), "buyer": "0.00000000", "seller": "0.00000000"},
            "canTrade": True,
            "canWithdraw": False,
            "canDeposit": False,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": account.update_time_ms,
            "accountType": "SPOT",
            "balances": account.listing(omit_zero=omit_zero),
            "permissions": ["SPOT"],
            "uid": 1,
        }

    def _rates(self) -> dict[str, str]:
        return {
            "maker": f"{self.exchange.maker_fee_bps / 10_000:.8f}",
            "taker": f"{self.exchange.taker_fee_bps / 10_000:.8f}",
        }


def _symbol_list(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise errors.illegal_characters("symbols", r'^\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\]$')
    return names


def _count_limit(params: Params) -> int:
    limit = params.long("limit")
    if limit == 0:
        raise errors.bad_value("limit")
    return min(limit or 500, 1000)
