"""ITCH 5.0 the obvious way: struct formats typed from the specification's tables, one message at a time."""

import struct
from collections import Counter
from dataclasses import dataclass, field

FORMATS = {
    "S": "c", "R": "8sccIcc2scccccIc", "H": "8scc4s", "Y": "8sc", "L": "4s8sccc", "V": "QQQ", "W": "c", "K": "8sIcI",
    "J": "8sIIII", "h": "8scc", "A": "QcI8sI", "F": "QcI8sI4s", "E": "QIQ", "C": "QIQcI", "X": "QI", "D": "Q",
    "U": "QQII", "P": "QcI8sIQ", "Q": "Q8sIQc", "B": "Q", "I": "QQc8sIIIcc", "N": "8sc", "O": "8scIIIQII",
}  # fmt: skip
"""What follows type, stock locate, tracking number and the time of 6 bytes."""


def pack(letter: str, locate: int, tracking: int, time_ns: int, *fields: object) -> bytes:
    """A message."""
    head = letter.encode() + struct.pack(">HH", locate, tracking) + time_ns.to_bytes(6, "big")
    return head + struct.pack(">" + FORMATS[letter], *fields)


def unpack(message: bytes) -> tuple[object, ...]:
    """(letter, locate, tracking number, time in ns, the other fields)."""
    letter = message[:1].decode()
    locate, tracking = struct.unpack(">HH", message[1:5])
    time_ns = int.from_bytes(message[5:11], "big")
    return letter, locate, tracking, time_ns, *struct.unpack(">" + FORMATS[letter], message[11:])


def length_of(letter: str) -> int:
    """Of a message, in bytes."""
    return 11 + struct.calcsize(">" + FORMATS[letter])


def framed(*messages: bytes) -> bytes:
    """Each behind its length."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


@dataclass
class Books:
    """Orders as a dict in order of arrival; what verification should find in a stream of good messages."""

    orders: dict[int, list[int]] = field(default_factory=dict)  # reference: [locate, side or -1, price, shares]
    compared: int = 0
    matched: int = 0
    unknown: int = 0
    sideless: int = 0
    refused: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def apply(self, message: bytes) -> None:
        """Take one message."""
        letter, locate, _, _, *rest = unpack(message)
        self.counts[str(letter)] += 1
        if letter in ("A", "F"):
            reference, side, shares, _, price, *_ = rest
            self._add(reference, [locate, 0 if side == b"B" else 1, price, shares])
        elif letter in ("E", "C", "X"):
            self._take(rest[0], rest[1])
        elif letter in ("D", "U"):
            old = self.orders.get(rest[0])
            if old is None:
                self.unknown += 1
                old = [-1, -1, 0, 0]
            if letter == "D":
                self.orders.pop(rest[0], None)
                return
            _, new, shares, price = rest
            if shares == 0 or (new in self.orders and new != rest[0]):
                self.refused += 1
                return
            self.orders.pop(rest[0], None)
            self._add(new, [old[0], old[1], price, shares])

    def _add(self, reference: int, order: list[int]) -> None:
        if reference in self.orders or order[3] == 0:
            self.refused += 1
        else:
            self.orders[reference] = order

    def _take(self, reference: int, shares: int) -> None:
        order = self.orders.get(reference)
        if order is None:
            self.unknown += 1
            return
        self.compared += 1
        self.sideless += order[1] == -1
        if shares == 0:
            self.refused += 1
            return
        self.matched += shares <= order[3]
        order[3] -= shares
        if order[3] <= 0:
            del self.orders[reference]

    def levels(self, locate: int, side: int) -> dict[int, int]:
        """Price: shares, best first."""
        found: Counter[int] = Counter()
        for owner, this_side, price, shares in self.orders.values():
            if (owner, this_side) == (locate, side):
                found[price] += shares
        return dict(sorted(found.items(), reverse=side == 0))
