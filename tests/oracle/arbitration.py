"""Arbitration of redundant lines the obvious way: a dict of what is kept, a list of what was handed out."""

from dataclasses import dataclass, field


@dataclass
class Arbitration:
    """One session; `slots` sequence numbers from what is expected on can be kept."""

    slots: int
    expected: int
    kept: dict[int, bytes] = field(default_factory=dict)
    handed_out: list[tuple[int, bytes]] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    gaps: int = 0
    duplicates: int = 0
    known_end: int = 0

    def packet(self, sequence: int, messages: list[bytes]) -> None:
        """A packet of any line; without messages a heartbeat."""
        self.known_end = max(self.known_end, sequence + len(messages))
        for number, message in enumerate(messages, sequence):
            self._message(number, message)

    def _message(self, number: int, message: bytes) -> None:
        self._hand_out()
        while number >= self.expected + self.slots:
            self._give_up(number)
        if number < self.expected or number in self.kept:
            self.duplicates += 1
        else:
            self.kept[number] = message
        self._hand_out()

    def _hand_out(self) -> None:
        while self.expected in self.kept:
            self.handed_out.append((self.expected, self.kept.pop(self.expected)))
            self.expected += 1

    def _give_up(self, limit: int) -> None:
        found = min(self.kept, default=limit)
        self.gaps += 1
        self.lost.extend(range(self.expected, found))
        self.expected = found
        self._hand_out()

    def abandon(self) -> None:
        """The open gap, if there is one."""
        if self.known_end > self.expected:
            self._give_up(self.known_end)
