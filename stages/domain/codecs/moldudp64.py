"""MoldUDP64 packets: a header and a series of message blocks, each a 2-byte length and the message. All big-endian.

A packet's sequence number is that of its first message; it has COUNT of them. A count of 0 is a heartbeat and
END_OF_SESSION the end of the session: neither has messages, and both say which sequence number comes next. A request
for messages that were lost is a header alone, with the first one's sequence number and how many.

Source: MoldUDP64 protocol specification 1.00.
"""

from collections.abc import Sequence

import numpy as np

from shm.kernel import primitive
from stages.domain.codecs.big_endian import load_big_u16, load_big_u64

HEADER = np.dtype([("session", "S10"), ("sequence", ">u8"), ("count", ">u2")])
HEADER_BYTES = HEADER.itemsize
BLOCK_HEADER_BYTES = 2
END_OF_SESSION = 0xFFFF
SESSION_BYTES = 10


def _offset(field: str) -> int:
    assert HEADER.fields is not None
    return int(HEADER.fields[field][1])


_SEQUENCE, _COUNT = _offset("sequence"), _offset("count")


@primitive
def session_of(packet: int) -> tuple[int, int]:
    """The session's name as two words: its first 8 bytes and its last 2. The packet has a whole header."""
    return load_big_u64(packet), load_big_u16(packet + 8)


@primitive
def sequence_of(packet: int) -> int:
    """Sequence number of the packet's first message, or of the next one to come; negative from 2**63 on."""
    return load_big_u64(packet + _SEQUENCE)


@primitive
def count_of(packet: int) -> int:
    """Messages in the packet, 0 or END_OF_SESSION."""
    return load_big_u16(packet + _COUNT)


@primitive
def block_end(block: int, end: int) -> int:
    """Address after the message block at `block`; 0 when the packet, which ends at `end`, holds only a part of it."""
    if end - block < BLOCK_HEADER_BYTES:
        return 0
    behind = block + BLOCK_HEADER_BYTES + load_big_u16(block)
    return behind if behind <= end else 0


def header(session: bytes, sequence: int, count: int) -> bytes:
    """A header alone: a heartbeat, the end of a session, or a request. `session` is padded with blanks."""
    assert len(session) <= SESSION_BYTES, session
    return session.ljust(SESSION_BYTES) + sequence.to_bytes(8, "big") + count.to_bytes(2, "big")


def packet(session: bytes, sequence: int, messages: Sequence[bytes]) -> bytes:
    """A packet with `messages`."""
    blocks = (len(message).to_bytes(BLOCK_HEADER_BYTES, "big") + message for message in messages)
    return header(session, sequence, len(messages)) + b"".join(blocks)
