"""ITCH messages field by field: our layouts against struct formats, against itchfeed; compiled loads too."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from shm.kernel import kernel
from stages.domain.codecs import itch
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import any_message

LENGTHS = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21, "A": 36, "F": 40, "E": 31,
    "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19, "I": 50, "N": 20, "O": 48,
}  # fmt: skip
"""As the specification gives them."""


def decoded(message: bytes) -> tuple[Any, ...]:
    """All fields by the dtype, as the oracle gives them."""
    letter = message[:1].decode()
    row = np.frombuffer(message, itch.MESSAGES[letter])[0]
    _, locate, tracking, high, low, *_ = row.tolist()
    body = []
    for name in itch.MESSAGES[letter].names[5:]:
        value = row[name]
        # numpy drops zero bytes at the end of a text
        body.append(bytes(value).ljust(value.dtype.itemsize, b"\0") if value.dtype.kind == "S" else int(value))
    return (letter, locate, tracking, high << 32 | low, *body)


def test_every_type_of_the_specification_has_its_length() -> None:
    assert {letter: dtype.itemsize for letter, dtype in itch.MESSAGES.items()} == LENGTHS
    assert {letter: oracle.length_of(letter) for letter in oracle.FORMATS} == LENGTHS
    assert np.flatnonzero(itch.lengths_by_type()).tolist() == sorted(map(ord, LENGTHS))


@given(any_message())
def test_fields_are_those_of_a_struct_decoder(message: bytes) -> None:
    expected = oracle.unpack(message)
    found = list(decoded(message))
    for place, value in enumerate(expected):
        if isinstance(value, bytes):
            found[place] = found[place][: len(value)].ljust(len(value), b"\0")
    assert tuple(found) == expected


@kernel
def _header(at: int) -> tuple[int, int]:
    return itch.locate(at), itch.time_ns(at)


@kernel
def _add(at: int) -> tuple[int, int, int]:
    return itch.order_reference(at), itch.added_shares(at), itch.added_price(at)


@kernel
def _change(at: int) -> tuple[int, int]:
    return itch.order_reference(at), itch.changed_shares(at)


@kernel
def _execution_price(at: int) -> int:
    return itch.execution_price(at)


@kernel
def _replace(at: int) -> tuple[int, int, int, int]:
    return itch.order_reference(at), itch.new_order_reference(at), itch.new_shares(at), itch.new_price(at)


def signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


@given(any_message("AFECXDU"))
def test_compiled_loads_read_the_same(message: bytes) -> None:
    memory = np.frombuffer(message, np.uint8)
    at = memory.ctypes.data
    letter, locate, _, time_ns, *fields = oracle.unpack(message)
    assert _header(at) == (locate, time_ns)
    if letter in ("A", "F"):
        assert _add(at) == (signed(fields[0]), fields[2], fields[4])
    elif letter in ("E", "C", "X"):
        assert _change(at) == (signed(fields[0]), fields[1])
        if letter == "C":
            assert _execution_price(at) == fields[4]
    elif letter == "U":
        assert _replace(at) == (signed(fields[0]), signed(fields[1]), fields[2], fields[3])


def without_zeros(values: Iterable[Any]) -> list[Any]:
    """numpy drops zero bytes at the end of a text."""
    return [value.rstrip(b"\0") if isinstance(value, bytes) else value for value in values]


@given(any_message())
def test_every_type_is_read_as_itchfeed_reads_it(message: bytes) -> None:
    """Its attributes stand in the order of the specification, as our fields do."""
    itchfeed = pytest.importorskip("itch.messages", reason="itchfeed is not installed")
    theirs = itchfeed.messages[message[:1]](message)
    ours = decoded(message)
    assert ours[:4] == (message[:1].decode(), theirs.stock_locate, theirs.tracking_number, theirs.timestamp)
    header = ("stock_locate", "tracking_number", "timestamp")
    assert without_zeros(ours[4:]) == without_zeros([value for key, value in vars(theirs).items() if key not in header])


@pytest.mark.parametrize("name", ["12302019_SNIPPET.NASDAQ_ITCH50", "AAPL_20191230_reencoded.itch50.gz"])
def test_recorded_messages_are_those_of_itchfeed(recorded_data: Path, name: str) -> None:
    itchfeed = pytest.importorskip("itch.messages", reason="itchfeed is not installed")
    raw = (recorded_data / "itch" / name).read_bytes()
    content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    at = count = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 2], "big")
        message = content[at + 2 : at + 2 + size]
        at += 2 + size
        count += 1
        theirs = itchfeed.messages[message[:1]](message)
        ours = decoded(message)
        assert ours[:4] == (message[:1].decode(), theirs.stock_locate, theirs.tracking_number, theirs.timestamp)
        # Both have the body's fields in the order of the specification: itchfeed as attributes in that order.
        own = [
            value for key, value in vars(theirs).items() if key not in ("stock_locate", "tracking_number", "timestamp")
        ]
        assert list(ours[4:]) == own, message
    assert (at, count) == (len(content), {1: 1_000, 0: 49_947}[int(name.startswith("1"))])
