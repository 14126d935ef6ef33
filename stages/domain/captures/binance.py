"""Reading recorded captures: one line is `<local receive ns> <raw JSON>`, plain or packed.

The receive time may also be in s, ms or µs, with decimals, or missing: then it is the message's own, or that of the
line before. (Whole seconds could be ns since the capture began; they are if the lines before are.)
A WebSocket line is the combined-stream message as received, `{"stream":"<name>","data":{...}}`, or the payload alone,
as the raw streams send it, which is given the wrapper that it would have had. A depth snapshot is a line with
`lastUpdateId`, as REST sends it, which does not name its symbol; or the same in a wrapper of a depth stream, or as the
result that the WebSocket API answers with. The raw JSON is kept byte for byte: it is what a replay sends. Nothing here
needs the network or the server.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Container, Iterator
from enum import Enum
from typing import Any, NamedTuple

from stages.domain.captures.pieces import DamagedFileError, lines

_STAMP = re.compile(rb"(\d{1,19})(?:\.(\d{1,9}))?[ \t,]+")
_UNITS_NS = (10**3, 10**6)
_ALL_UNITS_NS = (*_UNITS_NS, 10**9)
_FROM_NS, _TO_NS = 1_450_000_000 * 10**9, 2_400_000_000 * 10**9
"""What is a time of these years, 2015 to 2046, as µs, ms or s is in that unit, not in ns."""
_EVENT_TIME = re.compile(rb'"[ET]"\s*:\s*(\d{16}|\d{13})\b')
_COMBINED = re.compile(rb'\{\s*"stream"\s*:\s*"([^"\\]+)"\s*,\s*"data"\s*:\s*(\{.*\})\s*\}\s*\Z', re.DOTALL)
_IDS = re.compile(rb'"U"\s*:\s*(\d+)\s*,\s*"u"\s*:\s*(\d+)(?:\s*,\s*"pu"\s*:\s*(\d+))?')
_TICKER_ID = re.compile(rb'"u"\s*:\s*(\d+)')
_LAST_UPDATE_ID = re.compile(rb'\{\s*"lastUpdateId"')
_DIFFS = re.compile(rb"depth(@\d+ms)?\Z")
_MESSAGE = re.compile(rb'\s*\{\s*"(stream|data|e|u|lastUpdateId|result|id)"')
_SYMBOL = re.compile(r"""[^\s"\\@/]{1,64}""")
"""Futures have an underscore in theirs, some coins are not ASCII."""
_PLAIN_DECIMAL = re.compile(r"\d{1,18}(\.\d{1,8})?", re.ASCII)
_CHANNELS = {"depthUpdate": "depth@100ms"}
_TICKER_KEYS = {"u", "s", "b", "B", "a", "A"}


class CaptureError(Exception):
    """A capture cannot be used: where and why, and what to do about it (`hint`)."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Kind(Enum):
    DIFF = "depthUpdate"
    TRADE = "trade"
    AGGREGATE_TRADE = "aggTrade"
    TICKER = "bookTicker"
    SNAPSHOT = "snapshot"
    OTHER = "other"


class Record(NamedTuple):
    """One line. `raw` is the whole recorded JSON, `data` the payload without the wrapper (a snapshot: the same).
    `first_id` and `last_id` are U (of futures: pu + 1) and u of a diff; `last_id` also u of a bookTicker and a
    snapshot's id; else 0. `stream` of a snapshot is empty, or "<symbol>@snapshot" where its symbol is known.
    `offset` is where the line begins, in bytes of the unpacked file."""

    line: int
    receive_ns: int
    kind: Kind
    stream: str
    raw: bytes
    data: bytes
    first_id: int
    last_id: int
    offset: int


class Damage(NamedTuple):
    """A place in a capture that cannot be read."""

    line: int
    offset: int
    what: str
    ends_file: bool = False
    """Whether nothing behind it can be read."""


class _MalformedLineError(Exception):
    """What is wrong with a line."""


def records(file: str, on_damage: Callable[[Damage], None]) -> Iterator[Record]:
    """The lines of one capture. Raises CaptureError for a file that cannot be read at all.

    on_damage   told of each place that cannot be read; the lines after it are used, if there are any
    """
    line = before_ns = 0
    kinds: dict[bytes, tuple[str, Kind]] = {}
    try:
        for line, (offset, text) in enumerate(lines(file), 1):
            if not text or text.isspace():
                continue
            try:
                record = _parse(line, offset, text, before_ns, kinds)
            except _MalformedLineError as error:
                on_damage(Damage(line, offset, str(error)))
            else:
                before_ns = record.receive_ns
                yield record
    except FileNotFoundError:
        raise CaptureError(f"{file}: no such file", "check the path") from None
    except DamagedFileError as error:
        on_damage(Damage(line + 1, error.offset, error.what, ends_file=True))
    except OSError as error:
        raise CaptureError(f"{file}: cannot be read ({error.strerror or error})", "check the file") from error


def looks_like(line: bytes) -> bool:
    """Whether a line could be one of a capture."""
    stamp = _STAMP.match(line)
    return _MESSAGE.match(line, stamp.end() if stamp is not None else 0) is not None


def symbol_of(stream: str) -> str:
    return stream.partition("@")[0].upper()


def _parse(line: int, offset: int, text: bytes, before_ns: int, kinds: dict[bytes, tuple[str, Kind]]) -> Record:
    receive_ns, raw = _receive_ns(text, before_ns)
    match = _COMBINED.match(raw)
    if match is None:
        value = _load(raw)
        if _is_snapshot(value):
            return _snapshot(line, offset, receive_ns, raw, _named(value))
        result = value.get("result")  # as the WebSocket API answers
        if isinstance(result, dict) and _is_snapshot(result):
            return _snapshot(line, offset, receive_ns, _part(raw, "result", result), _named(result))
        raw = _wrapped(value, raw)
        match = _COMBINED.match(raw)
        if match is None:
            raise _malformed("neither a stream message nor a depth snapshot", text)
    name, data = match.groups()
    known = kinds.get(name)
    if known is None:
        known = kinds[name] = (name.decode("utf-8", "replace"), kind_of(name))
    stream, kind = known
    if kind is Kind.DIFF and _LAST_UPDATE_ID.match(data):
        return _snapshot(line, offset, receive_ns, data, symbol_of(stream))
    first_id = last_id = 0
    if kind is Kind.DIFF:
        first_id, last_id = _diff_ids(data)
    elif kind is Kind.TICKER:
        ids = _TICKER_ID.search(data)
        last_id = int(ids[1]) if ids is not None else 0
    return Record(line, receive_ns, kind, stream, raw, data, first_id, last_id, offset)


def _receive_ns(text: bytes, before_ns: int) -> tuple[int, bytes]:
    """(receive time, JSON) of a line."""
    stamp = _STAMP.match(text)
    if stamp is not None:
        may_be_s = stamp[2] or before_ns == 0 or before_ns >= _FROM_NS
        unit_ns = _unit_ns(int(stamp[1]), _ALL_UNITS_NS if may_be_s else _UNITS_NS)
        fraction_ns = int((stamp[2] or b"").ljust(9, b"0")) * unit_ns // 10**9
        return int(stamp[1]) * unit_ns + fraction_ns, text[stamp.end() :]
    if not text.startswith(b"{"):
        raise _malformed("it does not start with a receive time in ns and a space", text)
    sent = _EVENT_TIME.search(text)
    return (int(sent[1]) * _unit_ns(int(sent[1]), _UNITS_NS) if sent is not None else before_ns), text


def _unit_ns(time: int, units_ns: tuple[int, ...]) -> int:
    return next((unit_ns for unit_ns in units_ns if _FROM_NS <= time * unit_ns < _TO_NS), 1)


def _diff_ids(data: bytes) -> tuple[int, int]:
    """(U, u) of a diff; of futures, whose ids have holes, pu + 1 in the place of U: what has to join is `pu`."""
    ids = _IDS.search(data)
    if ids is not None and data.endswith(b"]}"):
        return (int(ids[1]) if ids[3] is None else int(ids[3]) + 1), int(ids[2])
    value = _load(data)  # keys in another order
    first, last, previous = (value.get(key) for key in ("U", "u", "pu"))
    if isinstance(previous, int):
        first = previous + 1
    if type(first) is not int or type(last) is not int or first < 0 or last < 0:
        raise _malformed("a depth diff without U and u, or cut short", data)
    return first, last


def _load(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"not valid JSON ({error})", raw) from None
    if not isinstance(value, dict):
        raise _malformed("neither a stream message nor a depth snapshot", raw)
    return value


def _part(raw: bytes, key: str, value: Any) -> bytes:
    """The object that is the value of `key`, byte for byte as it stands in `raw`."""
    at = re.search(rb'"%s"\s*:\s*' % key.encode(), raw)
    assert at is not None
    text = raw[at.end() :].decode()
    found, end = json.JSONDecoder().raw_decode(text)
    if found != value:
        raise _malformed(f"{key!r} stands in it more than once", raw)
    return text[:end].encode()


def _is_snapshot(value: dict[str, Any]) -> bool:
    return "lastUpdateId" in value


def _named(value: dict[str, Any]) -> str:
    """The symbol in a snapshot, if whoever wrote it down has put it there."""
    symbol = value.get("symbol", value.get("s"))
    return symbol.upper() if isinstance(symbol, str) and _SYMBOL.fullmatch(symbol) else ""


def _snapshot(line: int, offset: int, receive_ns: int, raw: bytes, symbol: str) -> Record:
    value = _load(raw)
    if type(value["lastUpdateId"]) is not int:
        raise _malformed("neither a stream message nor a depth snapshot", raw)
    if not isinstance(value.get("bids"), list) or not isinstance(value.get("asks"), list):
        raise _malformed("a snapshot without bids and asks", raw)
    stream = f"{symbol.lower()}@snapshot" if symbol else ""
    return Record(line, receive_ns, Kind.SNAPSHOT, stream, raw, raw, 0, value["lastUpdateId"], offset)


def _wrapped(value: dict[str, Any], raw: bytes) -> bytes:
    """The message in the wrapper that it came in, or would have come in."""
    name, data = value.get("stream"), value.get("data")
    if isinstance(name, str) and isinstance(data, dict):  # in another order
        return b'{"stream":%s,"data":%s}' % (json.dumps(name, ensure_ascii=False).encode(), _part(raw, "data", data))
    return b'{"stream":"%s","data":%s}' % (_stream_name(value, raw), raw)


def _stream_name(value: dict[str, Any], raw: bytes) -> bytes:
    """The stream that a payload without its wrapper came by."""
    kind, symbol = value.get("e"), value.get("s")
    channel = "bookTicker" if kind is None and value.keys() >= _TICKER_KEYS else kind
    names_one = isinstance(symbol, str) and _SYMBOL.fullmatch(symbol)
    if not names_one or not isinstance(channel, str) or not channel.isascii() or not channel.isalnum():
        raise _malformed("neither a stream message nor a depth snapshot", raw)
    return f"{str(symbol).lower()}@{_CHANNELS.get(channel, channel)}".encode()


def kind_of(stream: bytes) -> Kind:
    """What comes by a stream of this name."""
    _, _, channel = stream.partition(b"@")
    if _DIFFS.match(channel):
        return Kind.DIFF
    names = {b"trade": Kind.TRADE, b"aggTrade": Kind.AGGREGATE_TRADE, b"bookTicker": Kind.TICKER}
    return names.get(channel, Kind.OTHER)


def _malformed(what: str, text: bytes) -> _MalformedLineError:
    return _MalformedLineError(f"{what}: {text[:80].decode('utf-8', 'replace')!r}")


def trades(file: str, symbols: Container[str]) -> Iterator[tuple[str, str, str]]:
    """(symbol, price, quantity) of the recorded trades of `symbols`, as text; those that are none are left out."""
    for record in records(file, lambda damage: None):
        symbol = symbol_of(record.stream)
        if record.kind not in (Kind.TRADE, Kind.AGGREGATE_TRADE) or symbol not in symbols:
            continue
        with contextlib.suppress(_MalformedLineError):
            value = _load(record.data)
            price, quantity = str(value.get("p")), str(value.get("q"))
            if _PLAIN_DECIMAL.fullmatch(price) and _PLAIN_DECIMAL.fullmatch(quantity):
                yield symbol, price, quantity
