"""Lost: books in pages of 4 KiB instead of 2 MiB. Each random line is then a page walk too, and under a hypervisor a
walk of two dimensions. This is what segments in /dev/shm get unless it is mounted with huge=within_size; and what the
books of a stage got, which are memory of its own, until it asked for others (`shm.huge_pages`).

Processor time of a message at random, on a noisy machine (medians of 100 rounds): 323 ns in huge pages, 416 in small
ones; 0.77 of it round by round. On a busier day 304 and 516; 0.61.
"""

from functools import partial
from typing import Any

import numpy as np

from bench.alternatives.book_rounds import STEP, Work, in_turns
from bench.book import LIVE, SYMBOLS
from bench.book_memory import Memory
from bench.book_streams import Stream
from stages.domain.orderbook import batch
from stages.domain.orderbook.engine import Capacity, engine_bytes, format_engine


def run(*, quick: bool = False) -> dict[str, Any]:
    """Both in turns, on the same random messages."""
    stream = Stream(is_local=False, live=LIVE, symbols=SYMBOLS)
    first = stream.preload()
    capacity = Capacity.of(SYMBOLS, LIVE + LIVE // 20)
    memories = {"huge pages": Memory(engine_bytes(capacity)), "small pages": Memory(engine_bytes(capacity), huge=False)}
    for memory in memories.values():
        format_engine(memory.address, capacity)
        assert batch.apply_batch(memory.address, first.ctypes.data, len(first)) == 0

    def prepare() -> dict[str, Work]:
        messages = stream.messages(STEP)
        return {name: partial(_apply, memory, messages.copy()) for name, memory in memories.items()}

    return in_turns(prepare, quick=quick)


def _apply(memory: Memory, messages: np.ndarray) -> int:
    return int(batch.apply_batch(memory.address, messages.ctypes.data, STEP))
