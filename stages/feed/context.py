"""The feed's private memory: the layouts of its words, and the Context its kernel works on."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm.layout import record_dtype
from stages.domain.codecs import arbitration

NO_DESCRIPTOR = -1
MEMORY_SOURCE = -2
"""In place of a descriptor: bytes come from memory (source_at to source_end), for tests and stepped runs."""

NO_SYMBOL = -1

END_OF_STREAM = -1_000
"""`lost` is this, an errno above 0, or an error code of websocket_frames."""

STATE = record_dtype(
    [
        ("output", "<i8"),  # address of the ring to the book
        ("reader_epoch", "<i8"),  # of the book that is being told
        ("staging", "<i8"),  # address of the private ring where events are made
        ("symbol_count", "<i8"),
        ("queue_hop", "<i8"),  # histogram addresses
        ("parse_hop", "<i8"),
        # bytes
        ("descriptor", "<i8"),
        ("source_at", "<i8"),
        ("source_end", "<i8"),
        ("buffer", "<i8"),  # receive buffer: start, end of memory, end of what was received
        ("buffer_end", "<i8"),
        ("fill", "<i8"),
        ("cutter", "<i8"),
        ("frame_bytes_max", "<i8"),
        ("message", "<i8"),  # address of MESSAGE
        ("reads", "<i8"),  # that brought bytes
        ("read_ns", "<i8"),  # of the last of them
        # what the kernel hands to the cold side
        ("lost", "<i8"),  # why the connection ended; 0 while it stands
        ("control_opcode", "<i8"),
        ("control_at", "<i8"),
        ("control_bytes", "<i8"),
        ("refused_code", "<i8"),  # error code of the parser, 0 when there is nothing
        ("refused_at", "<i8"),
        ("refused_bytes", "<i8"),
        ("snapshot_wanted", "<i8"),  # 1: some symbol's snapshot_state became WANTED
        ("snapshot_code", "<i8"),  # what became of the snapshot; 0: not decided yet
        ("was_served", "<i8"),  # 1: the cold side has just been here; other agents' turn
        # what the cold side hands to the kernel
        ("canonical_at", "<i8"),  # a refused message, rewritten for the parser
        ("canonical_bytes", "<i8"),
        ("snapshot_symbol", "<i8"),  # or NO_SYMBOL
        ("snapshot_at", "<i8"),
        ("snapshot_bytes", "<i8"),
        ("snapshot_read_ns", "<i8"),
        ("reset_wanted", "<i8"),  # 1: tell the book that all books are invalid
        ("is_quiesced", "<i8"),
        # settings
        ("must_deliver", "<i8"),  # 1: a replay; never skips, never drops what is held
        ("backlog_limit_ns", "<i8"),
        ("hold_grows", "<i8"),  # 1: what is held back gets more room instead of being dropped (a replay)
        # progress
        ("event_seq", "<i8"),
        ("is_skipping", "<i8"),
        ("skipped", "<i8"),  # messages dropped in this skip
        ("rehearsal_at", "<i8"),  # a message that is only rehearsed, never published
        ("rehearsal_bytes", "<i8"),
        ("rehearsal_interval_ns", "<i8"),
        ("next_rehearsal_ns", "<i8"),
        ("hold_is_full", "<i8"),  # 1: a hold that grows may not have room for the next event; for the cold side
        ("releasing", "<i8"),  # the symbol whose hold is being published, or NO_SYMBOL
        ("tap", "<i8"),  # address of the words of what shows raw frames to observers
        # a block of binary messages, one behind the other
        ("block_at", "<i8"),  # where the newest block begins
        ("block_end", "<i8"),  # of the block under way; 0: there is none
        ("message_at", "<i8"),  # the next message of a datagram, or a block, of raw ones
        ("framer", "<i8"),  # address of what takes a block apart
        ("messages", "<i8"),  # binary messages of the stream so far
        ("day_ns", "<i8"),  # time of the last one of ITCH, since midnight
    ],
    512,
)


# Of a feed that reads datagrams.
LINES = record_dtype(
    [
        ("descriptors", "<i8", arbitration.LINES),  # lines A and B, then answers to requests
        ("count", "<i8"),
        ("turn", "<i8"),  # whose it is to be read
        ("line", "<i8"),  # that brought the datagram under way, its bytes; 0 bytes: it has been shown to observers
        ("bytes", "<i8"),
        ("datagrams", "<i8", arbitration.LINES),
        ("error", "<i8"),  # errno of a receive, for the cold side, and by which line
        ("error_line", "<i8"),
    ],
    192,
)

# Of one whose datagrams are MoldUDP64 packets.
PACKETS = record_dtype(
    [
        ("arbiter", "<i8"),  # address
        ("patience_ns", "<i8"),  # how long a gap may be open
        ("request_interval_ns", "<i8"),  # how long before its messages are asked for, and again; 0: never
        ("requested_ns", "<i8"),
        ("is_request_wanted", "<i8"),  # 1: for the cold side
        ("gaps", "<i8"),  # counts of the arbiter that the books have been told of
        ("lost", "<i8"),
        ("sessions", "<i8"),
        ("is_joining", "<i8"),  # 1: the first session is read from where it is
        ("is_stale", "<i8"),  # 1: every book was told that it has missed something of this session
    ],
    128,
)

# Of one whose datagrams, or blocks, are raw messages.
RAW = record_dtype(
    [
        ("reader", "<i8"),  # addresses
        ("table", "<i8"),
    ],
    64,
)


class Format(IntEnum):
    """What the venue's stream frames carry."""

    BINANCE = 0
    """A JSON document each."""
    ITCH = 1
    """A block of ITCH messages each, every one behind its length."""
    RAW = 2
    """A block of raw 29-byte messages each."""


# struct msghdr, iovec, control buffer and an int option value, for recvmsg and setsockopt (Linux, 64 bit).
MESSAGE = record_dtype(
    [
        ("name", "<i8"),
        ("name_bytes", "<i8"),
        ("iovec", "<i8"),
        ("iovec_count", "<i8"),
        ("control", "<i8"),
        ("control_bytes", "<i8"),
        ("flags", "<i8"),
        ("base", "<i8"),  # the iovec
        ("bytes", "<i8"),
        ("header_bytes", "<i8"),  # the control buffer: cmsghdr, then a timespec
        ("header_level", "<i4"),
        ("header_type", "<i4"),
        ("seconds", "<i8"),
        ("nanoseconds", "<i8"),
        ("rest", "<i8", 4),
        ("one", "<i4"),
    ],
    192,
)

UNSYNCED, SYNCED = 0, 1
NOT_ASKED, WANTED, ASKED = 0, 1, 2
# What became of a snapshot (`snapshot_code`), besides the parser's error codes.
TAKEN = 1
TOO_OLD = -100
"""It ends before the first diff that is held begins."""
OVERTAKEN = -101
"""Sync was lost again before the kernel came to it."""

SYNC = record_dtype(
    [
        ("status", "<i8"),  # UNSYNCED or SYNCED
        ("last_id", "<i8"),  # u of the last diff passed on, or the snapshot's id
        ("was_synced", "<i8"),  # 1: the next sync is a resync
        ("hold", "<i8"),  # address of the memory for records held back
        ("hold_records", "<i8"),  # its room
        ("hold_begin", "<i8"),  # what is held: from here (not 0 while it is published or after a gap in it) to the end
        ("hold_end", "<i8"),
        ("held_messages", "<i8"),
        ("first_held_id", "<i8"),  # U of the first diff held, 0 when none is
        ("snapshot_state", "<i8"),  # NOT_ASKED, WANTED (by the kernel), ASKED (by the cold side)
        ("generation", "<i8"),  # counts losses of sync: a snapshot asked for before the last is of no use
    ],
    128,
)


class Context(NamedTuple):
    """What the feed's kernel works on; everything else is behind the addresses in `state`.

    Bytes come as a stream or as datagrams; a stream is of documents or of blocks, datagrams are packets of blocks, or
    raw. Which of them is a matter of type: what belongs to the others is None. Whatever only one kind needs begins with
    a look at its own, handed in as an argument of its own: then Numba leaves out all that follows before it looks at
    it, and the other kind's code is never compiled.
    """

    state: NDArray[np.void]
    clock: NDArray[np.int64]
    counters: NDArray[np.void]
    sync: NDArray[np.void]
    message: NDArray[np.void] | None
    samples: NDArray[np.int64]
    names: int | None = None
    """Of documents: address of the symbols' names, two words each."""
    directory: int | None = None
    """Of blocks of ITCH messages: address of what says which symbol a message is about (codecs.itch_market)."""
    lines: NDArray[np.void] | None = None
    """Of datagrams; then there is no `message`."""
    packets: NDArray[np.void] | None = None
    """Of datagrams that are packets of blocks."""
    raw: NDArray[np.void] | None = None
    """Of raw messages, in datagrams or in blocks."""
