"""Order books of a million live orders: beside the same structure in C++, and the books that PyPI has.

    orders   messages to books of single orders, in batches: the next ones are looked for ahead
    singly   the same by a caller that has one message at a time: what the cache misses cost
    levels   what the orders' levels come to, level by level, each an event of its own, to books of price levels

each at random and with locality (`book_streams`), and at random over books that the caches hold: what is left there is
instructions, what is more elsewhere is memory. The rows `memory` say what lines at random cost here, whoever asks for
them (`book_floor`).

All contestants get the same messages; in the end their bytes must be the same as ours, or their levels, and our books
sound, and the levels those of the orders. Slices follow each other; `_p50` to `_max` are of single messages, timed by
the counter (its step is in the document), the clock's cost included; `_ns_per_op` is the processor time of a slice
through the number of its messages.
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench import book_floor, book_loops
from bench.book_memory import Memory, huge_bytes
from bench.book_peers import PEERS, Peer
from bench.book_streams import Stream, levels_of
from bench.harness import compiled_reference, machine, ns_per_cycle, quantiles, ratio
from bench.laps import CPP, OURS, absent, budget, pinned
from shm.atomics import cycles
from shm.kernel import kernel
from stages.domain.orderbook import l2, l2_book
from stages.domain.orderbook.book import depth
from stages.domain.orderbook.engine import (
    HEADER_BYTES,
    Capacity,
    bytes_per_order,
    bytes_per_symbol,
    engine_bytes,
    format_engine,
)
from stages.domain.orderbook.integrity import SOUND, check_engine, check_levels
from stages.domain.orderbook.top import BOOK_BYTES

LIVE, QUICK_LIVE = 1_000_000, 50_000
SYMBOLS, QUICK_SYMBOLS = 5_000, 250
CACHED_LIVE, CACHED_SYMBOLS = 2_000, 10
"""Books of the same shape, all in half a megabyte."""
LEVELS_MAX = 64
"""Of a side of a book of levels."""
SLICE = 40_000
"""Messages. In slices of 5,000 a message at random, of 5,000 symbols, found each book as cold as the other contestants
had left it, and took half as long again: what is asked about is books that one process works on.
"""
ROUNDS, QUICK_ROUNDS = 40, 4
OP_NS_MAX, RATIO_MAX = 100.0, 1.3
Loop = Callable[[int, int, int, int], int]


@dataclass
class Contestant:
    """Books in memory of their own, and a loop over them; slices and single messages that were timed."""

    name: str
    memory: Memory
    base: int
    loop: Loop
    slices: list[float] = field(default_factory=list)
    singles: list[np.ndarray] = field(default_factory=list)

    def run(self, messages: np.ndarray, *, singles: bool) -> int:
        """A slice; returns what the loop returns: how many messages came out wrong."""
        own = messages.copy()
        samples = np.ones(len(own), np.int64)
        address = samples.ctypes.data if singles else 0
        start = time.thread_time_ns()
        wrong = int(self.loop(self.base, own.ctypes.data, len(own), address))
        elapsed = time.thread_time_ns() - start
        if singles:
            self.singles.append(samples)
        else:
            self.slices.append(elapsed / len(own))
        return wrong


def order_books(capacity: Capacity) -> tuple[Memory, int]:
    """An engine in fresh memory, and its address."""
    memory = Memory(engine_bytes(capacity))
    format_engine(memory.address, capacity)
    return memory, memory.address


def level_books(symbols: int) -> tuple[Memory, int]:
    """Books of levels one behind the other, their sides behind them."""
    side_bytes = -(-l2.side_bytes(LEVELS_MAX) // 128) * 128
    memory = Memory(BOOK_BYTES * symbols + 2 * symbols * side_bytes)
    sides = memory.address + BOOK_BYTES * symbols
    for symbol in range(symbols):
        bids = sides + 2 * symbol * side_bytes
        for side in (bids, bids + side_bytes):
            l2.format_side(side, LEVELS_MAX)
        l2_book.format_l2_book(memory.address + BOOK_BYTES * symbol, bids, bids + side_bytes)
    return memory, memory.address


class Course:
    """One access pattern: its stream, and everybody who runs over it."""

    def __init__(
        self, name: str, library: ctypes.CDLL | None, *, is_local: bool = False, live: int, symbols: int
    ) -> None:
        self.name = name
        self._symbols = symbols
        self._capacity = Capacity.of(symbols, live + live // 20 + 1000)  # their number wanders
        self._stream = Stream(is_local=is_local, live=live, symbols=symbols)
        self._reference_memory, self._reference = order_books(self._capacity)
        loops: dict[str, list[tuple[str, Loop]]] = {
            "orders": [(OURS, book_loops.apply_orders)],
            "singly": [(OURS, book_loops.apply_orders_singly)],
            "levels": [(OURS, book_loops.apply_levels)],
        }
        if library is not None:
            for mode, function in zip(loops, ("apply_orders", "apply_orders_singly", "apply_levels"), strict=True):
                loop = getattr(library, function)
                loop.argtypes, loop.restype = [ctypes.c_int64] * 4, ctypes.c_int64
                loops[mode].append((CPP, loop))
        self.contestants = {
            mode: [
                Contestant(name, *(level_books(symbols) if mode == "levels" else order_books(self._capacity)), loop)
                for name, loop in entries
            ]
            for mode, entries in loops.items()
        }
        self.peers: list[Peer] = []
        self._load()

    def _load(self) -> None:
        messages = self._stream.preload()
        for mode in ("orders", "singly"):
            for contestant in self.contestants[mode]:
                self._expect_no_wrong(contestant, contestant.run(messages, singles=False))
        changes = levels_of(self._reference, messages)
        for contestant in self.contestants["levels"]:
            contestant.run(changes, singles=False)
        self.peers = [peer(self._symbols) for peer in PEERS if peer.is_installed()]
        for peer in self.peers:
            peer.run(changes)
        for mode in self.contestants:
            for contestant in self.contestants[mode]:
                contestant.slices.clear()
        for peer in self.peers:
            peer.slices.clear()

    @staticmethod
    def _expect_no_wrong(contestant: Contestant, wrong: int) -> None:
        if wrong:
            raise RuntimeError(f"{contestant.name}: {wrong} messages were refused")

    def round(self, *, singles: bool) -> None:
        """A slice of each, of the same messages."""
        messages = self._stream.messages(SLICE)
        changes = levels_of(self._reference, messages.copy())
        for mode in ("orders", "singly"):
            for contestant in self.contestants[mode]:
                self._expect_no_wrong(contestant, contestant.run(messages, singles=singles))
        for contestant in self.contestants["levels"]:
            contestant.run(changes, singles=singles)
        for peer in self.peers:
            peer.run(changes)

    def check(self) -> None:
        """Raises RuntimeError unless all books are what they must be."""
        reference = self._reference_memory.copy(engine_bytes(self._capacity))
        for mode in ("orders", "singly"):
            for contestant in self.contestants[mode]:
                if contestant.memory.copy(len(reference)) != reference:
                    raise RuntimeError(
                        f"{self.name}, {mode}: the bytes of {contestant.name} differ from the reference's"
                    )
        if check_engine(self._reference) != SOUND:
            raise RuntimeError(f"{self.name}: the books of orders are not sound")
        levels = self.contestants["levels"]
        for other in levels[1:]:
            if other.memory.copy(other.memory.size) != levels[0].memory.copy(levels[0].memory.size):
                raise RuntimeError(f"{self.name}, levels: the bytes of {other.name} differ from ours")
        for symbol in range(self._symbols):
            book = levels[0].base + BOOK_BYTES * symbol
            if check_levels(book) != SOUND:
                raise RuntimeError(f"{self.name}: the book of levels of symbol {symbol} is not sound")
            for side in range(2):
                expected = levels_in(self._reference + HEADER_BYTES + BOOK_BYTES * symbol, side)
                if levels_in(book, side) != expected:
                    raise RuntimeError(f"{self.name}: levels of symbol {symbol} are not the sums of its orders")
                for peer in self.peers:
                    if peer.levels(symbol, side) != dict(expected):
                        raise RuntimeError(f"{self.name}: {peer.name} has other levels of symbol {symbol}")


@kernel
def _depth(book: int, side: int, levels: int, prices: int, quantities: int) -> int:
    return depth(book, side, levels, prices, quantities)


def levels_in(book: int, side: int) -> list[tuple[int, int]]:
    """All levels of a side, best first."""
    scratch = np.zeros((2, LEVELS_MAX), np.int64)
    count = int(_depth(book, side, LEVELS_MAX, scratch[0].ctypes.data, scratch[1].ctypes.data))
    return list(zip(scratch[0][:count].tolist(), scratch[1][:count].tolist(), strict=True))


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document. Raises RuntimeError when anybody's books are wrong."""
    live, symbols = (QUICK_LIVE, QUICK_SYMBOLS) if quick else (LIVE, SYMBOLS)
    rows: dict[str, dict[str, Any]] = {}
    ratios: dict[str, Any] = {}
    budgets = []
    with compiled_reference(Path(__file__).parent / "book.cpp", "-shared", "-fPIC") as path, pinned(0):
        library = ctypes.CDLL(str(path)) if path is not None else None
        for name in ("random", "local", "cached"):
            of_size = (
                {"live": CACHED_LIVE, "symbols": CACHED_SYMBOLS}
                if name == "cached"
                else {"live": live, "symbols": symbols}
            )
            course = Course(name, library, is_local=name == "local", **of_size)
            for number in range(QUICK_ROUNDS if quick else ROUNDS):
                course.round(singles=number % 2 == 1)
            course.check()
            _add_rows(course, rows)
            _add_ratios(course, ratios)
            if name != "cached":
                budgets += _budgets(course)
                memory_huge = huge_bytes()
            del course
        capacity = Capacity.of(symbols, live)
        memory = book_floor.rows(engine_bytes(capacity), quick=quick)
    missing = [peer.name for peer in PEERS if not peer.is_installed()]
    return {
        "bench": "book",
        "machine": machine(),
        "live_orders": live,
        "symbols": symbols,
        "counter_step_ns": round(_counter_step_ns(), 1),
        "bytes_per_order": round(bytes_per_order(capacity), 1),
        "bytes_per_symbol": bytes_per_symbol(),
        "huge_page_bytes": memory_huge,
        "results": [
            *rows.values(),
            *memory,
            *absent([CPP] if path is None else [], "no g++"),
            *absent(missing, "not installed"),
        ],
        "ratios": ratios,
        "budgets": [*budgets, budget("bytes an order", bytes_per_order(capacity), 128)],
    }


@kernel
def _read_counter(readings: np.ndarray) -> None:
    for index in range(len(readings)):
        readings[index] = cycles()


def _counter_step_ns() -> float:
    """The least difference between two readings that differ."""
    readings = np.ones(4096, np.int64)
    _read_counter(readings)
    steps = np.diff(readings)
    return float(steps[steps > 0].min()) * ns_per_cycle()


def _add_rows(course: Course, rows: dict[str, dict[str, Any]]) -> None:
    for mode, contestants in course.contestants.items():
        for contestant in contestants:
            row = rows.setdefault(contestant.name, {"name": contestant.name})
            name = f"{mode}_{course.name}"
            row[f"{name}_ns_per_op"] = round(statistics.median(contestant.slices), 1)
            spread = quantiles(np.concatenate(contestant.singles) * ns_per_cycle(), name)
            row["samples"] = spread.pop("samples")
            row |= spread
    for peer in course.peers:
        row = rows.setdefault(peer.name, {"name": peer.name})
        row[f"levels_{course.name}_ns_per_op"] = round(statistics.median(peer.slices), 1)
        row["samples"] = len(peer.slices)


def _add_ratios(course: Course, ratios: dict[str, Any]) -> None:
    for mode, (ours, *others) in course.contestants.items():
        for other in others:
            ratios[f"vs_cpp_{mode}_{course.name}"] = ratio(ours.slices, other.slices)
    ours = course.contestants["levels"][0].slices
    for peer in course.peers:
        ratios[f"vs_{peer.name}_levels_{course.name}"] = ratio(ours, peer.slices[: len(ours)])


def _budgets(course: Course) -> list[dict[str, Any]]:
    lines = []
    for mode, (ours, *others) in course.contestants.items():
        if mode == "singly":
            continue
        p50 = float(np.median(np.concatenate(ours.singles))) * ns_per_cycle()
        lines.append(budget(f"{mode}, {course.name}, p50 ns", p50, OP_NS_MAX))
        if others:
            median = ratio(ours.slices, others[0].slices)["median"]
            lines.append(budget(f"{mode}, {course.name}, over C++", median, RATIO_MAX))
    return lines
