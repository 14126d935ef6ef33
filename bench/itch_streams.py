"""ITCH bytes for the benchmark: order messages of `book_streams`, written as a feed sends them, and recorded files."""

import gzip
import os
from pathlib import Path

import numpy as np

from stages.domain.codecs.itch import MESSAGES
from stages.domain.codecs.itch_frames import LENGTH_BYTES
from stages.domain.orderbook.batch import OrderKind

_LETTERS = {
    OrderKind.ADD: "A",
    OrderKind.EXECUTE: "E",
    OrderKind.CANCEL: "X",
    OrderKind.DELETE: "D",
    OrderKind.REPLACE: "U",
}
_FIELDS = {
    "A": {"shares": "quantity", "price": "price"},
    "E": {"executed_shares": "quantity"},
    "X": {"cancelled_shares": "quantity"},
    "D": {},
    "U": {"new_order_reference": "new_id", "shares": "quantity", "price": "price"},
}
"""{field of the ITCH message: field of the ORDER_MESSAGE}, besides locate and reference."""


def itch_bytes(messages: np.ndarray) -> np.ndarray:
    """ORDER_MESSAGEs as frames of ITCH 5.0, one behind the other; the symbol is the stock locate."""
    letters = {int(kind): letter for kind, letter in _LETTERS.items()}
    sizes = np.zeros(256, np.int64)
    for kind, letter in letters.items():
        sizes[kind] = LENGTH_BYTES + MESSAGES[letter].itemsize
    ends = np.cumsum(sizes[messages["kind"]])
    stream = np.zeros(int(ends[-1]), np.uint8)
    for kind, letter in letters.items():
        chosen = np.flatnonzero(messages["kind"] == kind)
        frames = _frames(letter, messages[chosen])
        size = frames.dtype.itemsize
        stream[(ends[chosen] - size)[:, None] + np.arange(size)] = frames.view(np.uint8).reshape(-1, size)
    return stream


def _frames(letter: str, messages: np.ndarray) -> np.ndarray:
    """Frames of one type."""
    frames = np.zeros(len(messages), np.dtype([("length", ">u2"), ("message", MESSAGES[letter])]))
    frames["length"] = MESSAGES[letter].itemsize
    body = frames["message"]
    body["message_type"], body["stock_locate"] = letter.encode(), messages["symbol"]
    body["order_reference"] = messages["order_id"]
    if letter == "A":
        body["side"], body["stock"] = np.where(messages["side"] == 0, b"B", b"S"), b"ANY"
    for field, source in _FIELDS[letter].items():
        body[field] = messages[source]
    return frames


def recorded() -> tuple[str, np.ndarray] | None:
    """(name, bytes) of the largest ITCH file in the folder itch of $TICKPIPE_DATA, None where there is none."""
    folder = Path(os.environ.get("TICKPIPE_DATA", "")) / "itch"
    found: dict[str, bytes] = {}
    for path in folder.glob("*itch*") if "TICKPIPE_DATA" in os.environ else ():
        found[path.name] = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if not found:
        return None
    name = max(found, key=lambda each: len(found[each]))
    return name, np.frombuffer(found[name], np.uint8)
