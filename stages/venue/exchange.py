"""The exchange proper: takes the account's orders, executes them on a market, keeps balances, and reports.

It is synchronous: one request is carried out whole, then the caller sends the reply and calls `flush`, which
sends the user data events and the market data of that request. So a reply is never behind its own events, and
nothing waits for a timer.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import MARKET_BUY_PRICE, MARKET_SELL_PRICE, Fill, Order, reaches
from stages.venue import errors, filters, fixed, orders
from stages.venue.account import Account
from stages.venue.endpoints.wire import to_json
from stages.venue.fixed import quote_amount, quote_amount_up
from stages.venue.instruments import Instrument
from stages.venue.markets.market import Market
from stages.venue.order_request import OrderRequest
from stages.venue.orders import OrderStatus, OrderType, OwnFill, TimeInForce, UserOrder

CLOSED_ORDERS_KEPT = 100_000
_BPS = 10_000


def now_ms() -> int:
    """Wall clock, ms since the epoch."""
    return time.time_ns() // 1_000_000


class Exchange:
    """Orders and balances of the one account, over the markets of all symbols."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        account: Account,
        *,
        maker_fee_bps: int,
        taker_fee_bps: int,
    ) -> None:
        self.instruments: Mapping[str, Instrument] = {item.symbol: item for item in instruments}
        self.account = account
        self.maker_fee_bps = maker_fee_bps
        self.taker_fee_bps = taker_fee_bps
        self.markets: dict[str, Market] = {}
        self.listeners: list[Callable[[bytes], None]] = []  # user data subscribers
        self._open: dict[int, UserOrder] = {}
        self._open_by_client_id: dict[tuple[str, str], UserOrder] = {}
        self._closed: OrderedDict[int, UserOrder] = OrderedDict()
        self._closed_by_client_id: dict[tuple[str, str], UserOrder] = {}
        self._events: list[dict[str, Any]] = []
        self._order_id = 1_000_000
        self._execution_id = 5_000_000

    def next_order_id(self) -> int:
        """Ids of all orders at the venue, the crowd's too."""
        self._order_id += 1
        return self._order_id

    def instrument(self, symbol: str) -> Instrument:
        item = self.instruments.get(symbol)
        if item is None:
            raise errors.bad_symbol()
        return item

    def place(self, request: OrderRequest) -> UserOrder:
        """Execute a new order. Raises BinanceError when it is refused; nothing has happened then."""
        item = self.instrument(request.symbol)
        market = self.markets[item.symbol]
        quantity = self._check(request, item, market)
        client_id = request.client_order_id or secrets.token_hex(11)
        if (item.symbol, client_id) in self._open_by_client_id:
            raise errors.duplicate_order()
        order = self._new_order(request, item, quantity, client_id)
        order.locked = self._needed(order, market)
        self.account.lock(order.spent_asset, order.locked)
        self._open[order.order_id] = order
        self._open_by_client_id[item.symbol, client_id] = order
        self._report(order, "NEW")
        self._execute(order, market)
        return order

    def check(self, request: OrderRequest) -> None:
        """What order.test does: all checks that come before the matching engine."""
        item = self.instrument(request.symbol)
        self._check(request, item, self.markets[item.symbol])

    def cancel(
        self,
        symbol: str,
        order_id: int | None,
        client_id: str | None,
        *,
        cancel_client_id: str | None = None,
        restriction: OrderStatus | None = None,
    ) -> UserOrder:
        """Cancel one open order by either id (by both: they must name the same order)."""
        self.instrument(symbol)
        order = self._open.get(order_id) if order_id is not None else None
        if order_id is None and client_id is not None:
            order = self._open_by_client_id.get((symbol, client_id))
        if order is None or order.instrument.symbol != symbol:
            raise errors.cancel_rejected()
        if client_id is not None and order.client_order_id != client_id:
            raise errors.cancel_rejected()
        if restriction is not None and order.status is not restriction:
            raise errors.cancel_rejected("Order was not canceled due to cancel restrictions.")
        self._cancel(order, cancel_client_id or secrets.token_hex(11))
        return order

    def cancel_all(self, symbol: str) -> list[UserOrder]:
        """Cancel every open order of a symbol; -2011 when there is none."""
        found = self.open_orders(symbol)
        if not found:
            raise errors.cancel_rejected()
        for order in found:
            self._cancel(order, secrets.token_hex(11))
        return found

    def open_orders(self, symbol: str | None) -> list[UserOrder]:
        if symbol is None:
            return list(self._open.values())
        self.instrument(symbol)
        return [order for order in self._open.values() if order.instrument.symbol == symbol]

    def find(self, symbol: str, order_id: int | None, client_id: str | None) -> UserOrder:
        """An order, open or closed; a client id means the newest order that carried it."""
        self.instrument(symbol)
        if order_id is not None:
            order = self._open.get(order_id) or self._closed.get(order_id)
        else:
            key = (symbol, client_id or "")
            order = self._open_by_client_id.get(key) or self._closed_by_client_id.get(key)
        if order is None or order.instrument.symbol != symbol:
            raise errors.no_such_order()
        if client_id is not None and client_id not in (order.client_order_id, order.cancel_client_id):
            raise errors.no_such_order()
        return order

    def all_orders(self, symbol: str) -> list[UserOrder]:
        """Open and closed orders of a symbol, oldest first."""
        self.instrument(symbol)
        both = [*self._closed.values(), *self._open.values()]
        return sorted((o for o in both if o.instrument.symbol == symbol), key=lambda o: o.order_id)

    def apply_fills(self, symbol: str, fills: Iterable[tuple[Fill, int]]) -> None:
        """Book fills that the market source reports; those that are not ours are passed over."""
        for fill, trade_id in fills:
            for side_order, is_maker in ((fill.taker, False), (fill.maker, True)):
                ours = self._open.get(side_order.order_id) if side_order is not None else None
                if ours is not None:
                    self._fill(ours, fill.price, fill.quantity, trade_id, is_maker=is_maker)

    def flush(self) -> None:
        """Send the events and market data of what has happened since the last call."""
        position = self.account.take_position_event(now_ms())
        if position is not None:
            self._events.append(position)
        events, self._events = self._events, []
        if self.listeners:
            for event in events:
                text = to_json(event)
                for listener in list(self.listeners):
                    listener(text)
        for market in self.markets.values():
            market.publish()

    # ---- checks

    def _check(self, request: OrderRequest, item: Instrument, market: Market) -> int:
        """All filters; returns the quantity in base asset (derived, when quoteOrderQty was given)."""
        if request.kind is OrderType.MARKET:
            reference = market.last_price or next((p for p, _ in market.takeable(request.side)), 0)
            quantity = request.quantity
            if quantity is None:
                quantity = self._affordable(request, item, market)
            filters.check_quantity(item, quantity)
            if reference:
                filters.check_notional(item, reference, quantity, is_market=True)
        else:
            assert request.quantity is not None
            assert request.price is not None
            quantity = request.quantity
            filters.check_price(item, request.price)
            filters.check_quantity(item, quantity)
            filters.check_notional(item, request.price, quantity, is_market=False)
            if request.kind is OrderType.LIMIT_MAKER:
                best = next((price for price, _ in market.takeable(request.side)), None)
                if best is not None and reaches(request.side, request.price, best):
                    raise errors.would_take()
        filters.check_open_orders(sum(o.instrument is item for o in self._open.values()))
        return quantity

    def _affordable(self, request: OrderRequest, item: Instrument, market: Market) -> int:
        """Quantity whose value comes closest to quoteOrderQty from below, in whole lots."""
        left, quantity = request.quote_quantity or 0, 0
        for price, offered in market.takeable(request.side):
            lots = min(offered, left * fixed.SCALE // price) // item.lot
            quantity += lots * item.lot
            left -= quote_amount_up(price, lots * item.lot)
            if lots * item.lot < offered:
                break
        if quantity < item.min_quantity:
            raise errors.order_rejected(
                "Order book liquidity is less than `LOT_SIZE` filter minimum quantity."
                if not left
                else "Order book liquidity is less than symbol minimum quantity."
            )
        return quantity

    def _needed(self, order: UserOrder, market: Market) -> int:
        """What the order locks: its quantity, or its greatest cost."""
        if order.side is Side.SELL:
            return order.quantity
        if order.kind is not OrderType.MARKET:
            return quote_amount_up(order.price, order.quantity)
        cost, left = 0, order.quantity
        for price, offered in market.takeable(order.side):
            step = min(left, offered)
            cost += quote_amount_up(price, step)
            left -= step
            if not left:
                break
        return cost

    # ---- execution

    def _new_order(self, request: OrderRequest, item: Instrument, quantity: int, client_id: str) -> UserOrder:
        order_id, now = self.next_order_id(), now_ms()
        price = request.price or 0
        if request.kind is OrderType.MARKET:
            limit = MARKET_BUY_PRICE if request.side is Side.BUY else MARKET_SELL_PRICE
        else:
            limit = price
        return UserOrder(
            order_id=order_id,
            client_order_id=client_id,
            instrument=item,
            side=request.side,
            kind=request.kind,
            time_in_force=request.time_in_force,
            price=price,
            quantity=quantity,
            quote_quantity=request.quote_quantity or 0,
            time_ms=now,
            update_time_ms=now,
            book_order=Order(order_id, request.side, limit, quantity),
            strategy_id=request.strategy_id,
            strategy_type=request.strategy_type,
        )

    def _execute(self, order: UserOrder, market: Market) -> None:
        if order.time_in_force is TimeInForce.FOK and not self._fillable(order, market):
            self._expire(order, "UNFILLED_FOK_ORDER_EXPIRED")
            return
        rest = order.time_in_force is TimeInForce.GTC and order.kind is not OrderType.MARKET
        self.apply_fills(order.instrument.symbol, market.submit(order.book_order, rest=rest))
        if order.is_open and not rest:
            market_order = order.kind is OrderType.MARKET
            self._expire(order, "INSUFFICIENT_LIQUIDITY" if market_order else "UNFILLED_IOC_QUANTITY_EXPIRED")

    def _fillable(self, order: UserOrder, market: Market) -> bool:
        left = order.quantity
        for price, offered in market.takeable(order.side):
            if not reaches(order.side, order.price, price):
                return False
            left -= offered
            if left <= 0:
                return True
        return False

    def _fill(self, order: UserOrder, price: int, quantity: int, trade_id: int, *, is_maker: bool) -> None:
        item, account = order.instrument, self.account
        quote = quote_amount(price, quantity)
        bps = self.maker_fee_bps if is_maker else self.taker_fee_bps
        gross = quantity if order.side is Side.BUY else quote
        commission = gross * bps // _BPS
        spent = quote if order.side is Side.BUY else quantity
        account.spend_locked(order.spent_asset, spent)
        account.receive(order.received_asset, gross - commission)
        order.locked -= spent
        order.executed += quantity
        order.executed_quote += quote
        is_filled = order.executed == order.quantity
        order.status = OrderStatus.FILLED if is_filled else OrderStatus.PARTIALLY_FILLED
        order.update_time_ms = now_ms()
        if is_filled:
            keep = 0
        elif order.side is Side.BUY and order.kind is not OrderType.MARKET:
            keep = quote_amount_up(order.price, order.quantity - order.executed)
        else:
            keep = order.locked
        account.unlock(order.spent_asset, order.locked - keep)  # bought below the limit price
        order.locked = keep
        fill = OwnFill(
            price=price,
            quantity=quantity,
            quote=quote,
            commission=commission,
            commission_asset=item.base_asset if order.side is Side.BUY else item.quote_asset,
            trade_id=trade_id,
            is_maker=is_maker,
            time_ms=order.update_time_ms,
        )
        order.fills.append(fill)
        if is_filled:
            self._close(order)
        self._report(order, "TRADE", fill)

    def _cancel(self, order: UserOrder, cancel_client_id: str) -> None:
        self.markets[order.instrument.symbol].cancel(order.book_order)
        order.cancel_client_id = cancel_client_id
        self._end(order, OrderStatus.CANCELED)
        self._report(order, "CANCELED")

    def _expire(self, order: UserOrder, reason: str) -> None:
        order.expiry_reason = reason
        self._end(order, OrderStatus.EXPIRED)
        self._report(order, "EXPIRED")

    def _end(self, order: UserOrder, status: OrderStatus) -> None:
        order.status = status
        order.update_time_ms = now_ms()
        self.account.unlock(order.spent_asset, order.locked)
        order.locked = 0
        self._close(order)

    def _close(self, order: UserOrder) -> None:
        symbol = order.instrument.symbol
        del self._open[order.order_id]
        del self._open_by_client_id[symbol, order.client_order_id]
        self._closed[order.order_id] = order
        for client_id in filter(None, (order.client_order_id, order.cancel_client_id)):
            self._closed_by_client_id[symbol, client_id] = order
        if len(self._closed) > CLOSED_ORDERS_KEPT:
            _, oldest = self._closed.popitem(last=False)
            for client_id in (oldest.client_order_id, oldest.cancel_client_id):
                key = (oldest.instrument.symbol, client_id)
                if self._closed_by_client_id.get(key) is oldest:
                    del self._closed_by_client_id[key]

    def _report(self, order: UserOrder, execution: str, fill: OwnFill | None = None) -> None:
        self._execution_id += 1
        self._events.append(orders.execution_report(order, execution, self._execution_id, now_ms(), fill))
