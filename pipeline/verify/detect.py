"""Telling a file's format from its content."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.errors import UsageError
from shm.kernel import kernel
from stages.domain.captures.binance import looks_like
from stages.domain.captures.pcap import is_pcap
from stages.domain.captures.pieces import DamagedFileError, pieces, zip_members
from stages.domain.codecs import itch_frames, raw

FORMATS = ("binance", "lobster", "itch", "raw")
HINT = f"name the format: --format {'|'.join(FORMATS)}"
LOOK_BYTES = 1 << 16
LINES = 20
ITCH_BYTES_MIN = 512
"""So many bytes of good ITCH frames are no chance, whatever else is there: one in 800,000 places looks like one."""

_MESSAGE_ROW = re.compile(rb"\d+(\.\d+)?,[1-7],\d+,\d+,-?\d+,-?1(,.*)?\r?")
_BOOK_ROW = re.compile(rb"(-?\d+,\d+,-?\d+,\d+)(,-?\d+,\d+,-?\d+,\d+)*\r?")


def format_of(path: Path) -> str:
    """One of FORMATS, or "pcap". Raises UsageError when the file cannot be read or looks like none of them."""
    if path.is_dir() or _is_zipped_sample(path):
        return "lobster"
    start = _start_of(path)
    if not start:
        raise UsageError(f"{path}: empty", "give a file with market data")
    if is_pcap(start):
        return "pcap"
    lines = start.split(b"\n")[:LINES]
    if any(looks_like(line) for line in lines):
        return "binance"
    if any(_MESSAGE_ROW.fullmatch(line) or _BOOK_ROW.fullmatch(line) for line in lines):
        return "lobster"
    good = {name: _good_bytes(start, count) for name, count in (("itch", _itch_bytes), ("raw", _raw_bytes))}
    best = max(good, key=lambda name: good[name])
    if good["itch"] >= ITCH_BYTES_MIN:
        return "itch"
    if good[best] < max(len(start) // 2, 1):
        raise UsageError(f"{path}: looks like no market data that is known here", HINT)
    return best


def _is_zipped_sample(path: Path) -> bool:
    try:
        return path.is_file() and zipfile.is_zipfile(path) and len(zip_members(path)) != 1
    except (DamagedFileError, OSError):
        return False


def _start_of(path: Path) -> bytes:
    start = b""
    try:
        for piece in pieces(path):
            start += piece[:LOOK_BYTES]
            if len(start) >= LOOK_BYTES:
                break
    except DamagedFileError as error:
        if not start:
            raise UsageError(f"{path}: {error.what}", "copy or download the file again") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "give a file that can be read") from None
    return start[:LOOK_BYTES].removeprefix(b"\xef\xbb\xbf")


def _good_bytes(start: bytes, count: Callable[[int, int], int]) -> int:
    source = np.frombuffer(start, np.uint8)
    return count(source.ctypes.data, source.ctypes.data + len(source))


def _itch_bytes(begin: int, end: int) -> int:
    framer = itch_frames.new_framer()
    framer["position"] = framer["origin"] = begin
    return int(_itch_messages_bytes(framer.ctypes.data, end))


def _raw_bytes(begin: int, end: int) -> int:
    reader = raw.new_reader()
    reader["position"] = reader["origin"] = begin
    return int(_raw_messages(reader.ctypes.data, end)) * raw.MESSAGE_BYTES


@kernel
def _itch_messages_bytes(framer: int, end: int) -> int:
    """Bytes of the good frames up to `end`."""
    total = 0
    message = itch_frames.next_message(framer, end, True)
    while message != 0:
        total += itch_frames.LENGTH_BYTES + itch_frames.size_of_type(framer, message)
        message = itch_frames.next_message(framer, end, True)
    return total


@kernel
def _raw_messages(reader: int, end: int) -> int:
    """Messages of known type up to `end`."""
    messages = 0
    while raw.next_message(reader, end, True) != 0:
        messages += 1
    return messages
