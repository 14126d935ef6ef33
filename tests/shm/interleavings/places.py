"""Which words there are, and who touches them: learnt by the search as it goes.

A word that only one side ever touches (a cached cursor, say) needs no memory model: it is that side's own, though it
outlives its process. A word that one side alone writes holds no surprise for that side. Both facts let the search take
such steps without trying them in every order with the other side's. When a later step shows that a fact was wrong, the
search starts again, knowing better.
"""

from collections.abc import Callable


class LearntError(Exception):
    """The search must start again: a word was found, or found to be shared."""


class Places:
    """The words of one search, numbered."""

    def __init__(self, initial: dict[int, int], name: Callable[[int], str]) -> None:
        self._initial = initial
        self.name = name
        self.index: dict[int, int] = {}
        self.values: list[int] = []
        self.readers: list[set[int]] = []
        self.writers: list[set[int]] = []

    def find(self, address: int, side: int, *, writes: bool) -> int:
        """Number of the word at `address`, which `side` now reads or writes."""
        place = self.index.get(address)
        if place is None:
            assert address % 8 == 0, f"{address:#x} is not a word's address"
            self.index[address] = len(self.values)
            self.values.append(self._initial.get(address, 0))
            self.readers.append(set())
            self.writers.append(set())
            place = self.index[address]
            (self.writers if writes else self.readers)[place].add(side)
            raise LearntError
        known = (self.writers if writes else self.readers)[place]
        if side not in known:
            known.add(side)
            raise LearntError
        return place

    def is_exclusive(self, place: int) -> bool:
        """Whether one side alone touches the word."""
        return len(self.readers[place] | self.writers[place]) == 1

    def is_own(self, place: int, side: int) -> bool:
        """Whether no other side writes the word."""
        return not self.writers[place] - {side}

    def is_foreign(self, place: int, side: int) -> bool:
        """Whether another side writes the word."""
        return bool(self.writers[place] - {side})
