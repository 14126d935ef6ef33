"""Lost: books in pages of 4 KiB instead of 2 MiB. Each random line is then a page walk too, and under a hypervisor a
walk of two dimensions. This is what segments in /dev/shm get where the kernel has no huge pages for shared memory.

    python -m bench.alternatives.small_pages

FIGURES
"""

import statistics
import time

from bench.book import LIVE, SYMBOLS
from bench.book_memory import Memory
from bench.book_streams import Stream
from stages.domain.orderbook import batch
from stages.domain.orderbook.engine import Capacity, engine_bytes, format_engine

STEP, ROUNDS = 5_000, 100


def main() -> None:
    """Both in turns, on the same random messages."""
    stream = Stream(is_local=False, live=LIVE, symbols=SYMBOLS)
    first = stream.preload()
    capacity = Capacity.of(SYMBOLS, LIVE + LIVE // 20)
    memories = {"small": Memory(engine_bytes(capacity), huge=False), "huge": Memory(engine_bytes(capacity))}
    for memory in memories.values():
        format_engine(memory.address, capacity)
        assert batch.apply_batch(memory.address, first.copy().ctypes.data, len(first)) == 0
    times: dict[str, list[float]] = {name: [] for name in memories}
    for _ in range(ROUNDS):
        messages = stream.messages(STEP)
        for name, memory in memories.items():
            own = messages.copy()
            start = time.perf_counter_ns()
            refused = batch.apply_batch(memory.address, own.ctypes.data, STEP)
            times[name].append((time.perf_counter_ns() - start) / STEP)
            assert refused == 0, name
    ratio = statistics.median(a / b for a, b in zip(times["small"], times["huge"], strict=True))
    for name, values in times.items():
        print(f"{name} pages: {statistics.median(values):.0f} ns a message")
    print(f"small over huge pages, round by round: {ratio:.2f}")


if __name__ == "__main__":
    main()
