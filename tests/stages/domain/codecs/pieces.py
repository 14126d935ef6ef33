"""Readers of a stream that comes in pieces, as a file is read."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np


class PieceReader:
    """Gives a reader's words (`position`, `origin`, `problem_count`, `problem_offset`) and pieces to `next_message`.

    next_message   (address of the words, end of the piece, is it the last one) -> address of a message, or 0
    """

    def __init__(self, words: Any, next_message: Callable[[int, int, bool], int], problems: Sequence[str]) -> None:
        self.words, self._next, self._problems = words, next_message, problems
        self.messages: list[bytes] = []
        self.rest = b""
        self._offset = 0

    def take(self, piece: bytes, *, is_last: bool = False) -> None:
        content = self.rest + piece
        memory = np.frombuffer(content or b"\0", np.uint8)
        begin, end = memory.ctypes.data, memory.ctypes.data + len(content)
        self.words["position"], self.words["origin"] = begin, begin - self._offset
        while at := int(self._next(self.words.ctypes.data, end, is_last)):
            self.messages.append(content[at - begin : int(self.words["position"][0]) - begin])
        used = int(self.words["position"][0]) - begin
        self.rest, self._offset = content[used:], self._offset + used

    def read(self, stream: bytes, *cuts: int) -> "PieceReader":
        """All of a stream, cut at these offsets."""
        edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
        for begin, end in pairwise(edges):
            self.take(stream[begin:end])
        self.take(b"", is_last=True)
        return self

    def problems(self) -> dict[str, tuple[int, int]]:
        """{name: (how many, offset of the first)}."""
        words = self.words[0]
        return {
            name: (int(words["problem_count"][index]), int(words["problem_offset"][index]))
            for index, name in enumerate(self._problems)
            if words["problem_count"][index]
        }
