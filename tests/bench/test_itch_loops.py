"""ITCH streams to books, looked ahead and in pieces, against the obvious books."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.itch_loops import apply_frames, new_window
from stages.domain.codecs.itch_frames import new_framer
from stages.domain.orderbook.engine import Capacity
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import order_stream
from tests.stages.domain.orderbook.engines import Engine

SYMBOLS = 5


def play(engine: Engine, stream: bytes, cuts: list[int]) -> np.ndarray[Any, Any]:
    """The stream to the engine in pieces that end at `cuts`; returns the framer."""
    framer, window = new_framer(), new_window()
    unread = 0
    for end in [*sorted(cuts), len(stream)]:
        piece = np.frombuffer(stream[unread:end], np.uint8)
        begin = piece.ctypes.data
        framer["position"] = begin
        apply_frames(engine.address, framer.ctypes.data, window.ctypes.data, begin + len(piece), end == len(stream))
        unread += int(framer["position"][0]) - begin
    assert unread == len(stream)
    return framer


@given(st.integers(0, 2**31), st.integers(0, 300), st.lists(st.integers(0, 6_000), max_size=4))
def test_a_stream_in_pieces_gives_the_books_of_its_messages(seed: int, count: int, cuts: list[int]) -> None:
    messages = order_stream(seed, count)
    stream = oracle.framed(*messages)
    engine = Engine(Capacity.of(SYMBOLS, 1_024))
    framer = play(engine, stream, [min(cut, len(stream)) for cut in cuts])
    books = oracle.Books()
    for message in messages:
        books.apply(message)
    engine.assert_sound()
    for symbol in range(SYMBOLS):
        for side in (0, 1):
            assert dict(engine.books[symbol].levels(side)) == books.levels(symbol, side)
    assert {chr(kind): int(framer["count"][0][kind]) for kind in np.flatnonzero(framer["count"][0])} == books.counts
