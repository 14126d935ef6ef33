"""Risk by the book: unbounded integers, dictionaries and lists; slow and obvious. Twin of stages/risk/check.py."""

from dataclasses import dataclass, field
from fractions import Fraction

from stages.domain.messages import BookState, OrderType, Reason, Side
from stages.domain.orders import ORDER_SLOTS


@dataclass
class Limits:
    tick: int
    minimum_lots: int
    maximum_lots: int
    minimum_notional: int
    maximum_notional: int
    maximum_position_notional: int
    collar_bps: int
    maximum_open_orders: int


@dataclass
class Market:
    bid: int = 0
    bid_quantity: int = 0
    ask: int = 0
    ask_quantity: int = 0
    read_ns: int = 0
    state: int = BookState.EMPTY
    is_published: bool = False


@dataclass
class Order:
    order_id: int
    symbol: int
    side: int
    order_type: int
    time_in_force: int
    price: int
    lots: int
    filled: int = 0


@dataclass
class Risk:
    """The whole view: positions and open orders, re-derived from the orders themselves each time."""

    limits: dict[int, Limits | None]
    markets: dict[int, Market]
    age_ns_max: int
    rate_max: int
    rate_window_ns: int
    positions: dict[int, int] = field(default_factory=dict)
    open: dict[int, Order] = field(default_factory=dict)
    ended: dict[int, Order] = field(default_factory=dict)
    """By row, the order that was there last."""
    accepted_ns: list[int] = field(default_factory=list)
    last_id: int = 0

    def judge(self, order: Order, now_ns: int) -> Reason:
        reason = self._reason(order, now_ns)
        if reason == Reason.NONE:
            self.open[order.order_id] = order
            self.ended.pop(order.order_id % ORDER_SLOTS, None)
            self.accepted_ns.append(now_ns)
        return reason

    def report(self, order_id: int, cumulative: int, final: bool) -> None:
        row = order_id % ORDER_SLOTS
        order = self.open.get(order_id) or self.ended.get(row)
        if order is None or order.order_id != order_id:
            return
        step = max(0, cumulative - order.filled)
        order.filled += step
        signed = step if order.side == Side.BUY else -step
        self.positions[order.symbol] = self.positions.get(order.symbol, 0) + signed
        if final and order_id in self.open:
            self.ended[row] = self.open.pop(order_id)

    def working(self, symbol: int, side: int) -> int:
        return sum(o.lots - o.filled for o in self.open.values() if o.symbol == symbol and o.side == side)

    def _reason(self, order: Order, now_ns: int) -> Reason:
        if order.symbol not in self.limits:
            return Reason.UNKNOWN_SYMBOL
        if order.side not in (0, 1) or order.order_type not in (1, 2, 3) or order.order_id < 1:
            return Reason.MALFORMED_ORDER
        is_market = order.order_type == OrderType.MARKET
        if order.order_type == OrderType.LIMIT and order.time_in_force not in (1, 2, 3):
            return Reason.MALFORMED_ORDER
        if is_market and order.price != 0:
            return Reason.MALFORMED_ORDER
        if order.order_id <= self.last_id:
            return Reason.DUPLICATE_ORDER_ID
        self.last_id = order.order_id
        limits = self.limits[order.symbol]
        if limits is None:
            return Reason.NO_LIMIT_CONFIGURED
        if not is_market and order.price <= 0:
            return Reason.PRICE_NOT_POSITIVE
        if order.lots < limits.minimum_lots:
            return Reason.QUANTITY_BELOW_MINIMUM
        if order.lots > limits.maximum_lots:
            return Reason.QUANTITY_EXCEEDS_MAXIMUM
        market = self.markets[order.symbol]
        if market.is_published and market.state == BookState.HALTED:
            return Reason.TRADING_HALTED
        if not market.is_published or market.state != BookState.VALID or not 0 < market.bid < market.ask <= 2**62:
            return Reason.MARKET_DATA_INVALID
        if market.bid_quantity <= 0 or market.ask_quantity <= 0:
            return Reason.MARKET_DATA_INVALID
        if now_ns - market.read_ns > self.age_ns_max:
            return Reason.MARKET_DATA_STALE
        price = order.price
        if is_market:
            price = -(-(market.ask if order.side == Side.BUY else market.bid) // limits.tick)
        value = price if order.side == Side.BUY else max(price, -(-market.bid // limits.tick))
        if order.lots * value > limits.maximum_notional:
            return Reason.NOTIONAL_EXCEEDS_MAXIMUM
        if order.lots * price < limits.minimum_notional:
            return Reason.NOTIONAL_BELOW_MINIMUM
        if not is_market:
            step = Fraction(limits.collar_bps, 10_000)
            low = market.bid - int(market.bid * step)
            high = market.ask + int(market.ask * step)
            if not low <= price * limits.tick <= high:
                return Reason.PRICE_OUTSIDE_COLLAR
        position = self.positions.get(order.symbol, 0)
        signed = position if order.side == Side.BUY else -position
        if (signed + self.working(order.symbol, order.side) + order.lots) * value > limits.maximum_position_notional:
            return Reason.POSITION_EXCEEDS_MAXIMUM
        if sum(o.symbol == order.symbol for o in self.open.values()) >= limits.maximum_open_orders:
            return Reason.OPEN_ORDERS_EXCEED_MAXIMUM
        if any(o.order_id % ORDER_SLOTS == order.order_id % ORDER_SLOTS for o in self.open.values()):
            return Reason.OPEN_ORDERS_EXCEED_MAXIMUM
        if sum(now_ns - at < self.rate_window_ns for at in self.accepted_ns) >= self.rate_max:
            return Reason.ORDER_RATE_EXCEEDED
        return Reason.NONE
