"""Raw 29-byte messages: read by view, counted, and found again behind garbage."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.kernel import kernel
from stages.domain.codecs import raw, raw_market
from stages.domain.codecs.itch_market import NOT_TRADED
from stages.domain.codecs.raw import LOOKAHEAD_BYTES, PROBLEMS, new_reader
from stages.domain.codecs.raw_market import SymbolTable
from stages.domain.instruments import default_instruments
from tests.stages.domain.codecs.pieces import PieceReader

FORMAT = "<BIqQQ"


def message(kind: int = 1, symbol: int = 7, price: int = 100, quantity: int = 5, time_ns: int = 10**18) -> bytes:
    return struct.pack(FORMAT, kind, symbol, price, quantity, time_ns)


@kernel
def _next(reader: int, end: int, is_last: bool) -> int:
    return raw.next_message(reader, end, is_last)


@kernel
def _datagram(reader: int, at: int, end: int) -> int:
    return raw.take_datagram(reader, at, end)


@kernel
def _fields(at: int) -> tuple[int, int, int, int, int]:
    return raw.message_type(at), raw.symbol_id(at), raw.price(at), raw.quantity(at), raw.timestamp_ns(at)


def read(stream: bytes, *cuts: int) -> PieceReader:
    """All of a stream, cut at these offsets."""
    return PieceReader(new_reader(), _next, PROBLEMS).read(stream, *cuts)


GOOD = [message(1 + number % 2, number, 100 - number, number, 10**18 + number) for number in range(100)]


@given(
    st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_fields_are_those_of_a_struct_decoder(kind: int, symbol: int, price: int, quantity: int, time_ns: int) -> None:
    memory = np.frombuffer(message(kind, symbol, price, quantity, time_ns), np.uint8)
    found = _fields(memory.ctypes.data)
    assert struct.pack("<BIqqq", *found) == memory.tobytes()
    assert memory.view(raw.MESSAGE)[0].tolist() == (kind, symbol, price, quantity, time_ns)


@given(st.lists(st.integers(0, 99), max_size=60), st.lists(st.integers(0, 2_000), max_size=5))
def test_good_streams_come_out_whole_however_they_are_cut(numbers: list[int], cuts: list[int]) -> None:
    messages = [GOOD[number] for number in numbers]
    reader = read(b"".join(messages), *cuts)
    assert reader.messages == messages
    assert (reader.problems(), reader.rest) == ({}, b"")
    kinds = [each[0] for each in messages]
    assert (int(reader.words["trades"][0]), int(reader.words["quotes"][0])) == (kinds.count(1), kinds.count(2))


def test_unknown_types_are_counted_even_in_a_row() -> None:
    reader = read(b"".join([*GOOD[:10], message(3), message(0), message(9), *GOOD[10:]]))
    assert reader.messages == GOOD
    assert reader.problems() == {"unknown_type": (3, 290)}
    assert int(reader.words["problem_type"][0][1]) == 3


MISLEADING = [message(1 + number % 2, 7, 10**10 + number, 5, 16 * 10**17 + 1_000 * number) for number in range(200)]
"""Of each the fifth byte of the price, 2, is what a type could be."""


@pytest.mark.parametrize("cuts", [(), range(0, 6_000, 500)])
def test_records_of_unknown_types_are_not_taken_apart_however_many_there_are(cuts: range) -> None:
    strange = [b"\7" + each[1:] for each in MISLEADING]
    reader = read(b"".join([*MISLEADING[:50], *strange[50:120], *MISLEADING[120:]]), *cuts)
    assert reader.messages == MISLEADING[:50] + MISLEADING[120:]
    assert reader.problems() == {"unknown_type": (70, 50 * 29)}
    reader = read(b"".join(strange), *cuts)
    assert (reader.messages, reader.problems()) == ([], {"unknown_type": (200, 0)})


@pytest.mark.parametrize("size", [3, 300])
def test_behind_garbage_the_messages_are_found_where_they_begin(size: int) -> None:
    stream = bytearray(b"".join(MISLEADING))
    stream[2_900 : 2_900 + size] = b"\xee" * size
    for cuts in ([], range(0, len(stream), 100)):
        reader = read(bytes(stream), *cuts)
        assert reader.messages == MISLEADING[:100] + MISLEADING[100 + (size + 28) // 29 :]


@pytest.mark.parametrize("left", [1, 28])
def test_a_record_cut_short_is_left_over(left: int) -> None:
    reader = read(b"".join(GOOD[:10]) + GOOD[10][:left])
    assert reader.messages == GOOD[:10]
    assert (reader.problems(), len(reader.rest)) == ({"truncated": (1, 290)}, left)


@pytest.mark.parametrize("size", [1, 7, 30, 3 * LOOKAHEAD_BYTES])
def test_garbage_costs_no_message(size: int) -> None:
    stream = b"".join(GOOD[:10]) + b"\xff" * size + b"".join(GOOD[10:])
    for cuts in ([], range(0, len(stream), 100)):
        reader = read(stream, *cuts)
        assert reader.messages == GOOD
        assert reader.problems() == {"garbage": (1, 290)}
        assert int(reader.words["garbage_bytes"][0]) == size


@given(st.binary(max_size=1_000), st.lists(st.integers(0, 1_000), max_size=4))
def test_no_bytes_at_all_upset_it(content: bytes, cuts: list[int]) -> None:
    reader = read(content, *cuts)
    assert len(b"".join(reader.messages)) + int(reader.words["garbage_bytes"][0]) + len(reader.rest) <= len(content)


def test_datagrams_are_taken_or_counted() -> None:
    reader = new_reader()

    def take(datagram: bytes) -> bool:
        memory = np.frombuffer(datagram or b"\0", np.uint8)
        return bool(_datagram(reader.ctypes.data, memory.ctypes.data, memory.ctypes.data + len(datagram)))

    assert take(message(1))
    assert take(message(2) + b"more")
    assert not take(message(7))
    assert not take(message(1)[:-1])
    assert not take(b"")
    words = reader[0]
    assert (int(words["trades"]), int(words["quotes"])) == (1, 1)
    assert dict(zip(PROBLEMS, words["problem_count"].tolist(), strict=True)) == {
        "truncated": 2, "unknown_type": 1, "garbage": 0,
    }  # fmt: skip


@kernel
def _symbol_of(table: int, symbol_id: int) -> int:
    return raw_market._symbol_of(table, symbol_id)


@given(st.lists(st.integers(0, 40) | st.integers(0, 2**32 - 1), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_an_ids_symbol_is_the_first_that_has_it_whatever_their_order(ids: list[int], other: int) -> None:
    table = SymbolTable(default_instruments([f"S{number}" for number in range(len(ids))], "RAW"), ids)
    for symbol_id in (*ids, other, 0, 41):
        expected = ids.index(symbol_id) if symbol_id in ids else NOT_TRADED
        assert _symbol_of(table.address, symbol_id) == expected
