"""The patient way to read a message: simplejson with Decimal, then rewritten in the one form that the kernel parses.

Whatever the compiled parser does not recognise comes here: other spacing, order of keys, escapes, numbers instead of
strings. There is only one path on which events are made, so a rewritten message is handed back to the kernel and takes
its turn there, with the same checks as all others.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import simplejson

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")

MESSAGE_BYTES_MAX = 65_536
"""Longer messages are not worth a millisecond of the stage's time; the gap they leave is noticed by their ids."""


class MalformedMessageError(ValueError):
    """The message is not what its type says; the text names the field."""


class NotMarketDataError(Exception):
    """The message is well-formed but no market event: an answer to a request, a notice of the venue."""


def rewrite(payload: bytes) -> bytes:
    """The message in canonical form: compact, keys in the venue's order, decimals as plain strings.

    Raises MalformedMessageError, NotMarketDataError.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise MalformedMessageError(f"length={len(payload)} bytes, at most {MESSAGE_BYTES_MAX} are read patiently")
    value = _load(payload)
    if "data" in value and "stream" in value:
        value = value["data"]
        if not isinstance(value, dict):
            raise MalformedMessageError("data is not an object")
    kind = value.get("e")
    if kind == "depthUpdate":
        # Of futures, whose ids have holes: a diff joins the one that `pu` names, so it begins behind that.
        first_id = _number(value, "pu") + 1 if "pu" in value else _number(value, "U")
        return (
            f'{{"e":"depthUpdate","E":{_number(value, "E")},"s":{_symbol(value)},"U":{first_id},'
            f'"u":{_number(value, "u")},"b":{_levels(value, "b")},"a":{_levels(value, "a")}}}'
        ).encode()
    if kind in ("trade", "aggTrade"):
        key = "t" if kind == "trade" else "a"
        maker = value.get("m")
        if not isinstance(maker, bool):
            raise MalformedMessageError(f"m={maker!r} is neither true nor false")
        return (
            f'{{"e":"{kind}","E":{_number(value, "E")},"s":{_symbol(value)},"{key}":{_number(value, key)},'
            f'"p":{_decimal(value.get("p"), "p")},"q":{_decimal(value.get("q"), "q")},"T":{_number(value, "T")},'
            f'"m":{"true" if maker else "false"}}}'
        ).encode()
    if kind in (None, "bookTicker") and {"u", "s", "b", "B", "a", "A"} <= value.keys():
        sides = ",".join(f'"{key}":{_decimal(value[key], key)}' for key in "bBaA")
        return f'{{"u":{_number(value, "u")},"s":{_symbol(value)},{sides}}}'.encode()
    raise NotMarketDataError(f"e={kind!r}, keys {', '.join(sorted(map(str, value))[:10])}")


def rewrite_snapshot(payload: bytes) -> bytes:
    """A REST depth reply in canonical form. Raises MalformedMessageError."""
    value = _load(payload)
    return (
        f'{{"lastUpdateId":{_number(value, "lastUpdateId")},"bids":{_levels(value, "bids")},'
        f'"asks":{_levels(value, "asks")}}}'
    ).encode()


def is_reply(payload: bytes) -> bool:
    """Whether the message answers a request of ours ({"result":..,"id":..} or {"code":..,"msg":..,"id":..})."""
    try:
        value = _load(payload[:MESSAGE_BYTES_MAX])
    except MalformedMessageError:
        return False
    return "id" in value and ("result" in value or "code" in value or "error" in value) and "e" not in value


def _load(payload: bytes) -> dict[str, Any]:
    try:
        value = simplejson.loads(payload.decode("utf-8"), use_decimal=True)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedMessageError(f"{type(value).__name__} instead of an object")
    return value


def _number(value: Mapping[str, Any], key: str) -> int:
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise MalformedMessageError(f"{key}={_show(found)} is not an unsigned integer")
    return found


def _symbol(value: Mapping[str, Any]) -> str:
    found = value.get("s")
    if not isinstance(found, str) or simplejson.dumps(found, ensure_ascii=False) != f'"{found}"':
        raise MalformedMessageError(f"s={_show(found)} is not a symbol")
    return f'"{found}"'


def _decimal(found: Any, key: str) -> str:
    if isinstance(found, bool) or not isinstance(found, str | int | Decimal):
        raise MalformedMessageError(f"{key}={_show(found)} is not a decimal number")
    if isinstance(found, str) and not _NUMBER.fullmatch(found):  # Decimal takes "1_0" and other scripts' digits too
        raise MalformedMessageError(f"{key}={_show(found)} is not a decimal number")
    try:
        number = Decimal(found)
    except InvalidOperation as error:
        raise MalformedMessageError(f"{key}={_show(found)} is out of range") from error
    if not number.is_finite() or number.is_signed() or abs(number.adjusted()) > 40:
        raise MalformedMessageError(f"{key}={_show(found)} is out of range")
    return f'"{number:f}"'


def _levels(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, list):
        raise MalformedMessageError(f"{key} is not a list of levels")
    return "[" + ",".join(_level(level, key) for level in found) + "]"


def _level(level: Iterable[Any], key: str) -> str:
    if not isinstance(level, list) or len(level) < 2:
        raise MalformedMessageError(f"{key} has a level {_show(level)}")
    return f"[{_decimal(level[0], key)},{_decimal(level[1], key)}]"


def _show(value: Any) -> str:
    return repr(value)[:60]
