"""What it costs the feed to show every frame to a recorder: parsing and showing, beside parsing alone.

    tickpipe        the feed has seen that somebody observes, and shows each frame
    nobody looks    it has seen that nobody does
    parsing alone   there is no tap

The same frame again and again, as in a quiet book: what is compared is the work of the feed, not its caches. In the
modes `..._observed` a recorder's reader on another core takes the frames off meanwhile, as fast as it can.
"""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.duel import two_cores
from bench.harness import die_with, machine
from bench.laps import OURS, Lap, Race, pinned
from shm import ring
from shm.atomics import load_acquire, store_release
from shm.kernel import kernel
from shm.layout import align_up
from stages.domain.codecs.binance_market import parse_message
from stages.domain.codecs.json_scan import GUARD_BYTES
from stages.domain.messages import MARKET
from stages.domain.tap import LAYOUT, FrameReader, Tap, show

ALONE, UNOBSERVED = "parsing alone", "nobody looks"
SYMBOL = "BTCUSDT"
STAGED = 64
STOP_BYTES = 128
MESSAGES = {
    "ticker": f'{{"u":1,"s":"{SYMBOL}","b":"61685.99000000","B":"1.5","a":"61686.00000000","A":"2.5"}}',
    "depth_20": f'{{"e":"depthUpdate","E":1723161255208,"s":"{SYMBOL}","U":1,"u":2,"b":['
    + ",".join(f'["6168{step}.99000000","1.{step}5000000"]' for step in range(10))
    + '],"a":['
    + ",".join(f'["6169{step}.99000000","1.{step}5000000"]' for step in range(10))
    + "]}",
}


@kernel
def _take_all(frame: int, size: int, symbols: int, staging: int, tap: int, count: int, has_tap: bool) -> int:
    """Parse the frame `count` times, and show it each time. Returns how many were not understood."""
    wrong = 0
    for index in range(count):
        code, _ = parse_message(frame, frame + size, symbols, 1, staging, index)
        wrong += int(code < 0)
        if has_tap:
            show(tap, frame, size, index, 0)
    return wrong


@kernel
def _is_set(flag: int) -> bool:
    return load_acquire(flag) != 0


@kernel
def _set(flag: int) -> None:
    store_release(flag, 1)


class Feed:
    """A frame, the tables that a parser needs, and a tap that another process can read."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, LAYOUT.payload_bytes + 2 * STOP_BYTES)  # shared with who is forked
        self.stop = np.frombuffer(self.memory, np.int64).ctypes.data
        self.tap = align_up(self.stop + STOP_BYTES, STOP_BYTES)
        LAYOUT.format(self.tap)
        self._symbols = np.array([SYMBOL.encode()], "S16")
        self._ring = np.zeros(ring.ring_bytes(STAGED, MARKET.itemsize) // 8 + STOP_BYTES // 8, np.int64)
        self._staging = align_up(self._ring.ctypes.data, STOP_BYTES)
        ring.format_ring(self._staging, STAGED, MARKET.itemsize)
        self._taps = {OURS: Tap(), UNOBSERVED: Tap()}
        for name, tap in self._taps.items():
            tap.words["ring"], tap.words["is_observed"] = self.tap, name == OURS

    def laps(self, text: str) -> dict[str, Lap]:
        """Of one message, by contestant."""
        return {name: self._lap(text, self._taps.get(name)) for name in (OURS, UNOBSERVED, ALONE)}

    def _lap(self, text: str, tap: Tap | None) -> Lap:
        guard = bytes(GUARD_BYTES)
        frame = np.frombuffer(guard + text.encode() + guard, np.uint8)

        def run(count: int) -> Callable[[], int]:
            wrong = int(
                _take_all(
                    frame.ctypes.data + GUARD_BYTES, len(text), self._symbols.ctypes.data, self._staging,
                    0 if tap is None else tap.address, count, tap is not None,
                )
            )  # fmt: skip
            return lambda: wrong

        return run


@contextmanager
def _observer(feed: Feed, core: int) -> Iterator[None]:
    """A process on `core` that reads the tap."""
    parent = os.getpid()
    _is_set(feed.stop)  # compiled before the fork
    FrameReader(feed.tap)
    child = os.fork()
    if child == 0:
        try:
            die_with(parent)
            os.sched_setaffinity(0, {core})
            reader = FrameReader(feed.tap)
            while not _is_set(feed.stop):
                for _ in reader.read():
                    pass
        finally:
            os._exit(0)
    try:
        time.sleep(0.1)  # it reads by now; if not, the first round counts as unobserved
        yield
    finally:
        _set(feed.stop)
        os.waitpid(child, 0)


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document; a ratio is parsing with a tap, observed or not, over parsing alone."""
    feed = Feed()
    cores = two_cores()
    laps = {name: feed.laps(text) for name, text in MESSAGES.items()}
    quiet = Race(laps, quick=quick)
    observed = Race(
        {f"{name}_observed": {each: lap[each] for each in (OURS, ALONE)} for name, lap in laps.items()}, quick=quick
    )
    with pinned(cores[0] if cores else min(os.sched_getaffinity(0))):
        quiet.run()
        if cores:
            with _observer(feed, cores[1]):
                observed.run()
    races = [quiet, observed] if cores else [quiet]
    rows: dict[str, dict[str, Any]] = {}
    for race in races:
        for row in race.results():
            rows.setdefault(row["name"], {}).update(row)
    ratios = {
        name.replace(ALONE, "alone").replace(UNOBSERVED, "unobserved"): value
        for race in races
        for winner in (OURS, UNOBSERVED)
        for name, value in race.ratios(winner).items()
        if ALONE in name
    }
    return {
        "bench": "tap",
        "machine": machine(),
        "message_bytes": {name: len(text) for name, text in MESSAGES.items()},
        "results": list(rows.values()),
        "ratios": ratios,
    } | ({} if cores else {"note": "without a second core nobody observes"})
