"""Market data out of captured datagrams: ITCH in MoldUDP64 packets or alone, and raw 29-byte messages.

What a flow (a destination address and port) carries is told from its content. Flows of one MoldUDP64 session are
redundant lines: their messages come out once, in order of their sequence numbers, by the arbiter that a live feed uses.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm.kernel import kernel, routine
from shm.libc import memmove
from stages.domain.captures.datagrams import CUT_SHORT, FRAGMENT, Datagram, Endpoint, datagrams
from stages.domain.captures.pieces import DamagedFileError
from stages.domain.codecs import arbitration, raw
from stages.domain.codecs.arbitration import LINES, Arbiter
from stages.domain.codecs.big_endian import load_big_u16
from stages.domain.codecs.itch import lengths_by_type
from stages.domain.codecs.moldudp64 import BLOCK_HEADER_BYTES, END_OF_SESSION, HEADER_BYTES, SESSION_BYTES

WINDOW = 1 << 16
"""Messages that one line may be ahead of the other, or late, or answers to requests: as in a feed by default."""
LOOK_PACKETS = 1 << 12
"""So many at a file's beginning are looked at for what a feed that came late has asked for."""
RECENT_PACKETS = 1 << 14
PACKET_MESSAGES_MAX = 1 << 12
SESSIONS_MAX = 64
_OUTPUT_BYTES = WINDOW * arbitration.SLOT_BYTES + (1 << 16)
_LENGTHS = lengths_by_type().tolist()
_SESSION = re.compile(rb"[ -~]*\0*")
"""What names are made of, padded with blanks; some senders pad with zeros."""
_ANY_SESSION = b"0123456789"
assert len(_ANY_SESSION) == SESSION_BYTES
MOLD, FRAMES, MESSAGE, RAW = "mold", "frames", "message", "raw"


class Content(NamedTuple):
    """What a datagram brought: frames (2-byte length and message) of ITCH, or whole raw messages."""

    offset: int
    time_ns: int
    is_raw: bool
    content: bytes


class Oddity(NamedTuple):
    """Something that is wrong with a datagram."""

    name: str
    what: str
    offset: int
    times: int = 1


@dataclass
class _Session:
    arbiter: Arbiter
    lines: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """Of each flow: the sequence number that is next."""
    jumps: dict[int, int] = field(default_factory=dict)
    """Sequence number that a line, or all of them, lack first: offset of the packet that showed it."""
    recent: OrderedDict[int, bytes] = field(default_factory=OrderedDict)
    """Sequence number: the longest packet that began with it, of the last RECENT_PACKETS."""
    messages_max: int = 0
    """Of a packet, of those that were kept."""
    lost: int = 0

    def knows(self, sequence: int, packet: bytes) -> bool:
        """Whether messages of `packet`, which begins with `sequence`, came before, as they are now.

        They may have come in other packets: answers to requests are cut otherwise than what a line brought.
        """
        if self.recent.get(sequence) == packet:
            return True
        now = _messages(sequence, packet)
        known: dict[int, bytes] = {}
        for first in range(sequence - self.messages_max + 1, sequence + len(now)):
            if first in self.recent and first + _message_count(self.recent[first]) > sequence:
                known |= _messages(first, self.recent[first])
        common = now.keys() & known.keys()
        return bool(common) and all(now[number] == known[number] for number in common)

    def note_jump(self, sequence: int, offset: int) -> None:
        """What begins with `sequence` is lacking, as the packet at `offset` shows."""
        self.jumps.setdefault(sequence, offset)
        if len(self.jumps) > WINDOW:
            expected = int(self.arbiter.words["expected"][0])
            self.jumps = {number: where for number, where in self.jumps.items() if number >= expected}

    def keep(self, sequence: int, packet: bytes) -> None:
        """Remember a packet."""
        if len(packet) > len(self.recent.get(sequence, b"")):
            self.recent[sequence] = packet
            self.messages_max = max(self.messages_max, min(_message_count(packet), PACKET_MESSAGES_MAX))
        if len(self.recent) > RECENT_PACKETS:
            self.recent.popitem(last=False)


@dataclass
class UdpFeeds:
    """The feeds in one capture file, and what was found while they were read."""

    file: str | Path
    packets: Counter[str] = field(default_factory=Counter)
    """Datagrams used, others, and packets that are none, by what they are."""
    oddities: list[Oddity] = field(default_factory=list)
    _unread: dict[str, int] = field(default_factory=dict)
    """Of packets that are no whole datagram: where their oddity stands."""
    _formats: dict[tuple[bytes, int], str] = field(default_factory=dict)
    _sessions: dict[bytes, _Session] = field(default_factory=dict)
    _starts: dict[bytes, int] = field(default_factory=dict)
    """Sequence number with which a session begins here."""
    _words: list[NDArray[Any]] = field(default_factory=list)
    """Of all arbiters that there were."""

    def __post_init__(self) -> None:
        self._output = np.zeros(_OUTPUT_BYTES, np.uint8)

    def count(self, name: str) -> int:
        """A counter of the arbiters: gaps that no line has filled, duplicates (which came by another line before)."""
        return sum(int(words[name][0]) for words in self._words)

    def read(self) -> Iterator[Content]:
        """What the datagrams bring, in order. Raises OSError, DamagedFileError after the good part."""
        last = 0
        damage = None
        try:
            for datagram in self._looked_ahead(datagrams(self.file, self._pass_over)):
                last = datagram.offset
                content = self._take(datagram)
                if content:
                    yield Content(last, datagram.time_ns, self._formats[datagram.flow] == RAW, content)
        except DamagedFileError as error:
            damage = error
        kept = b"".join(self._rest(session, last) for session in self._sessions.values())
        if kept:
            yield Content(last, 0, False, kept)
        if damage is not None:
            raise damage

    def words(self) -> list[str]:
        """What of the feeds has not come out, in words: of each kind of oddity the first."""
        found: dict[str, list[Oddity]] = {}
        for oddity in self.oddities:
            if oddity.name != OUT_OF_ORDER:
                found.setdefault(oddity.name, []).append(oddity)
        return [
            f"{self.file}: {same[0].what} (offset {same[0].offset:,})"
            + (f"; {sum(each.times for each in same):,} times in all" if sum(each.times for each in same) > 1 else "")
            for same in found.values()
        ]

    def _pass_over(self, name: str, offset: int) -> None:
        """A packet that is no whole datagram; nobody knows whether it was one of a feed."""
        self.packets[name] += 1
        if name not in _UNREAD:
            return
        if self.packets[name] == 1:
            self._unread[name] = len(self.oddities)
            self.oddities.append(Oddity(name, _UNREAD[name], offset))
        else:
            first = self.oddities[self._unread[name]]
            self.oddities[self._unread[name]] = first._replace(times=first.times + 1)

    def _looked_ahead(self, source: Iterator[Datagram]) -> Iterator[Datagram]:
        """The same, once `_starts` is known."""
        head: list[Datagram] = []
        damage = None
        try:
            for datagram in islice(source, LOOK_PACKETS):
                head.append(datagram)
        except DamagedFileError as error:
            damage = error
        self._starts = _starts(head)
        yield from head
        if damage is not None:
            raise damage
        yield from source

    def _take(self, datagram: Datagram) -> bytes:
        payload = datagram.payload
        known = self._formats.get(datagram.flow)
        if known is None:
            known = _format_of(payload)
            if known is None:
                self.packets["other_datagrams"] += 1
                return b""
            self._formats[datagram.flow] = known
        self.packets["datagrams"] += 1
        if known == MOLD:
            return self._take_mold(datagram)
        if known == RAW:
            return self._take_raw(datagram)
        return payload if known == FRAMES else len(payload).to_bytes(BLOCK_HEADER_BYTES, "big") + payload

    def _take_raw(self, datagram: Datagram) -> bytes:
        whole = len(datagram.payload) // raw.MESSAGE_BYTES * raw.MESSAGE_BYTES
        if left := len(datagram.payload) - whole:
            what = f"a datagram of {len(datagram.payload)} bytes: {left} behind its messages of {raw.MESSAGE_BYTES}"
            self.oddities.append(Oddity("short_datagram" if not whole else "bytes_behind", what, datagram.offset))
        return datagram.payload[:whole]

    def _take_mold(self, datagram: Datagram) -> bytes:
        # Each session has an arbiter of its own, which is shown one name that it likes.
        packet = np.frombuffer(_ANY_SESSION + datagram.payload[SESSION_BYTES:], np.uint8)
        if len(datagram.payload) < HEADER_BYTES:
            what = f"a MoldUDP64 packet of {len(datagram.payload)} bytes, less than its header"
            self.oddities.append(Oddity("malformed_packet", what, datagram.offset))
            return b""
        session = self._session_of(datagram)
        if session is None:
            return b""
        kept = self._watch_order(session, datagram)
        words, address = session.arbiter.words, session.arbiter.address
        line = min(list(session.lines).index(datagram.flow), LINES - 1)
        before = {name: int(words[name][0]) for name in _ODD}
        expected = int(words["expected"][0])
        begin, output = packet.ctypes.data, self._output.ctypes.data
        size = int(_take_packet(address, line, begin, begin + len(packet), output))
        for name, (problem, what) in _ODD.items():
            if count := int(words[name][0]) - before[name]:
                self.oddities.append(Oddity(problem, what, datagram.offset, count))
        self._note_lost(session, expected, datagram.offset)
        if int(words["known_end"][0]) > int(words["expected"][0]):
            session.note_jump(int(words["expected"][0]), datagram.offset)
        return kept + self._output[:size].tobytes()

    def _session_of(self, datagram: Datagram) -> _Session | None:
        name = datagram.payload[:SESSION_BYTES]
        session = self._sessions.get(name)
        if session is None and _is_mold(datagram.payload) and len(self._sessions) < SESSIONS_MAX:
            session = self._sessions[name] = _Session(Arbiter(WINDOW, self._starts.get(name, 0)))
            self._words.append(session.arbiter.words)
        elif session is None:
            what = f"no MoldUDP64 packet, or of one session more than {SESSIONS_MAX}: {name!r}"
            self.oddities.append(Oddity("malformed_packet", what, datagram.offset))
        return session

    def _watch_order(self, session: _Session, datagram: Datagram) -> bytes:
        """See whether a line goes back. Where it begins anew, with other messages than before, so does the session.

        Returns what was kept until then.
        """
        payload, kept = datagram.payload, b""
        sequence = int.from_bytes(payload[SESSION_BYTES : SESSION_BYTES + 8], "big")
        count = _message_count(payload)
        following = session.lines.setdefault(datagram.flow, 0)
        if sequence > arbitration.SEQUENCE_MAX:
            return b""
        if count and sequence < following and not session.knows(sequence, payload):
            if sequence < int(session.arbiter.words["expected"][0]):
                what = f"sequence number {sequence} after {following - 1} on one line, with other messages than before"
                self.oddities.append(Oddity("sequence_reset", what, datagram.offset))
                kept = self._rest(session, datagram.offset)
                session.arbiter, session.lost = Arbiter(WINDOW), 0
                session.lines.clear()
                session.jumps.clear()
                session.recent.clear()
                self._words.append(session.arbiter.words)
            else:
                what = f"sequence number {sequence} after {following - 1} on one line"
                self.oddities.append(Oddity(OUT_OF_ORDER, what, datagram.offset))
        if following and sequence > following:
            session.note_jump(following, datagram.offset)
        if count:
            session.keep(sequence, payload)
        session.lines[datagram.flow] = max(sequence + count, session.lines.get(datagram.flow, 0))
        return kept

    def _note_lost(self, session: _Session, first: int, offset: int) -> None:
        """Messages from number `first` on may have been given up; the last packet is the one at `offset`."""
        lost = int(session.arbiter.words["lost"][0])
        if lost > session.lost:
            last = first + lost - session.lost - 1
            what = f"messages {first} to {last} of their session, which no line has brought"
            self.oddities.append(Oddity("gap", what, session.jumps.get(first, offset)))
            session.lost = lost

    def _rest(self, session: _Session, offset: int) -> bytes:
        """What is kept behind gaps that nothing fills any more."""
        found = []
        while True:
            expected = int(session.arbiter.words["expected"][0])
            size = int(_take_behind_gap(session.arbiter.address, self._output.ctypes.data))
            if size < 0:
                break
            self._note_lost(session, expected, offset)
            found.append(self._output[:size].tobytes())
        return b"".join(found)


_ODD = {
    "truncated": ("truncated_packet", "a MoldUDP64 packet with fewer messages than it says"),
    "malformed": ("malformed_packet", "a MoldUDP64 packet whose sequence number is out of range"),
    "oversized": ("oversized_message", "a message too long to be kept while one before it is missing"),
}
"""Counters of the arbiter."""
OUT_OF_ORDER = "out_of_order"
_UNREAD = {
    CUT_SHORT: "a packet that was captured in part, as by a snap length; it is not read",
    FRAGMENT: "a fragment of an IP packet; fragments are not put together",
}


def _starts(head: Sequence[Datagram]) -> dict[bytes, int]:
    """Session: the first of the messages that `head` has without a gap up to those of its first packet.

    A feed that comes late asks for what was before; the answers follow. What goes back on its line is not looked at:
    the session begins anew there.
    """
    firsts: dict[bytes, int] = {}
    following: dict[tuple[bytes, Endpoint], int] = {}
    spans: dict[bytes, list[tuple[int, int]]] = {}
    for datagram in head:
        payload, name = datagram.payload, datagram.payload[:SESSION_BYTES]
        if not _is_mold(payload):
            continue
        sequence = int.from_bytes(payload[SESSION_BYTES : SESSION_BYTES + 8], "big")
        end = sequence + _message_count(payload)
        firsts.setdefault(name, sequence)
        if sequence >= following.get((name, datagram.flow), 0):
            following[name, datagram.flow] = end
            spans.setdefault(name, []).append((sequence, end))
    for name, first in firsts.items():
        for begin, end in sorted(spans[name], key=lambda span: span[1], reverse=True):
            if begin < firsts[name] <= end and begin < first:
                firsts[name] = begin
    return {name: first for name, first in firsts.items() if first <= arbitration.SEQUENCE_MAX}


def _message_count(packet: bytes) -> int:
    """How many messages a MoldUDP64 packet says that it has."""
    return int.from_bytes(packet[HEADER_BYTES - 2 : HEADER_BYTES], "big") % END_OF_SESSION


def _messages(sequence: int, packet: bytes) -> dict[int, bytes]:
    """The messages of a MoldUDP64 packet by their sequence numbers, as far as they are whole."""
    found, at = {}, HEADER_BYTES
    for number in range(sequence, sequence + _message_count(packet)):
        begin = at + BLOCK_HEADER_BYTES
        at = begin + int.from_bytes(packet[at:begin], "big")
        if begin > len(packet) or at > len(packet):
            break
        found[number] = packet[begin:at]
    return found


def _format_of(payload: bytes) -> str | None:
    if _is_mold(payload):
        return MOLD
    if payload and len(payload) % raw.MESSAGE_BYTES == 0 and payload[0] in (raw.TRADE, raw.QUOTE):
        return RAW
    if payload and _LENGTHS[payload[0]] == len(payload):
        return MESSAGE
    return FRAMES if _is_frames(payload) else None


def _is_mold(payload: bytes) -> bool:
    """Whether the blocks of a packet end where it ends; a packet without messages is its header alone."""
    if len(payload) < HEADER_BYTES or not _SESSION.fullmatch(payload[:SESSION_BYTES]):
        return False
    at = HEADER_BYTES
    for _ in range(_message_count(payload)):
        if at + BLOCK_HEADER_BYTES > len(payload):
            return False
        at += BLOCK_HEADER_BYTES + int.from_bytes(payload[at : at + BLOCK_HEADER_BYTES], "big")
    return at == len(payload)


def _is_frames(payload: bytes) -> bool:
    at = 0
    while at + BLOCK_HEADER_BYTES < len(payload):
        size = int.from_bytes(payload[at : at + BLOCK_HEADER_BYTES], "big")
        if _LENGTHS[payload[at + BLOCK_HEADER_BYTES]] != size:
            return False
        at += BLOCK_HEADER_BYTES + size
    return 0 < at == len(payload)


@kernel
def _take_packet(arbiter: int, line: int, packet: int, end: int, output: int) -> int:
    """Offer a packet; copy what can be taken then, in order, to address `output`. Returns its bytes."""
    if arbitration.offer(arbiter, line, packet, end, 0) < 0:
        return 0
    return _take_all(arbiter, output)


@kernel
def _take_behind_gap(arbiter: int, output: int) -> int:
    """Give up the open gap; the same of what can be taken then. -1: there is no gap."""
    return _take_all(arbiter, output) if arbitration.abandon(arbiter, 0, 0) else -1


@routine
def _take_all(arbiter: int, output: int) -> int:
    at = output
    block = arbitration.take(arbiter)
    while block != 0:
        size = BLOCK_HEADER_BYTES + load_big_u16(block)
        memmove(at, block, size)
        at += size
        block = arbitration.take(arbiter)
    return at - output
