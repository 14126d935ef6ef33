"""One stream of messages in order out of redundant lines of MoldUDP64 packets: whichever line brings a message first.

    offer(packet)    looks at a packet's header
    take() -> block  the next message in order, until there is none (0); then the next packet may be offered
    abandon(...)     gives up what is missing when it has been for too long; then `take` goes on behind it

A message that is next is handed out where it lies in the packet. One from beyond what is next is kept, in a window of
`slots` sequence numbers, for what is missing may still come by the other line, late, or on request: a gap is open
while EXPECTED < KNOWN_END, and what to ask for begins at EXPECTED. When the window does not reach, the gap is given up
at once. Lines and answers to requests are all the same to the arbiter: a sequence number is handed out once.

Nothing here reads a clock or a socket. An arbiter is ARBITER bytes of private words and its window. What of a session
is missing or kept when another one begins is lost; packets of the session before are ignored from then on.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_word, store_word
from shm.kernel import primitive, routine
from shm.layout import record_dtype
from shm.libc import memmove
from stages.domain.codecs.moldudp64 import (
    END_OF_SESSION,
    HEADER_BYTES,
    block_end,
    count_of,
    sequence_of,
    session_of,
)

MESSAGES, HEARTBEAT, ENDED = 1, 2, 3
MALFORMED, OLD_SESSION = -1, -2
"""What `offer` says of a packet: its messages can be taken; it has none; it is not used."""

LINES = 4
SEQUENCE_MAX = 2**62
SLOT_BYTES = 128
_SLOT_MESSAGE = 8
"""A slot is a tag (sequence number + 1, 0 when it was never used) and a block."""

ARBITER = record_dtype(
    [
        ("session_head", "<i8"),
        ("session_tail", "<i8"),
        ("old_head", "<i8"),
        ("old_tail", "<i8"),
        ("has_session", "<i8"),
        ("has_old", "<i8"),
        ("expected", "<i8"),  # sequence number that is handed out next; 0: that of the first packet
        ("known_end", "<i8"),  # one beyond the greatest sequence number known to exist
        ("gap_at", "<i8"),  # what was expected when the open gap was first seen, and when that was
        ("gap_since_ns", "<i8"),
        ("now_ns", "<i8"),
        ("is_ended", "<i8"),
        ("block", "<i8"),  # of the packet under way: its next block, that one's sequence number, how many are left
        ("packet_end", "<i8"),
        ("sequence", "<i8"),
        ("left", "<i8"),
        ("line", "<i8"),
        ("window", "<i8"),  # address
        ("slots", "<i8"),  # a power of two
        # counted
        ("gaps", "<i8"),  # gaps given up
        ("lost", "<i8"),  # messages in them
        ("held", "<i8"),  # messages kept because one before them was missing
        ("duplicates", "<i8"),
        ("oversized", "<i8"),  # messages that fit no slot, not kept
        ("sessions", "<i8"),
        ("broken_off", "<i8"),  # sessions that another one followed although they had not ended
        ("old_packets", "<i8"),
        ("malformed", "<i8"),  # packets without a whole header, or with a sequence number out of range
        ("truncated", "<i8"),  # packets that hold fewer messages than they say
        ("packets", "<i8", LINES),  # by line
        ("firsts", "<i8", LINES),  # messages that this line brought first
    ],
    320,
)


def _offset(field: str) -> int:
    assert ARBITER.fields is not None
    return int(ARBITER.fields[field][1])


_SESSION_HEAD, _SESSION_TAIL, _OLD_HEAD, _OLD_TAIL, _HAS_SESSION, _HAS_OLD = (
    _offset(name) for name in ("session_head", "session_tail", "old_head", "old_tail", "has_session", "has_old")
)
EXPECTED, KNOWN_END, GAP_SINCE_NS = _offset("expected"), _offset("known_end"), _offset("gap_since_ns")
GAP_AT, _NOW_NS, _IS_ENDED = _offset("gap_at"), _offset("now_ns"), _offset("is_ended")
_BLOCK, _PACKET_END, _SEQUENCE, _LEFT, _LINE = (
    _offset(name) for name in ("block", "packet_end", "sequence", "left", "line")
)
_WINDOW, _SLOTS = _offset("window"), _offset("slots")
GAPS, LOST, _HELD, _DUPLICATES, _OVERSIZED = (
    _offset(name) for name in ("gaps", "lost", "held", "duplicates", "oversized")
)
SESSIONS, _BROKEN_OFF, _OLD_PACKETS, _MALFORMED, _TRUNCATED = (
    _offset(name) for name in ("sessions", "broken_off", "old_packets", "malformed", "truncated")
)
_PACKETS, _FIRSTS = _offset("packets"), _offset("firsts")


class Arbiter:
    """Cold: the memory of an arbiter with a window of `slots` sequence numbers, a power of two.

    first_sequence   what is expected first of the first session; 0: join wherever its first packet is

    `window` has a slot per sequence number that may be kept, of SLOT_BYTES each.
    """

    def __init__(self, slots: int, first_sequence: int = 0) -> None:
        if slots < 1 or slots & (slots - 1):
            raise ValueError(f"arbiter slots={slots} must be a power of two")
        self.window = np.zeros(slots * SLOT_BYTES // 8, np.int64)
        self.words: NDArray[Any] = np.zeros(1, ARBITER)
        self.words["window"], self.words["slots"] = self.window.ctypes.data, slots
        self.words["expected"] = self.words["known_end"] = first_sequence
        self.address = int(self.words.ctypes.data)

    @property
    def session(self) -> bytes:
        """The current session's name, SESSION_BYTES long, as packets have it."""
        head, tail = int(self.words["session_head"][0]), int(self.words["session_tail"][0])
        return (head & (2**64 - 1)).to_bytes(8, "big") + tail.to_bytes(2, "big")


@primitive
def _add(address: int, amount: int) -> None:
    store_word(address, load_word(address) + amount)


@primitive
def _slot(arbiter: int, sequence: int) -> int:
    return load_word(arbiter + _WINDOW) + (sequence & (load_word(arbiter + _SLOTS) - 1)) * SLOT_BYTES


@routine
def offer(arbiter: int, line: int, packet: int, end: int, now_ns: int) -> int:
    """Begin with the packet from `packet` to `end` that came by line `line` (0 to LINES - 1).

    The one before must have been taken completely, and this one's bytes must stay until it is.
    """
    _add(arbiter + _PACKETS + 8 * line, 1)
    store_word(arbiter + _NOW_NS, now_ns)
    if end - packet < HEADER_BYTES:
        _add(arbiter + _MALFORMED, 1)
        return MALFORMED
    sequence, count = sequence_of(packet), count_of(packet)
    if sequence < 0 or sequence > SEQUENCE_MAX:
        _add(arbiter + _MALFORMED, 1)
        return MALFORMED
    if not _is_current_session(arbiter, packet):
        _add(arbiter + _OLD_PACKETS, 1)
        return OLD_SESSION
    if load_word(arbiter + EXPECTED) == 0:
        store_word(arbiter + EXPECTED, sequence)
    has_messages = count != 0 and count != END_OF_SESSION
    known_end = sequence + (count if has_messages else 0)
    if known_end > load_word(arbiter + KNOWN_END):
        store_word(arbiter + KNOWN_END, known_end)
    store_word(arbiter + _BLOCK, packet + HEADER_BYTES)
    store_word(arbiter + _PACKET_END, end)
    store_word(arbiter + _SEQUENCE, sequence)
    store_word(arbiter + _LEFT, count if has_messages else 0)
    store_word(arbiter + _LINE, line)
    if count == END_OF_SESSION:
        store_word(arbiter + _IS_ENDED, 1)
        return ENDED
    return MESSAGES if has_messages else HEARTBEAT


@primitive
def _is_current_session(arbiter: int, packet: int) -> bool:
    """Whether the packet's session is the current one, which it becomes if nobody has seen it yet."""
    head, tail = session_of(packet)
    has_session = load_word(arbiter + _HAS_SESSION) != 0
    if has_session and head == load_word(arbiter + _SESSION_HEAD) and tail == load_word(arbiter + _SESSION_TAIL):
        return True
    is_old = head == load_word(arbiter + _OLD_HEAD) and tail == load_word(arbiter + _OLD_TAIL)
    if (is_old and load_word(arbiter + _HAS_OLD) != 0) or not _is_name(head, tail):
        return False
    if has_session:
        _leave_session(arbiter)
    store_word(arbiter + _SESSION_HEAD, head)
    store_word(arbiter + _SESSION_TAIL, tail)
    store_word(arbiter + _HAS_SESSION, 1)
    _add(arbiter + SESSIONS, 1)
    return True


@primitive
def _is_name(head: int, tail: int) -> bool:
    """Whether a session can have this name, printable ASCII: a stray datagram of something else ends no session."""
    is_name = True
    for shift in range(0, 64, 8):
        is_name = is_name and 0x20 <= head >> shift & 0xFF < 0x7F
    return is_name and 0x20 <= tail >> 8 & 0xFF < 0x7F and 0x20 <= tail & 0xFF < 0x7F


@primitive
def _leave_session(arbiter: int) -> None:
    """The current session becomes the old one; the next one's first message is expected."""
    missing = load_word(arbiter + KNOWN_END) - load_word(arbiter + EXPECTED)
    if missing > 0:
        _add(arbiter + GAPS, 1)
        _add(arbiter + LOST, missing)
    _add(arbiter + _BROKEN_OFF, 1 - load_word(arbiter + _IS_ENDED))
    for index in range(load_word(arbiter + _SLOTS)):
        store_word(_slot(arbiter, index), 0)
    store_word(arbiter + _OLD_HEAD, load_word(arbiter + _SESSION_HEAD))
    store_word(arbiter + _OLD_TAIL, load_word(arbiter + _SESSION_TAIL))
    store_word(arbiter + _HAS_OLD, 1)
    store_word(arbiter + EXPECTED, 1)
    store_word(arbiter + KNOWN_END, 1)
    store_word(arbiter + GAP_AT, 0)
    store_word(arbiter + _IS_ENDED, 0)


@routine
def take(arbiter: int) -> int:
    """Address of the block of the next message in order; 0 when there is none.

    It stays until `take` is called again.
    """
    while True:
        expected = load_word(arbiter + EXPECTED)
        slot = _slot(arbiter, expected)
        if load_word(slot) == expected + 1:
            store_word(arbiter + EXPECTED, expected + 1)
            return slot + _SLOT_MESSAGE
        if load_word(arbiter + _LEFT) == 0:
            _watch_gap(arbiter)
            return 0
        block, sequence = load_word(arbiter + _BLOCK), load_word(arbiter + _SEQUENCE)
        behind = block_end(block, load_word(arbiter + _PACKET_END))
        if behind == 0:
            _add(arbiter + _TRUNCATED, 1)
            store_word(arbiter + _LEFT, 0)
            continue
        if sequence - expected >= load_word(arbiter + _SLOTS):
            _give_up(arbiter, sequence)
            continue
        store_word(arbiter + _BLOCK, behind)
        store_word(arbiter + _SEQUENCE, sequence + 1)
        _add(arbiter + _LEFT, -1)
        if sequence == expected:
            store_word(arbiter + EXPECTED, expected + 1)
            _add(arbiter + _FIRSTS + 8 * load_word(arbiter + _LINE), 1)
            return block
        if sequence < expected or load_word(_slot(arbiter, sequence)) == sequence + 1:
            _add(arbiter + _DUPLICATES, 1)
        elif behind - block > SLOT_BYTES - _SLOT_MESSAGE:
            _add(arbiter + _OVERSIZED, 1)
        else:
            slot = _slot(arbiter, sequence)
            store_word(slot, sequence + 1)
            memmove(slot + _SLOT_MESSAGE, block, behind - block)
            _add(arbiter + _HELD, 1)
            _add(arbiter + _FIRSTS + 8 * load_word(arbiter + _LINE), 1)


@primitive
def _watch_gap(arbiter: int) -> None:
    """Note since when the message that is expected is missing."""
    expected = load_word(arbiter + EXPECTED)
    if load_word(arbiter + KNOWN_END) > expected and load_word(arbiter + GAP_AT) != expected:
        store_word(arbiter + GAP_AT, expected)
        store_word(arbiter + GAP_SINCE_NS, load_word(arbiter + _NOW_NS))


@primitive
def _give_up(arbiter: int, limit: int) -> None:
    """Expect the first message that is kept, or `limit`, the sequence number before which nothing else is to come."""
    expected = load_word(arbiter + EXPECTED)
    found = expected + 1
    last = min(limit, expected + load_word(arbiter + _SLOTS))
    while found < last and load_word(_slot(arbiter, found)) != found + 1:
        found += 1
    if found == last:
        found = limit
    _add(arbiter + GAPS, 1)
    _add(arbiter + LOST, found - expected)
    store_word(arbiter + EXPECTED, found)


@routine
def abandon(arbiter: int, now_ns: int, patience_ns: int) -> bool:
    """Give up a gap that has been open for `patience_ns`. True: then there may be messages to take."""
    expected, known_end = load_word(arbiter + EXPECTED), load_word(arbiter + KNOWN_END)
    is_open = known_end > expected and load_word(arbiter + GAP_AT) == expected
    if not is_open or now_ns - load_word(arbiter + GAP_SINCE_NS) < patience_ns:
        return False
    _give_up(arbiter, known_end)
    store_word(arbiter + _NOW_NS, now_ns)
    return True
