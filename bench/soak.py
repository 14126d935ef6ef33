"""Books under a steady load: is an update as quick after ten minutes as in the first, and does memory stay.

10,000 messages a second, each applied alone when it is due, to a million live orders; beside it, on another core, a
bare reader that only spins and notes how long it was away. A minute in which it was away for more than AWAY_SHARE_MAX
of the time was disturbed by the machine: its p99.9 is reported, apart. The others are compared with the first of them.
"""

import gc
import os
import time
from dataclasses import asdict, dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil

from bench.book import LIVE, QUICK_LIVE, QUICK_SYMBOLS, SYMBOLS, order_books
from bench.book_streams import Stream
from bench.duel import two_cores
from bench.harness import die_with, machine, ns_per_cycle
from bench.laps import budget, pinned
from shm import histogram
from shm.atomics import cycles_ordered, load_acquire, load_word, pause, store_release
from shm.histogram import HISTOGRAM, to_hdr
from shm.kernel import kernel
from stages.domain.orderbook import batch
from stages.domain.orderbook.engine import Capacity
from stages.domain.orderbook.integrity import SOUND, check_engine

PER_SECOND = 10_000
MINUTES, MINUTE_S = 10, 60
QUICK_MINUTES, QUICK_MINUTE_S = 3, 2
RATIO_MAX = 1.5
AWAY_NS_MIN, AWAY_SHARE_MAX = 1_000, 0.0005
"""Half of what p99.9 leaves out; a reader that is away for less than AWAY_NS_MIN has only been slow."""
NS_32 = 32


@kernel
def _paced(engine: int, messages: int, count: int, gap_cycles: int, ns_per_cycle_32: int, latency: int) -> int:
    """Apply each message when it is due; its time goes to the histogram. Returns how many were refused."""
    refused, due = 0, cycles_ordered()
    for index in range(count):
        while cycles_ordered() < due:
            pause()
        start = cycles_ordered()
        refused += int(batch.apply(engine, messages + batch.MESSAGE_BYTES * index) < 0)
        histogram.record(latency, (cycles_ordered() - start) * ns_per_cycle_32 >> NS_32)
        due += gap_cycles
    return refused


@kernel
def _spin(flag: int, cycles_max: int, ns_per_cycle_32: int, away: int) -> None:
    """Note the time between readings of the counter, until the flag is set or cycles_max are over."""
    start = last = cycles_ordered()
    while load_acquire(flag) == 0 and last - start < cycles_max:
        for _ in range(64):
            now = cycles_ordered()
            histogram.record(away, (now - last) * ns_per_cycle_32 >> NS_32)
            last = now


@kernel
def _set(flag: int, value: int) -> int:
    store_release(flag, value)
    return load_word(flag)


@dataclass
class Minute:
    """What one minute came to; ns, bytes."""

    p50_ns: int
    p999_ns: int
    max_ns: int
    samples: int
    reader_away_share: float
    reader_max_ns: int
    rss_bytes: int
    is_disturbed: bool = False


class Reader:
    """The bare reader: a process of its own on another core, asked for one minute at a time."""

    def __init__(self, core: int) -> None:
        here, there = Pipe()
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            try:
                die_with(parent)
                os.sched_setaffinity(0, {core})
                here.close()
                _serve(there)
            finally:
                os._exit(0)
        there.close()
        self._pipe = here

    def start(self, seconds: float) -> None:
        """Spin for so long."""
        self._pipe.send(seconds)

    def result(self) -> tuple[float, int]:
        """Share of the time that it was away, and the longest, ns."""
        return self._pipe.recv()  # type: ignore[no-any-return]

    def close(self) -> None:
        self._pipe.send(0)
        os.waitpid(self._child, 0)


def _serve(pipe: Connection) -> None:
    flag = np.zeros(1, np.int64)
    length = ns_per_cycle()
    while seconds := pipe.recv():
        away = np.zeros(1, HISTOGRAM)
        _spin(flag.ctypes.data, int(seconds * 1e9 / length), int(length * 2**NS_32), away.ctypes.data)
        hdr = to_hdr(away)
        gaps = ((item.value_iterated_to, item.count_added_in_this_iter_step) for item in hdr.get_recorded_iterator())
        away_ns = sum(value * count for value, count in gaps if value >= AWAY_NS_MIN)
        pipe.send((round(away_ns / (seconds * 1e9), 6), int(hdr.get_max_value())))


def _minute(engine: int, stream: Stream, seconds: int, reader: Reader | None) -> Minute:
    length, latency = ns_per_cycle(), np.zeros(1, HISTOGRAM)
    if reader:
        reader.start(seconds)
    end = time.monotonic() + seconds
    for _ in range(seconds):
        messages = stream.messages(PER_SECOND)
        gap = int(1e9 / PER_SECOND / length)
        refused = _paced(
            engine, messages.ctypes.data, PER_SECOND, gap, int(length * 2**NS_32), latency.ctypes.data
        )  # fmt: skip
        if refused:
            raise RuntimeError(f"{refused} messages were refused")
        if time.monotonic() > end:
            break
    hdr = to_hdr(latency)
    away = reader.result() if reader else (0.0, 0)
    gc.collect()  # histograms of hdrhistogram refer to themselves: 0.2 MB of each minute stayed, and was no book's
    return Minute(
        int(hdr.get_value_at_percentile(50)), int(hdr.get_value_at_percentile(99.9)), int(hdr.get_max_value()),
        int(hdr.get_total_count()), *away, psutil.Process().memory_info().rss,
    )  # fmt: skip


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document; `minutes` has a row a minute. Raises RuntimeError when a book is wrong in the end."""
    live, symbols = (QUICK_LIVE, QUICK_SYMBOLS) if quick else (LIVE, SYMBOLS)
    minutes, seconds = (QUICK_MINUTES, QUICK_MINUTE_S) if quick else (MINUTES, MINUTE_S)
    stream = Stream(is_local=True, live=live, symbols=symbols)
    memory, engine = order_books(Capacity.of(symbols, live + live // 20))
    first = stream.preload()
    batch.apply_batch(engine, first.ctypes.data, len(first))
    del first
    cores = two_cores()
    with pinned(cores[0] if cores else min(os.sched_getaffinity(0))):
        _minute(engine, stream, 1, None)  # compiled, and every page touched
        reader = Reader(cores[1]) if cores else None
        try:
            rows = [_minute(engine, stream, seconds, reader) for _ in range(minutes)]
        finally:
            if reader:
                reader.close()
    if check_engine(engine) != SOUND:
        raise RuntimeError("the books are not sound in the end")
    del memory
    for row in rows:
        row.is_disturbed = row.reader_away_share > AWAY_SHARE_MAX
    quiet = [row for row in rows if not row.is_disturbed] or rows
    worst = max(row.p999_ns for row in quiet) / quiet[0].p999_ns
    disturbed = sum(row.is_disturbed for row in rows)
    growth = rows[-1].rss_bytes - rows[0].rss_bytes
    return {
        "bench": "soak",
        "machine": machine(),
        "live_orders": live,
        "messages_per_second": PER_SECOND,
        "minute_s": seconds,
        "results": [
            {"name": "tickpipe", "minute": number, **asdict(row)} for number, row in enumerate(rows, 1)
        ],
        "ratios": {},
        "note": f"{disturbed} of {len(rows)} minutes were disturbed by the machine"
        + ("; all are compared" if disturbed == len(rows) else ""),
        "budgets": [
            budget("p99.9 of the worst minute over that of the first, of those compared", worst, RATIO_MAX),
            budget("growth of memory, bytes", growth, 1 << 20),
        ],
    }  # fmt: skip
