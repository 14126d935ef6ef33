"""The seqlock: no torn reads between processes, no hang when the writer is killed, versions that only grow."""

import os
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import seqlock
from shm.atomics import JIT, peek, poke
from shm.kernel import kernel
from shm.segment import Segment, seqlock_layout, unlink

PAYLOAD = np.dtype([("word", "<i8", (13,))])


@kernel
def _write(row: int, source: int, payload_bytes: int) -> int:
    return seqlock.write(row, source, payload_bytes)


@kernel
def _read(row: int, target: int, payload_bytes: int) -> int:
    return seqlock.read(row, target, payload_bytes)


@kernel
def _write_many(row: int, words: np.ndarray, count: int) -> None:
    """`count` values; all words of a value are its version."""
    for _ in range(count):
        next_version = peek_version(row) + 1
        for index in range(words.size):
            words[index] = next_version
        seqlock.write(row, words.ctypes.data, 8 * words.size)


@kernel
def peek_version(row: int) -> int:
    return seqlock.load_word(row + seqlock.VERSION)


@kernel
def _check_many(row: int, words: np.ndarray, count: int) -> int:
    """Read `count` times; the newest version seen, or -1 on a torn or backward read.

    A read may also find nothing (0) or give up (-1: the writer overtook every try); that promises nothing.
    """
    newest = 0
    for _ in range(count):
        version = seqlock.read(row, words.ctypes.data, 8 * words.size)
        if version <= 0:
            continue
        if version < newest:
            return -1
        for index in range(words.size):
            if words[index] != version:
                return -1
        newest = version
    return newest


def _row(payload_bytes: int) -> tuple[np.ndarray, int]:
    memory = np.zeros(seqlock.row_bytes(payload_bytes) // 8 + 16, np.int64)
    return memory, -(-memory.ctypes.data // 128) * 128


@given(values=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3), max_size=20))
def test_a_reader_sees_the_last_value_written(values: list[list[int]]) -> None:
    memory, row = _row(24)
    target = np.zeros(3, np.int64)
    assert _read(row, target.ctypes.data, 24) == 0
    for version, value in enumerate(values, 1):
        source = np.array(value, np.int64)
        assert _write(row, source.ctypes.data, 24) == version
        assert _read(row, target.ctypes.data, 24) == version
        assert target.tolist() == value
    assert memory is not None


@pytest.mark.parametrize("words_written", range(4))
def test_a_writer_killed_at_any_word_leaves_the_previous_value_readable(words_written: int) -> None:
    memory, row = _row(24)
    source = np.array([1, 2, 3], np.int64)
    target = np.zeros(3, np.int64)
    _write(row, source.ctypes.data, 24)
    cell = row + seqlock.CELLS  # version 2 goes to cell 0
    poke(cell, 2 * 2 + 1)
    for word in range(words_written):
        poke(cell + 8 + 8 * word, 99)
    assert _read(row, target.ctypes.data, 24) == 1
    assert target.tolist() == [1, 2, 3]
    assert _write(row, source.ctypes.data, 24) == 2, "a restarted writer continues from the version"
    assert _read(row, target.ctypes.data, 24) == 2
    assert peek(row) == 2
    assert memory is not None


@pytest.mark.skipif(not JIT, reason="two processes at speed need compiled code")
def test_readers_see_no_torn_value_while_a_writer_is_killed_and_replaced() -> None:
    name = f"tickpipe.test-{os.getpid()}.seqlock"
    layout = seqlock_layout(PAYLOAD, 1)
    words = np.zeros(13, np.int64)
    memory, row = _row(PAYLOAD.itemsize)
    _write_many(row, words, 1)
    _check_many(row, words, 1)
    with Segment.create(name, layout) as segment:
        newest = 0
        try:
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    address = Segment.attach(name, layout, writable=True).address
                    while True:
                        _write_many(address, words, 100_000)
                try:
                    target = newest + 1000
                    while newest < target:
                        newest = _check_many(segment.address, words, 20_000)
                        assert newest >= 0, "torn or backward read"
                finally:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                assert _check_many(segment.address, words, 10) >= newest
        finally:
            unlink(name)
    assert memory is not None


@pytest.mark.parametrize("size", [0, 4, 12])
def test_a_payload_that_is_not_made_of_words_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"payload_bytes={size}"):
        seqlock.row_bytes(size)
