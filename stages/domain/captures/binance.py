"""Reading recorded captures: one line is `<local receive ns> <raw JSON>`, gzip or plain.

A WebSocket line is the combined-stream message as received, `{"stream":"<name>","data":{...}}`, or the payload alone,
as the raw streams send it, which is given the wrapper that it would have had. A line with `lastUpdateId` and without
`stream` is a REST depth snapshot, which does not name its symbol. The raw JSON is kept byte for byte: it is what a
replay sends. Nothing here needs the network or the server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple

from stages.domain.captures.pieces import DamagedFileError, lines

_COMBINED = re.compile(rb'\{"stream":"([^"\\]+)","data":(\{.*\})\}\Z', re.DOTALL)
_IDS = re.compile(rb'"U":(\d+),"u":(\d+)')
_TICKER_ID = re.compile(rb'\{"u":(\d+),')
_CHANNELS = {"depthUpdate": "depth@100ms", "trade": "trade", "aggTrade": "aggTrade"}
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
    `first_id` and `last_id` are U and u of a diff; `last_id` also u of a bookTicker and a snapshot's id; else 0.
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


class _MalformedLineError(Exception):
    """What is wrong with a line."""


def records(file: str, on_damage: Callable[[Damage], None]) -> Iterator[Record]:
    """The lines of one capture. Raises CaptureError for a file that cannot be read at all.

    on_damage   told of each place that cannot be read; the lines after it are used, if there are any
    """
    line = 0
    kinds: dict[bytes, tuple[str, Kind]] = {}
    try:
        for line, (offset, text) in enumerate(lines(file), 1):
            if not text or text.isspace():
                continue
            try:
                record = _parse(line, offset, text, kinds)
            except _MalformedLineError as error:
                on_damage(Damage(line, offset, str(error)))
            else:
                yield record
    except FileNotFoundError:
        raise CaptureError(f"{file}: no such file", "check the path") from None
    except DamagedFileError as error:
        on_damage(Damage(line + 1, error.offset, error.what))
    except OSError as error:
        raise CaptureError(f"{file}: cannot be read ({error.strerror or error})", "check the file") from error


def undamaged(file: str, on_torn: Callable[[Damage], None]) -> Iterator[Record]:
    """The lines of one capture up to a torn tail, as a crash leaves it, of which `on_torn` is told.

    Raises CaptureError for a damaged place with good lines behind it: what is missing there is missing in the middle.
    """
    torn: list[Damage] = []
    for record in records(file, torn.append):
        if torn:
            raise CaptureError(
                f"{file}:{torn[0].line}: malformed line: {torn[0].what}", "a line is `<receive ns> <raw JSON>`"
            )
        yield record
    if torn:
        on_torn(torn[0])


def symbol_of(stream: str) -> str:
    return stream.partition("@")[0].upper()


def _parse(line: int, offset: int, text: bytes, kinds: dict[bytes, tuple[str, Kind]]) -> Record:
    stamp, space, raw = text.partition(b" ")
    if not space or not stamp.isdigit() or len(stamp) > 19:
        raise _malformed("it does not start with a receive time in ns and a space", text)
    receive_ns = int(stamp)
    match = _COMBINED.match(raw)
    if match is None:
        value = _load(raw)
        if "lastUpdateId" in value:
            return _snapshot(line, offset, receive_ns, raw, value)
        raw = b'{"stream":"%s","data":%s}' % (_stream_name(value, raw), raw)
        match = _COMBINED.match(raw)
        if match is None:
            raise _malformed("neither a stream message nor a depth snapshot", text)
    name, data = match.groups()
    known = kinds.get(name)
    if known is None:
        known = kinds[name] = (name.decode("utf-8", "replace"), _kind(name))
    stream, kind = known
    first_id = last_id = 0
    if kind is Kind.DIFF:
        ids = _IDS.search(data)
        if ids is None or not data.endswith(b"]}"):
            raise _malformed("a depth diff without U and u, or cut short", text)
        first_id, last_id = int(ids[1]), int(ids[2])
    elif kind is Kind.TICKER:
        ids = _TICKER_ID.match(data)
        last_id = int(ids[1]) if ids is not None else 0
    return Record(line, receive_ns, kind, stream, raw, data, first_id, last_id, offset)


def _load(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"not valid JSON ({error})", raw) from None
    if not isinstance(value, dict):
        raise _malformed("neither a stream message nor a depth snapshot", raw)
    return value


def _snapshot(line: int, offset: int, receive_ns: int, raw: bytes, value: dict[str, Any]) -> Record:
    if not isinstance(value["lastUpdateId"], int):
        raise _malformed("neither a stream message nor a depth snapshot", raw)
    if not isinstance(value.get("bids"), list) or not isinstance(value.get("asks"), list):
        raise _malformed("a snapshot without bids and asks", raw)
    return Record(line, receive_ns, Kind.SNAPSHOT, "", raw, raw, 0, value["lastUpdateId"], offset)


def _stream_name(value: dict[str, Any], raw: bytes) -> bytes:
    """The stream that a payload without its wrapper came by."""
    kind, symbol = value.get("e"), value.get("s")
    channel = "bookTicker" if kind is None and value.keys() >= _TICKER_KEYS else _CHANNELS.get(str(kind))
    if channel is None or not isinstance(symbol, str) or not symbol.isascii() or not symbol.isalnum():
        raise _malformed("neither a stream message nor a depth snapshot", raw)
    return f"{symbol.lower()}@{channel}".encode()


def _kind(stream: bytes) -> Kind:
    _, _, channel = stream.partition(b"@")
    if channel in (b"depth", b"depth@100ms", b"depth@1000ms"):
        return Kind.DIFF
    names = {b"trade": Kind.TRADE, b"aggTrade": Kind.AGGREGATE_TRADE, b"bookTicker": Kind.TICKER}
    return names.get(channel, Kind.OTHER)


def _malformed(what: str, text: bytes) -> _MalformedLineError:
    return _MalformedLineError(f"{what}: {text[:80].decode('utf-8', 'replace')!r}")


def trades(file: str, symbol: str) -> Iterator[tuple[str, str]]:
    """(price, quantity) of the recorded trades of one symbol, as text."""
    for record in undamaged(file, lambda torn: None):
        if record.kind in (Kind.TRADE, Kind.AGGREGATE_TRADE) and symbol_of(record.stream) == symbol:
            value = json.loads(record.data)
            yield value["p"], value["q"]
