"""Balances of the one account: free and locked per asset, integers scaled by 10^8, never negative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.venue import fixed
from stages.venue.errors import insufficient_balance


class Balance:
    __slots__ = ("free", "locked")

    def __init__(self, free: int = 0, locked: int = 0) -> None:
        self.free = free
        self.locked = locked


class Account:
    """What the account holds. Each operation asserts that nothing becomes negative."""

    def __init__(self, free: Mapping[str, int]) -> None:
        self._balances = {asset: Balance(amount) for asset, amount in free.items()}
        self.update_time_ms = 0
        self._touched: dict[str, None] = {}

    def balance(self, asset: str) -> Balance:
        return self._balances.setdefault(asset, Balance())

    def require_free(self, asset: str, amount: int) -> None:
        """-2010 when less than `amount` is free."""
        if self.balance(asset).free < amount:
            raise insufficient_balance()

    def lock(self, asset: str, amount: int) -> None:
        """Move from free to locked; -2010 when there is not enough."""
        self.require_free(asset, amount)
        balance = self.balance(asset)
        balance.free -= amount
        balance.locked += amount
        self._touch(asset)

    def unlock(self, asset: str, amount: int) -> None:
        balance = self.balance(asset)
        assert 0 <= amount <= balance.locked, f"amount={amount} locked={balance.locked} asset={asset}"
        balance.locked -= amount
        balance.free += amount
        self._touch(asset)

    def spend_locked(self, asset: str, amount: int) -> None:
        balance = self.balance(asset)
        assert 0 <= amount <= balance.locked, f"amount={amount} locked={balance.locked} asset={asset}"
        balance.locked -= amount
        self._touch(asset)

    def receive(self, asset: str, amount: int) -> None:
        assert amount >= 0, f"amount={amount} asset={asset}"
        self.balance(asset).free += amount
        self._touch(asset)

    def take_position_event(self, now_ms: int) -> dict[str, Any] | None:
        """outboundAccountPosition of what changed since the last call; None when nothing did."""
        if not self._touched:
            return None
        touched, self._touched = self._touched, {}
        self.update_time_ms = now_ms
        return {
            "e": "outboundAccountPosition",
            "E": now_ms,
            "u": now_ms,
            "B": [
                {"a": asset, "f": fixed.show(balance.free), "l": fixed.show(balance.locked)}
                for asset, balance in ((name, self.balance(name)) for name in touched)
            ],
        }

    def listing(self, *, omit_zero: bool) -> list[dict[str, str]]:
        return [
            {"asset": asset, "free": fixed.show(balance.free), "locked": fixed.show(balance.locked)}
            for asset, balance in sorted(self._balances.items())
            if not omit_zero or balance.free or balance.locked
        ]

    def _touch(self, asset: str) -> None:
        self._touched[asset] = None
