"""The checks of one new order: integers only, no division by anything that varies, first reason found wins.

The order of the checks is the order of `Reason`'s seriousness as an operator reads it: what is wrong with the record,
then with the order by itself, then against the market, then against the position, last the rate (the only check that
changes state, so only an order that passed everything else uses up rate).
"""

import numpy as np
from numpy.typing import NDArray

from shm import seqlock
from shm.atomics import leading_zeros, multiply_wrapping
from shm.kernel import primitive
from stages.domain.messages import BBO, BookState, OrderType, Reason, Side, TimeInForce
from stages.domain.orders import SLOT_MASK

BBO_BYTES = BBO.itemsize
BPS = 10_000
LARGEST_PRICE = 2**62

BUY = int(Side.BUY)
SELL = int(Side.SELL)
LIMIT = int(OrderType.LIMIT)
MARKET = int(OrderType.MARKET)
GTC = int(TimeInForce.GTC)
FOK = int(TimeInForce.FOK)
VALID, HALTED = int(BookState.VALID), int(BookState.HALTED)

NONE = int(Reason.NONE)
QUANTITY_BELOW_MINIMUM = int(Reason.QUANTITY_BELOW_MINIMUM)
QUANTITY_EXCEEDS_MAXIMUM = int(Reason.QUANTITY_EXCEEDS_MAXIMUM)
NOTIONAL_BELOW_MINIMUM = int(Reason.NOTIONAL_BELOW_MINIMUM)
NOTIONAL_EXCEEDS_MAXIMUM = int(Reason.NOTIONAL_EXCEEDS_MAXIMUM)
PRICE_NOT_POSITIVE = int(Reason.PRICE_NOT_POSITIVE)
PRICE_OUTSIDE_COLLAR = int(Reason.PRICE_OUTSIDE_COLLAR)
MARKET_DATA_STALE = int(Reason.MARKET_DATA_STALE)
MARKET_DATA_INVALID = int(Reason.MARKET_DATA_INVALID)
POSITION_EXCEEDS_MAXIMUM = int(Reason.POSITION_EXCEEDS_MAXIMUM)
OPEN_ORDERS_EXCEED_MAXIMUM = int(Reason.OPEN_ORDERS_EXCEED_MAXIMUM)
ORDER_RATE_EXCEEDED = int(Reason.ORDER_RATE_EXCEEDED)
DUPLICATE_ORDER_ID = int(Reason.DUPLICATE_ORDER_ID)
UNKNOWN_SYMBOL = int(Reason.UNKNOWN_SYMBOL)
NO_LIMIT_CONFIGURED = int(Reason.NO_LIMIT_CONFIGURED)
TRADING_STOPPED = int(Reason.TRADING_STOPPED)
MALFORMED_ORDER = int(Reason.MALFORMED_ORDER)
TRADING_HALTED = int(Reason.TRADING_HALTED)


@primitive
def exceeds(a: int, b: int, limit: int) -> bool:
    """a * b > limit, exactly, for 0 <= a, b and 0 <= limit <= 2**62; the product may be beyond 64 bits."""
    zeros = leading_zeros(a) + leading_zeros(b)
    # Fewer leading zeros: the product is 2**63 or more.
    product = multiply_wrapping(a, b) if zeros >= 64 else -1
    return product > limit or product < 0  # exactly 64: between 2**62 and 2**64, negative when it wrapped


@primitive
def basis_points_of(price: int, bps: int) -> int:
    """floor(price * bps / 10000) without overflow. Division by a constant compiles to a multiplication."""
    return price // BPS * bps + price % BPS * bps // BPS


@primitive
def check_record(order: np.void, symbols: int) -> int:
    """Reason against the record itself, NONE when it is an order."""
    order_type = np.int64(order["order_type"])
    if np.int64(order["symbol"]) >= symbols:
        return UNKNOWN_SYMBOL
    if np.int64(order["side"]) > SELL or order_type < LIMIT or order_type > MARKET or order["order_id"] < 1:
        return MALFORMED_ORDER
    time_in_force = np.int64(order["time_in_force"])
    if order_type == LIMIT and (time_in_force < GTC or time_in_force > FOK):
        return MALFORMED_ORDER
    if order_type == MARKET and order["price_ticks"] != 0:
        return MALFORMED_ORDER
    return NONE


@primitive
def check_market(bbo: np.void, version: int, now_ns: int, age_ns_max: int) -> int:
    """Reason not to trust the best bid and ask, NONE when they are a market. Fails closed."""
    if version >= 1 and bbo["state"] == HALTED:
        return TRADING_HALTED
    if version < 1 or bbo["state"] != VALID:
        return MARKET_DATA_INVALID
    if bbo["bid_quantity"] <= 0 or bbo["ask_quantity"] <= 0 or bbo["bid_price"] <= 0:
        return MARKET_DATA_INVALID
    if bbo["bid_price"] >= bbo["ask_price"] or bbo["ask_price"] > LARGEST_PRICE:
        return MARKET_DATA_INVALID
    if now_ns - bbo["read_ns"] > age_ns_max:
        return MARKET_DATA_STALE
    return NONE


@primitive
def check_order(state: np.void, order: np.void, limits: np.void, exposure: np.void, bbo: np.void, now_ns: int) -> int:
    """Reason to deny a well-formed new order, NONE when it may go, short of the rate.

    `limits` and `exposure` are the rows of its symbol; `bbo` is scratch that receives the symbol's best bid and ask.
    """
    quantity, price = order["quantity_lots"], order["price_ticks"]
    is_market = np.int64(order["order_type"]) == MARKET
    if limits["is_configured"] == 0:
        return NO_LIMIT_CONFIGURED
    if not is_market and price <= 0:
        return PRICE_NOT_POSITIVE
    if quantity < limits["minimum_lots"]:
        return QUANTITY_BELOW_MINIMUM
    if quantity > limits["maximum_lots"]:
        return QUANTITY_EXCEEDS_MAXIMUM
    row = state["bbo_table"] + np.int64(order["symbol"]) * state["bbo_row_bytes"]
    reason = check_market(bbo, seqlock.read(row, state["bbo"], BBO_BYTES), now_ns, state["age_ns_max"])
    if reason != NONE:
        return reason
    tick = limits["tick"]
    is_buy = np.int64(order["side"]) == BUY
    if is_market:  # it has no price: judged by the price it would pay, rounded against us
        price = (bbo["ask_price"] + tick - 1) // tick if is_buy else (bbo["bid_price"] + tick - 1) // tick
    value_price = price
    if not is_buy and price <= limits["maximum_price_ticks"] and price * tick < bbo["bid_price"]:
        value_price = (bbo["bid_price"] + tick - 1) // tick  # it trades at the bid: its own price would hide its value
    if exceeds(quantity, value_price, limits["maximum_notional"]):
        return NOTIONAL_EXCEEDS_MAXIMUM
    if quantity * price < limits["minimum_notional"]:
        return NOTIONAL_BELOW_MINIMUM
    if not is_market:
        low = bbo["bid_price"] - basis_points_of(bbo["bid_price"], limits["collar_bps"])
        high = bbo["ask_price"] + basis_points_of(bbo["ask_price"], limits["collar_bps"])
        if price > limits["maximum_price_ticks"] or price * tick > high or price * tick < low:
            return PRICE_OUTSIDE_COLLAR
    # Worst case on the order's own side: every working order of that side fills and none of the other does.
    if is_buy:
        worst = exposure["position_lots"] + exposure["working_buy_lots"] + quantity
    else:
        worst = exposure["working_sell_lots"] + quantity - exposure["position_lots"]
    if worst > 0 and exceeds(worst, value_price, limits["maximum_position_notional"]):
        return POSITION_EXCEEDS_MAXIMUM
    if exposure["open_orders"] >= limits["maximum_open_orders"]:
        return OPEN_ORDERS_EXCEED_MAXIMUM
    return NONE


@primitive
def take_rate(state: np.void, accepted_ns: NDArray[np.int64], now_ns: int) -> bool:
    """Count an accepted order at `now_ns`; False when the window is full.

    Exact: `accepted_ns` is a circle of the last order_rate_max acceptances, and the order that stands that many back
    must be a whole window old.
    """
    at = state["rate_cursor"]
    if state["rate_count"] >= len(accepted_ns):
        if now_ns - accepted_ns[at] < state["rate_window_ns"]:
            return False
    else:
        state["rate_count"] += 1
    accepted_ns[at] = now_ns
    state["rate_cursor"] = 0 if at + 1 == len(accepted_ns) else at + 1
    return True


@primitive
def slot_of(order_id: int) -> int:
    """Row of an order in the working table."""
    return order_id & SLOT_MASK
