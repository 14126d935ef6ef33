"""What the feed rehearses in idle time: a message as the venue sends it, and a book that it changes."""

import json
from typing import NamedTuple

import numpy as np

from stages.domain.codecs import moldudp64, raw
from stages.domain.codecs.itch import MESSAGES
from stages.domain.codecs.itch_frames import LENGTH_BYTES
from stages.domain.codecs.itch_market import STOCK_BYTES
from stages.feed.context import Format

BINANCE_ID = 50_000_000_000
"""Update id before the first of the rehearsed message; as long as a real one."""
_TEXT, _BINARY = 0x81, 0x82


class Rehearsed(NamedTuple):
    """Of the first symbol."""

    message: bytes
    """Parsed in idle time, and never published."""
    frame: bytes
    """For twins (stages.rehearsal): may be offered again and again, with `last_id` put back."""
    opening: bytes
    """Frames that make the book that `frame` changes; besides, or in the place of, `snapshot`."""
    snapshot: bytes
    last_id: int


def rehearsed(stream_format: Format, symbol: str) -> Rehearsed:
    """The one for a stream of this format."""
    if stream_format is Format.RAW:
        return _of_raw()
    return _of_binance(symbol) if stream_format is Format.BINANCE else _of_itch(symbol)


def _of_binance(symbol: str) -> Rehearsed:
    """A depth update of ten levels, of the form and length that the venue sends."""
    bids = ",".join(f'["{60_000 - level}.12000000","0.{level:08}"]' for level in range(1, 6))
    asks = ",".join(f'["{60_000 + level}.12000000","0.{level:08}"]' for level in range(1, 6))
    text = (
        f'{{"stream":"{symbol.lower()}@depth@100ms","data":{{"e":"depthUpdate","E":1700000000000,"s":"{symbol}",'
        f'"U":{BINANCE_ID + 1},"u":{BINANCE_ID + 10},"b":[{bids}],"a":[{asks}]}}}}'
    ).encode()
    levels = [[[f"{60_000 + side * step}.12000000", "1.00000000"] for step in range(1, 41)] for side in (-1, 1)]
    snapshot = {"lastUpdateId": BINANCE_ID, "bids": levels[0], "asks": levels[1]}
    body = json.dumps(snapshot, separators=(",", ":")).encode("ascii")
    return Rehearsed(text, _frame(_TEXT, text), b"", body, BINANCE_ID)


def _of_itch(symbol: str) -> Rehearsed:
    """An order that comes and goes at the touch of a book of 40 levels a side."""
    stock = _stock(symbol)
    message = _message("A", order_reference=1, side=b"B", shares=100, stock=stock, price=1_000_000)
    gone = _message("D", order_reference=1)
    opening = _frame(_BINARY, _block(*_standing(stock)))
    return Rehearsed(message, _frame(_BINARY, _block(message, gone)), opening, b"", 0)


def _of_raw() -> Rehearsed:
    """A block of trades, of an id that no symbol need have; there are no books to open."""
    trade = np.zeros(1, raw.MESSAGE)
    trade["message_type"], trade["price"], trade["quantity"] = raw.TRADE, 100 * 10**-raw.PRICE_EXPONENT, 1
    return Rehearsed(trade.tobytes(), _frame(_BINARY, trade.tobytes()), b"", b"", 0)


class RehearsedPackets(NamedTuple):
    """The same of MoldUDP64 packets: the last one can be taken again, when its sequence number is expected again."""

    message: bytes
    packets: list[bytes]
    sequence: int
    """Of the last packet's only message."""


def rehearsed_packets(symbol: str) -> RehearsedPackets:
    """A share less, again and again, of an order at the touch of a book of 40 levels a side."""
    stock = _stock(symbol)
    large = _message("A", order_reference=1, side=b"B", shares=4_000_000_000, stock=stock, price=1_000_000)
    message = _message("X", order_reference=1, cancelled_shares=1)
    messages = [*_standing(stock), large, message]
    packets = [moldudp64.packet(b"REHEARSAL", number, [each]) for number, each in enumerate(messages, 1)]
    return RehearsedPackets(large, packets, len(messages))


def _stock(symbol: str) -> bytes:
    return symbol.encode("ascii").ljust(STOCK_BYTES)[:STOCK_BYTES]


def _standing(stock: bytes) -> list[bytes]:
    """Orders of 40 levels a side."""
    return [
        _message("A", order_reference=2 * step + side, side=b"BS"[side : side + 1], shares=100, stock=stock,
                 price=1_000_000 + (2 * side - 1) * 100 * step)
        for step in range(1, 41)
        for side in (0, 1)
    ]  # fmt: skip


def _message(letter: str, **fields: bytes | int) -> bytes:
    message = np.zeros(1, MESSAGES[letter])
    message["message_type"] = letter.encode()
    for name, value in fields.items():
        message[name] = value
    return message.tobytes()


def _block(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(LENGTH_BYTES, "big") + message for message in messages)


def _frame(head: int, payload: bytes) -> bytes:
    """A WebSocket frame of 126 to 65,535 bytes of payload, or fewer."""
    size = len(payload)
    return bytes([head]) + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + payload
