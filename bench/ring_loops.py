"""The loops of the ring benchmark around this package's ring: round trips, and one way single, in place and batched.

Record `number` holds number * 8 + w in word w. Every record is built and checked word by word, on both sides, exactly
as in ring.cpp. Spins are bounded by nothing but the other side: the duel kills a worker whose driver died.
"""

import numpy as np

from shm import ring
from shm.atomics import cycles, load_word, store_word
from shm.kernel import kernel, primitive

RECORD_BYTES = 64
BATCH = 64


@primitive
def fill(record: int, number: int) -> None:
    """Build record `number` at address `record`."""
    for word in range(8):
        store_word(record + 8 * word, number * 8 + word)


@primitive
def holds(record: int, number: int) -> bool:
    """Whether all words at address `record` are those of record `number`."""
    differs = 0
    for word in range(8):
        differs |= load_word(record + 8 * word) ^ (number * 8 + word)
    return differs == 0


@kernel
def ping(there: int, back: int, count: int, samples: np.ndarray, scratch: np.ndarray) -> int:
    """`count` round trips, samples[i] the cycles of round i. Returns how many answers were wrong."""
    record = scratch.ctypes.data
    wrong = 0
    for number in range(count):
        fill(record, number)
        start = cycles()
        while not ring.try_push(there, record):
            pass
        while not ring.try_pop(back, record):
            pass
        samples[number] = cycles() - start
        if not holds(record, number + 1):
            wrong += 1
    return wrong


@kernel
def pong(there: int, back: int, count: int, scratch: np.ndarray) -> int:
    """Answer `count` records, each by the next one. Returns how many were wrong."""
    record = scratch.ctypes.data
    wrong = 0
    for number in range(count):
        while not ring.try_pop(there, record):
            pass
        if not holds(record, number):
            wrong += 1
        fill(record, number + 1)
        while not ring.try_push(back, record):
            pass
    return wrong


@kernel
def produce(there: int, back: int, count: int, scratch: np.ndarray) -> int:
    """Push `count` records. Returns the cycles from the reader's word that it is there to that it has all."""
    record = scratch.ctypes.data
    while not ring.try_pop(back, record):
        pass
    start = cycles()
    for number in range(count):
        fill(record, number)
        while not ring.try_push(there, record):
            pass
    while not ring.try_pop(back, record):
        pass
    return cycles() - start


@kernel
def consume(there: int, back: int, count: int, scratch: np.ndarray) -> int:
    """Pop `count` records. Returns how many were wrong."""
    record = scratch.ctypes.data
    wrong = 0
    while not ring.try_push(back, record):
        pass
    for number in range(count):
        while not ring.try_pop(there, record):
            pass
        if not holds(record, number):
            wrong += 1
    while not ring.try_push(back, record):
        pass
    return wrong


@kernel
def produce_in_place(there: int, back: int, count: int, scratch: np.ndarray) -> int:
    """As `produce`, but each record is built where it will be read."""
    while not ring.try_pop(back, scratch.ctypes.data):
        pass
    start = cycles()
    for number in range(count):
        while ring.room(there, 1) < 1:
            pass
        fill(ring.claim(there, 0), number)
        ring.commit(there, 1)
    while not ring.try_pop(back, scratch.ctypes.data):
        pass
    return cycles() - start


@kernel
def consume_in_place(there: int, back: int, count: int, scratch: np.ndarray) -> int:
    """As `consume`, but each record is checked where it stands."""
    wrong = 0
    while not ring.try_push(back, scratch.ctypes.data):
        pass
    for number in range(count):
        record = ring.peek_record(there)
        while record == 0:
            record = ring.peek_record(there)
        if not holds(record, number):
            wrong += 1
        ring.advance(there, 1)
    while not ring.try_push(back, scratch.ctypes.data):
        pass
    return wrong


@kernel
def produce_batched(there: int, back: int, count: int, scratch: np.ndarray) -> int:
    """As `produce`, BATCH records at a time; `count` is a multiple of BATCH."""
    batch = scratch.ctypes.data
    while not ring.try_pop(back, batch):
        pass
    start = cycles()
    for number in range(0, count, BATCH):
        for index in range(BATCH):
            fill(batch + RECORD_BYTES * index, number + index)
        sent = 0
        while sent < BATCH:
            sent += ring.push_batch(there, batch + RECORD_BYTES * sent, BATCH - sent)
    while not ring.try_pop(back, batch):
        pass
    return cycles() - start


@kernel
def consume_batched(there: int, back: int, count: int, scratch: np.ndarray) -> int:
    """As `consume`, up to BATCH records at a time."""
    batch = scratch.ctypes.data
    wrong = 0
    while not ring.try_push(back, batch):
        pass
    number = 0
    while number < count:
        got = ring.pop_batch(there, batch, BATCH)
        for index in range(got):
            if not holds(batch + RECORD_BYTES * index, number + index):
                wrong += 1
        number += got
    while not ring.try_push(back, batch):
        pass
    return wrong
