"""Positions and profit, exact: quantities in lots, money in quote mantissas (1e-8), average cost, no rounding lost.

`cost_quote` is what the open quantity was bought for (negative: what the open short was sold for). Closing takes its
share of the cost, rounded towards zero; what rounding leaves stays in the cost and is realised at the latest when the
position is flat, so that realised profit plus cost always equals the money that moved.

Fees are kept apart from profit. A fee in the base asset is valued at the price of its fill and does not change
`quantity_lots`, which counts what was traded.
"""

import numpy as np

from shm.kernel import primitive
from stages.domain.messages import Side

BUY = int(Side.BUY)
MANTISSA = 100_000_000


@primitive
def multiply_divide(a: int, b: int, c: int) -> int:
    """floor(a * b / c) for a, b >= 0, c > 0, the product being beyond 64 bits or not; the result must fit int64.

    a is split into whole parts of c, whose share needs no division, and a rest below c. The rest is multiplied bit by
    bit, reducing as it goes: 63 steps at most, and only a fill that closes a position ever pays them.
    """
    result = a // c * b
    rest = a % c
    if b == 0 or rest <= (2**63 - 1) // b:
        return result + rest * b // c
    quotient = 0
    remainder = 0
    for shift in range(62, -1, -1):
        quotient <<= 1
        # remainder < c <= 2**63 - 1: comparing with c - remainder keeps the doubling within 64 bits
        if remainder >= c - remainder:
            remainder -= c - remainder
            quotient += 1
        else:
            remainder += remainder
        if (b >> shift) & 1:
            if remainder >= c - rest:
                remainder -= c - rest
                quotient += 1
            else:
                remainder += rest
    return result + quotient


@primitive
def apply_fill(position: np.void, side: int, lots: int, quote: int) -> None:
    """Book a fill of `lots` for `quote` money into a POSITION record."""
    held = position["quantity_lots"]
    signed = lots if side == BUY else -lots
    if side == BUY:
        position["bought_lots"] += lots
    else:
        position["sold_lots"] += lots
    position["quantity_lots"] = held + signed
    closing = 0
    if (held > 0 and signed < 0) or (held < 0 and signed > 0):
        closing = min(abs(held), lots)
        closing_quote = multiply_divide(quote, closing, lots)
        cost = abs(position["cost_quote"])
        share = multiply_divide(cost, closing, abs(held))
        if held > 0:
            position["realized_quote"] += closing_quote - share
            position["cost_quote"] -= share
        else:
            position["realized_quote"] += share - closing_quote
            position["cost_quote"] += share
        quote -= closing_quote
    if lots > closing:
        position["cost_quote"] += quote if side == BUY else -quote


@primitive
def apply_fee(position: np.void, commission: int, is_quote: bool, is_base: bool, price: int) -> None:
    """Book a commission (mantissa) charged in the quote asset, in the base asset at `price` (mantissa), or neither."""
    if commission == 0 or is_quote:
        position["fees_quote"] += commission
    elif is_base:
        position["fees_quote"] += multiply_divide(price, commission, MANTISSA)
    else:
        position["fees_unconverted"] += 1
