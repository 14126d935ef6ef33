"""Frames cut in compiled code against frames built by hand, in any chunks; client frames against websocket-client."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websocket import ABNF

from shm.atomics import peek
from shm.kernel import kernel
from stages.domain.codecs import websocket_frames as ws
from tests.entered import entered
from tests.stages.feed.stepped import frame

LIMIT = 70_000
BUFFER_BYTES = 200_000


class Cutter:
    """A receive buffer that is fed in chunks and compacted when little room is left."""

    def __init__(self) -> None:
        self._memory = np.zeros(BUFFER_BYTES, np.uint8)
        self._words = np.zeros(ws.CUTTER_BYTES // 8, np.int64)
        self.at = self._words.ctypes.data
        self.buffer = self.end = self._memory.ctypes.data
        ws.start(self.at, self.buffer)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Everything that is complete now; a negative code ends the list."""
        if self.end + len(data) > self.buffer + BUFFER_BYTES:
            self.end = entered(ws.compact)(self.at, self.buffer, self.end)
        start = self.end - self.buffer
        self._memory[start : start + len(data)] = np.frombuffer(data, np.uint8)
        self.end += len(data)
        found: list[tuple[int, bytes]] = []
        while code := entered(ws.cut)(self.at, self.end, LIMIT):
            if code < 0:
                return [*found, (code, b"")]
            begin = peek(self.at + ws.PAYLOAD) - self.buffer
            found.append((code, bytes(self._memory[begin : begin + peek(self.at + ws.PAYLOAD_BYTES)])))
        return found


payloads = st.one_of(st.binary(max_size=200), st.integers(120, 60_000).map(lambda size: b"x" * size))
controls = st.tuples(st.sampled_from([ws.PING, ws.PONG, ws.CLOSE]), st.binary(max_size=125))
messages = st.tuples(
    st.sampled_from([ws.TEXT, ws.BINARY]), payloads, st.lists(st.integers(0, 200), max_size=3), st.lists(controls)
)


@given(data=st.data(), sent=st.lists(st.one_of(controls, messages), max_size=8))
def test_messages_come_out_whole_whatever_the_fragments_and_chunks(data: st.DataObject, sent: list) -> None:
    wire = b""
    expected = []
    for item in sent:
        if len(item) == 2:
            wire += frame(item[1], item[0])
            expected.append(item)
            continue
        opcode, payload, cuts, between = item
        edges = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
        parts = [payload[a:b] for a, b in itertools.pairwise(edges)]
        for index, part in enumerate(parts):
            wire += frame(part, 0 if index else opcode, final=index == len(parts) - 1)
            if index < len(parts) - 1:
                for control in between:
                    wire += frame(control[1], control[0])
                    expected.append(control)
        expected.append((opcode, payload))
    cutter = Cutter()
    found = []
    while wire:
        size = data.draw(st.one_of(st.integers(1, 20), st.just(50_000)), label="chunk")
        found += cutter.feed(wire[:size])
        wire = wire[size:]
    assert found == expected


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x81\x85abcdhello", ws.MASKED),
        (b"\xc1\x01x", ws.RESERVED),
        (b"\x83\x01x", ws.RESERVED),
        (b"\x8b\x00", ws.RESERVED),
        (b"\x09\x01x", ws.BAD_CONTROL),
        (b"\x89\x7e\x00\x80" + b"x" * 128, ws.BAD_CONTROL),
        (frame(b"x", 0), ws.BAD_FRAGMENT),
        (frame(b"x", 1, final=False) + frame(b"y", 1), ws.BAD_FRAGMENT),
        (b"\x81\x7f" + (LIMIT + 1).to_bytes(8, "big"), ws.OVERSIZED),
        (b"\x81\x7f" + b"\xff" * 8, ws.OVERSIZED),
        (frame(b"x" * 40_000, 1, final=False) + b"\x80\x7e" + (40_000).to_bytes(2, "big"), ws.OVERSIZED),
    ],
)
def test_violations_of_the_protocol_are_named(wire: bytes, code: int) -> None:
    assert Cutter().feed(wire)[-1] == (code, b"")
    assert code in ws.ERRORS


def test_compaction_makes_room_without_losing_a_byte() -> None:
    cutter = Cutter()
    for number in range(200):
        payload = bytes([number]) * 3_000
        wire = frame(payload, 1, final=False) + frame(b"tail", 0)
        assert cutter.feed(wire[:2_000]) == []
        assert cutter.feed(wire[2_000:]) == [(ws.TEXT, payload + b"tail")]


@kernel
def _finish(payload: int, count: int, opcode: int, key: int) -> int:
    return ws.finish_client_frame(payload, count, opcode, key)


@given(
    payload=payloads.filter(lambda item: len(item) < 300) | st.sampled_from([b"y" * 65_535, b"z" * 65_536]),
    key=st.integers(0, 2**32 - 1),
    opcode=st.sampled_from([ws.TEXT, ws.PONG]),
)
def test_client_frames_are_those_of_websocket_client(payload: bytes, key: int, opcode: int) -> None:
    room = ws.HEADER_BYTES_MAX
    memory = np.full(room + len(payload) + 8, 0xEE, np.uint8)
    memory[room : room + len(payload)] = np.frombuffer(payload, np.uint8)
    begin = _finish(memory.ctypes.data + room, len(payload), opcode, key) - memory.ctypes.data
    reference = ABNF.create_frame(payload, opcode)
    reference.get_mask_key = lambda _: key.to_bytes(4, "little")
    assert bytes(memory[begin : room + len(payload)]) == reference.format()
    assert set(memory[room + len(payload) :]) == {0xEE}, "bytes behind the frame were touched"
    assert set(memory[:begin]) <= {0xEE}
