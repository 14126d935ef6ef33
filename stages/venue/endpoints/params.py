"""Typed reading of request parameters with Binance's complaints (errors.md, 11xx).

REST and the WebSocket API differ in how parameters arrive and are signed, not in what they mean: both become one
mapping of text, read here. What was never read is refused by `finish` (-1104).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from stages.venue import errors, fixed

Choice = TypeVar("Choice", bound=Enum)

DECIMAL_RANGE = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
LONG_RANGE = "^[0-9]{1,20}$"
SYMBOL_RANGE = "^[A-Z0-9-_.]{1,20}$"
CLIENT_ID_RANGE = "^[a-zA-Z0-9-_]{1,36}$"

_DECIMAL = re.compile(DECIMAL_RANGE, re.ASCII)
_LONG = re.compile(LONG_RANGE, re.ASCII)
SYMBOL = re.compile("^[A-Z0-9_.-]{1,20}$", re.ASCII)
_CLIENT_ID = re.compile("^[a-zA-Z0-9_-]{1,36}$", re.ASCII)
_MICROSECONDS_FROM = 10**15  # a timestamp this large can only be in microseconds


class Params:
    """Parameters of one request, by name, as text."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        # Asked of the WebSocket API's envelope, not of an operation, yet signed like the others.
        self._read: set[str] = {"returnRateLimits"} & values.keys()

    def has(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """The parameter's text; None when it was not sent; -1105 when it was sent empty."""
        value = self._values.get(name)
        if value is None:
            return None
        self._read.add(name)
        if not value:
            raise errors.empty(name)
        return value

    def required(self, name: str) -> str:
        value = self._values.get(name)
        if not value:
            raise errors.missing(name)
        self._read.add(name)
        return value

    def refuse(self, name: str) -> None:
        """-1106 when a parameter was sent that this kind of order does not take."""
        if name in self._values:
            raise errors.not_required(name)

    def symbol(self) -> str:
        value = self.required("symbol")
        if not SYMBOL.match(value):
            raise errors.illegal_characters("symbol", SYMBOL_RANGE)
        return value

    def client_id(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not _CLIENT_ID.match(value):
            raise errors.illegal_characters(name, CLIENT_ID_RANGE)
        return value

    def decimal(self, name: str) -> int | None:
        """A price or quantity as an integer scaled by 10^8."""
        value = self.text(name)
        if value is None:
            return None
        if not _DECIMAL.match(value):
            raise errors.illegal_characters(name, DECIMAL_RANGE)
        try:
            scaled = fixed.parse(value)
        except ValueError:
            raise errors.bad_precision(name) from None
        if scaled >= 2**63:
            raise errors.overflowed(name)
        return scaled

    def required_decimal(self, name: str) -> int:
        value = self.decimal(name) if self._values.get(name) else None
        if value is None:
            raise errors.missing(name)
        return value

    def long(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not _LONG.match(value):
            raise errors.illegal_characters(name, LONG_RANGE)
        number = int(value)
        if number >= 2**63:
            raise errors.overflowed(name)
        return number

    def choice(self, name: str, kind: type[Choice], complaint: errors.BinanceError) -> Choice | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return kind(value)
        except ValueError:
            raise complaint from None

    def boolean(self, name: str) -> bool | None:
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false"):
            raise errors.bad_value(name)
        return value.lower() == "true"

    def timestamp_us(self) -> int:
        """The mandatory timestamp, sent in milliseconds or microseconds, in microseconds."""
        if not self._values.get("timestamp"):
            raise errors.missing("timestamp")
        value = self.long("timestamp")
        assert value is not None
        return value if value >= _MICROSECONDS_FROM else value * 1000

    def recv_window_us(self) -> int:
        """recvWindow in microseconds: milliseconds with up to 3 decimals, at most 60000, default 5000."""
        value = self.text("recvWindow")
        if value is None:
            return 5_000_000
        if not _DECIMAL.match(value) or len(value.partition(".")[2]) > 3:
            raise errors.illegal_characters("recvWindow", r"^([0-9]{1,5})(\.[0-9]{1,3})?$")
        window = fixed.parse(value) * 1000 // fixed.SCALE
        if window > 60_000_000:
            raise errors.too_great("recvWindow", "60000")
        return window

    def finish(self) -> None:
        """-1104 when something was sent that nothing read."""
        if len(self._read) != len(self._values):
            raise errors.unread(len(self._read), len(self._values))
