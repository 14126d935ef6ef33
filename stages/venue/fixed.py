"""Decimal strings to integers scaled by 10^8 and back: the only number format inside the venue."""

from __future__ import annotations

SCALE = 10**8
DECIMALS = 8


def parse(text: str) -> int:
    """Scaled integer of a plain decimal string of at most 8 decimals, e.g. '0.01' to 1_000_000.

    Raises ValueError for anything else.
    """
    whole, point, fraction = text.partition(".")
    if not whole.isascii() or not whole.isdigit() or (point and not (fraction.isascii() and fraction.isdigit())):
        raise ValueError(f"{text!r} is not a plain decimal number")
    if len(fraction) > DECIMALS:
        if fraction[DECIMALS:].strip("0"):
            raise ValueError(f"{text!r} has more than {DECIMALS} decimals")
        fraction = fraction[:DECIMALS]
    return int(whole) * SCALE + int(fraction.ljust(DECIMALS, "0"))


def show(value: int) -> str:
    """Binance's format: always 8 decimals."""
    if value < 0:
        return "-" + show(-value)
    return f"{value // SCALE}.{value % SCALE:08d}"


def quote_amount(price: int, quantity: int) -> int:
    """price x quantity in quote asset, rounded down (exact whenever tick x lot >= 10^-8)."""
    return price * quantity // SCALE


def quote_amount_up(price: int, quantity: int) -> int:
    """price x quantity in quote asset, rounded up: what must be locked for a buy order."""
    return -(-price * quantity // SCALE)
