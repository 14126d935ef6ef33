"""Messages whose every word says whose it is: a stale word, a torn record or another life's record cannot pass.

A message is a seq, the seq it answers, the life of its writer (a restarted writer has the next one), and words that are
mixed from (seq, life, word). The mixing is a bijection of 64-bit words and no two of these triples give the same input
(seq < 2**39, life < 2**19, word < 32), so no two words of any two messages are equal but by being the same.

A record is 11 words long: the ring copies eight at once and three one by one.
"""

import numpy as np

from shm.atomics import load_word, store_word
from shm.kernel import kernel, primitive

MIXED = 8
MESSAGE = np.dtype([("seq", "<i8"), ("cause_seq", "<i8"), ("life", "<i8"), ("word", "<i8", (MIXED,))])
MESSAGE_BYTES = MESSAGE.itemsize
SEQ, CAUSE_SEQ, LIFE, WORD = 0, 8, 16, 24

_ODD = np.int64(-0x61C8864680B583EB)  # any odd factor keeps it a bijection
_LOW_34 = np.int64((1 << 34) - 1)


@primitive
def mixed(seq: int, life: int, word: int) -> int:
    """Word `word` of the message."""
    value = (seq << 5 | word) ^ life << 44
    value = (value ^ value >> 30 & _LOW_34) * _ODD
    return value ^ value >> 30 & _LOW_34


@primitive
def fill_head(record: int, seq: int, cause_seq: int, life: int) -> None:
    """Build the words of a message at address `record` that are not mixed."""
    store_word(record + SEQ, seq)
    store_word(record + CAUSE_SEQ, cause_seq)
    store_word(record + LIFE, life)


@primitive
def fill_mixed(record: int, seq: int, life: int) -> None:
    """Build the others."""
    for word in range(MIXED):
        store_word(record + WORD + 8 * word, mixed(seq, life, word))


@primitive
def fill(record: int, seq: int, cause_seq: int, life: int) -> None:
    """Build a message at address `record`."""
    fill_head(record, seq, cause_seq, life)
    fill_mixed(record, seq, life)


@primitive
def is_whole(record: int, seq: int) -> bool:
    """Whether the message at address `record` has that seq, and all its words are its own."""
    life = load_word(record + LIFE)
    differs = load_word(record + SEQ) ^ seq
    for word in range(MIXED):
        differs |= load_word(record + WORD + 8 * word) ^ mixed(seq, life, word)
    return differs == 0


@primitive
def mixed_digest(seq: int, cause_seq: int, life: int) -> int:
    """What `digest` returns for the message."""
    total = cause_seq
    for word in range(MIXED):
        total = total * 31 + mixed(seq, life, word)
    return total


@primitive
def digest(record: int) -> int:
    """One word made of the words at address `record`."""
    total = load_word(record + CAUSE_SEQ)
    for word in range(MIXED):
        total = total * 31 + load_word(record + WORD + 8 * word)
    return total


@kernel
def fill_one(record: int, seq: int, cause_seq: int, life: int) -> None:
    """`fill` for callers in ordinary Python."""
    fill(record, seq, cause_seq, life)


def difference(found: np.ndarray, seq: int) -> str:
    """What is wrong with a message (a 1-element array), word by word, for a failed test to say."""
    expected = np.zeros(1, MESSAGE)
    fill_one(expected.ctypes.data, seq, int(found["cause_seq"][0]), int(found["life"][0]))
    return f"wrong message at seq={seq}:\n  found    {found[0]}\n  expected {expected[0]}"
