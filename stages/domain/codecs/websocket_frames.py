"""WebSocket frames (RFC 6455 section 5) in compiled code: cutting what a server sends, finishing what a client sends.

A cutter is CUTTER_BYTES of private words that say where a byte buffer has been read to. `cut` looks at the bytes from
POSITION up to `end` and returns what it found: nothing yet (INCOMPLETE), a whole message (its opcode; PAYLOAD and
PAYLOAD_BYTES say where it lies), or a protocol error (negative), after which the connection must be failed.

A fragmented message is put together in place: each continuation is moved down to the end of what came before, so a
message is always contiguous. Control frames may stand between fragments and are returned as they come.
"""

from shm.atomics import load_u8, load_unaligned, load_word, poke, store_u8, store_unaligned, store_word
from shm.kernel import primitive, routine
from shm.libc import memmove

POSITION = 0
"""Address of the first byte not yet cut."""
PAYLOAD = 8
PAYLOAD_BYTES = 16
PARTIAL = 24
"""Address of the fragmented message under way; 0 when there is none."""
PARTIAL_BYTES = 32
PARTIAL_OPCODE = 40
CUTTER_BYTES = 64

INCOMPLETE = 0
TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA
_CONTINUATION = 0x0

MASKED = -1
"""A server must not mask (5.1)."""
OVERSIZED = -2
"""The message is longer than the caller's limit."""
RESERVED = -3
"""Reserved bits or a reserved opcode: no extension was agreed on (5.2)."""
BAD_CONTROL = -4
"""A control frame that is fragmented or longer than 125 bytes (5.5)."""
BAD_FRAGMENT = -5
"""A continuation of nothing, or a new message inside a fragmented one (5.4)."""

ERRORS = {
    MASKED: "masked frame from the server",
    OVERSIZED: "message longer than the limit",
    RESERVED: "reserved bits or opcode",
    BAD_CONTROL: "fragmented or over-long control frame",
    BAD_FRAGMENT: "fragments out of order",
}
"""Error code to words, for logs."""

HEADER_BYTES_MAX = 14
"""Room that `finish_client_frame` may need before the payload: 2 + 8 bytes of length + 4 of masking key."""


def start(cutter: int, buffer: int) -> None:
    """Cold: begin at address `buffer`, nothing cut yet."""
    for offset in range(0, CUTTER_BYTES, 8):
        poke(cutter + offset, 0)
    poke(cutter + POSITION, buffer)


@primitive
def _big_endian(at: int, count: int) -> int:
    value = 0
    for index in range(count):
        value = value << 8 | load_u8(at + index)
    return value


@routine
def cut(cutter: int, end: int, limit_bytes: int) -> int:
    """The next message or control frame of the buffer: an opcode, INCOMPLETE, or an error code."""
    at = load_word(cutter + POSITION)
    while end - at >= 2:
        first, second = load_u8(at), load_u8(at + 1)
        opcode = first & 0xF
        if second & 0x80:
            return MASKED
        if first & 0x70 or 2 < opcode < 8 or opcode > PONG:
            return RESERVED
        is_final = first & 0x80 != 0
        if opcode >= CLOSE and (not is_final or second > 125):
            return BAD_CONTROL
        size, payload = second, at + 2
        if second >= 126:
            length_bytes = 2 if second == 126 else 8
            if end - payload < length_bytes:
                return INCOMPLETE
            size = _big_endian(payload, length_bytes)
            payload += length_bytes
        partial = load_word(cutter + PARTIAL)
        if (
            size < 0
            or size > limit_bytes
            or (opcode == _CONTINUATION and load_word(cutter + PARTIAL_BYTES) + size > limit_bytes)
        ):
            return OVERSIZED
        if opcode < CLOSE and (opcode == _CONTINUATION) != (partial != 0):
            return BAD_FRAGMENT
        if end - payload < size:
            return INCOMPLETE
        at = payload + size
        store_word(cutter + POSITION, at)
        if opcode >= CLOSE or (is_final and opcode != _CONTINUATION):
            store_word(cutter + PAYLOAD, payload)
            store_word(cutter + PAYLOAD_BYTES, size)
            return opcode
        if opcode != _CONTINUATION:
            store_word(cutter + PARTIAL, payload)
            store_word(cutter + PARTIAL_BYTES, size)
            store_word(cutter + PARTIAL_OPCODE, opcode)
            continue
        joined = load_word(cutter + PARTIAL_BYTES)
        memmove(partial + joined, payload, size)
        store_word(cutter + PARTIAL_BYTES, joined + size)
        if is_final:
            store_word(cutter + PAYLOAD, partial)
            store_word(cutter + PAYLOAD_BYTES, joined + size)
            store_word(cutter + PARTIAL, 0)
            store_word(cutter + PARTIAL_BYTES, 0)
            return load_word(cutter + PARTIAL_OPCODE)
    return INCOMPLETE


@routine
def compact(cutter: int, buffer: int, end: int) -> int:
    """Move what is still needed to address `buffer`, the start of the memory; returns the new end.

    Payloads returned before are no longer valid.
    """
    partial, at = load_word(cutter + PARTIAL), load_word(cutter + POSITION)
    if partial != 0:
        kept = load_word(cutter + PARTIAL_BYTES)
        memmove(buffer, partial, kept)
        store_word(cutter + PARTIAL, buffer)
        buffer += kept
    memmove(buffer, at, end - at)
    store_word(cutter + POSITION, buffer)
    return buffer + end - at


@primitive
def mask_in_place(at: int, count: int, key: int) -> None:
    """XOR `count` bytes at `at` with the 4-byte masking key (as a little-endian load gives it), 8 bytes at a time."""
    wide = key & 0xFFFFFFFF
    wide |= wide << 32
    offset = 0
    while offset + 8 <= count:
        store_unaligned(at + offset, load_unaligned(at + offset) ^ wide)
        offset += 8
    while offset < count:
        store_u8(at + offset, load_u8(at + offset) ^ (wide >> (8 * (offset & 7))) & 0xFF)
        offset += 1


@primitive
def finish_client_frame(payload: int, payload_bytes: int, opcode: int, key: int) -> int:
    """Make the payload one final, masked frame that ends where the payload does; returns the frame's address.

    The header goes before the payload, where HEADER_BYTES_MAX bytes must be free; the payload is masked in place.
    `key` must be unpredictable to the sender of the payload's contents (5.3).
    """
    if payload_bytes < 126:
        frame = payload - 6
        store_u8(frame + 1, 0x80 | payload_bytes)
    elif payload_bytes < 65536:
        frame = payload - 8
        store_u8(frame + 1, 0x80 | 126)
        store_u8(frame + 2, payload_bytes >> 8)
        store_u8(frame + 3, payload_bytes)
    else:
        frame = payload - 14
        store_u8(frame + 1, 0x80 | 127)
        for index in range(8):
            store_u8(frame + 2 + index, payload_bytes >> (56 - 8 * index))
    store_u8(frame, 0x80 | opcode)
    for index in range(4):
        store_u8(payload - 4 + index, key >> (8 * index))
    mask_in_place(payload, payload_bytes, key)
    return frame
