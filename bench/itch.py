"""ITCH 5.0 bytes to books of single orders, beside the same structure in C++: messages a second on one core.

    stream   frames that stand in memory: the orders and levels of the next messages are asked for ahead
    singly   the same by a caller that knows one message at a time
    stage    records through the book stage, which publishes each (`itch_stage`), with more of them waiting in its ring
    alone    the same, with none behind the one that is applied

of a million live orders, at random and with locality (`book_streams`), and of the recorded file in $TICKPIPE_DATA.
Both contestants get the same bytes, in turns; in the end each message must have been counted by its type, and the
bytes of their books must be those of books to which the messages went without ITCH, in order, one by one.
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench import book_loops, itch_loops
from bench.book import LIVE, QUICK_LIVE, QUICK_SYMBOLS, RATIO_MAX, SYMBOLS, order_books
from bench.book_streams import Stream
from bench.harness import compiled_reference, machine, ratio
from bench.itch_stage import run_stage
from bench.itch_streams import itch_bytes, recorded
from bench.laps import CPP, OURS, absent, budget, pinned
from stages.domain.codecs import itch_frames
from stages.domain.orderbook.engine import Capacity, engine_bytes, format_engine
from stages.domain.orderbook.integrity import SOUND, check_engine

SLICE = 20_000
ROUNDS, QUICK_ROUNDS = 240, 4
LOCATES = 65_536
RECORDED_ORDERS = 1 << 16
MESSAGE_NS_MAX = 125.0
"""8 million messages a second."""
Loop = Callable[[int, int, int, int, int], int]


@dataclass
class Contestant:
    """A loop, its books and its framer; ns a message of each slice."""

    name: str
    loop: Loop
    capacity: Capacity
    slices: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory, self.engine = order_books(self.capacity)
        self.framer, self.window = itch_frames.new_framer(), itch_loops.new_window()

    def run(self, stream: np.ndarray, messages: int) -> int:
        """A slice; how many messages the books refused. Raises RuntimeError unless all bytes were read."""
        begin, end = stream.ctypes.data, stream.ctypes.data + len(stream)
        self.framer["position"] = begin
        start = time.thread_time_ns()
        refused = int(self.loop(self.engine, self.framer.ctypes.data, self.window.ctypes.data, end, True))
        self.slices.append((time.thread_time_ns() - start) / messages)
        if left := end - int(self.framer["position"][0]):
            raise RuntimeError(f"{self.name}: {left} bytes of {len(stream)} were not read")
        return refused

    def start_anew(self) -> None:
        """Empty books, nothing counted."""
        ctypes.memset(self.engine, 0, engine_bytes(self.capacity))
        format_engine(self.engine, self.capacity)
        self.framer["count"] = 0


class Course:
    """One stream, contestants in two modes, and books that know nothing of ITCH."""

    def __init__(self, name: str, capacity: Capacity, library: ctypes.CDLL | None) -> None:
        self.name = name
        loops: dict[str, list[tuple[str, Loop]]] = {
            "stream": [(OURS, itch_loops.apply_frames)],
            "singly": [(OURS, itch_loops.apply_frames_singly)],
        }
        if library is not None:
            for mode, function in zip(loops, ("apply_frames", "apply_frames_singly"), strict=True):
                loop = getattr(library, function)
                loop.argtypes, loop.restype = [ctypes.c_int64] * 5, ctypes.c_int64
                loops[mode].append((CPP, loop))
        self.modes = {
            mode: [Contestant(each, loop, capacity) for each, loop in entries] for mode, entries in loops.items()
        }
        self.contestants = [contestant for mode in self.modes.values() for contestant in mode]

    def run(self, stream: np.ndarray, messages: int, refused: int) -> None:
        """A slice of each. Raises RuntimeError when other than `refused` messages are refused."""
        for contestant in self.contestants:
            if (count := contestant.run(stream, messages)) != refused:
                raise RuntimeError(f"{self.name}: {contestant.name} refused {count} messages, not {refused}")

    def check(self, reference: bytes, counts: np.ndarray) -> None:
        """Raises RuntimeError unless all books are `reference` and each type was counted as in `counts`."""
        for contestant in self.contestants:
            if contestant.memory.copy(len(reference)) != reference:
                raise RuntimeError(f"{self.name}: the bytes of {contestant.name} differ from the reference's")
            if check_engine(contestant.engine) != SOUND:
                raise RuntimeError(f"{self.name}: the books of {contestant.name} are not sound")
            if (contestant.framer["count"][0] != counts).any():
                raise RuntimeError(f"{self.name}: {contestant.name} counted other types")


def _run_made(library: ctypes.CDLL | None, *, is_local: bool, quick: bool) -> Course:
    """Messages made from a seed."""
    live, symbols = (QUICK_LIVE, QUICK_SYMBOLS) if quick else (LIVE, SYMBOLS)
    capacity = Capacity.of(symbols, live + live // 20)
    course = Course("local" if is_local else "random", capacity, library)
    source = Stream(is_local=is_local, live=live, symbols=symbols)
    memory, reference = order_books(capacity)
    counts = np.zeros(256, np.int64)
    for number in range(1 + (QUICK_ROUNDS if quick else ROUNDS)):
        messages = source.messages(SLICE) if number else source.preload()
        stream = itch_bytes(messages)
        _count(stream, counts)
        if book_loops.apply_orders_singly(reference, messages.ctypes.data, len(messages), 0):
            raise RuntimeError(f"{course.name}: messages were refused")
        course.run(stream, len(messages), 0)
    for contestant in course.contestants:
        del contestant.slices[0]
    course.check(memory.copy(engine_bytes(capacity)), counts)
    return course


def _run_recorded(library: ctypes.CDLL | None, stream: np.ndarray, *, quick: bool) -> Course:
    """A recorded file from its beginning, again and again."""
    capacity = Capacity.of(LOCATES, RECORDED_ORDERS)
    course = Course("recorded", capacity, library)
    counts = np.zeros(256, np.int64)
    _count(stream, counts)
    reference = Contestant("reference", itch_loops.apply_frames_singly, capacity)
    refused = reference.run(stream, int(counts.sum()))
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for contestant in course.contestants:
            contestant.start_anew()
        course.run(stream, int(counts.sum()), refused)
    course.check(reference.memory.copy(engine_bytes(capacity)), counts)
    return course


def _count(stream: np.ndarray, counts: np.ndarray) -> None:
    """Add the frames of a stream to `counts`, by type, the obvious way."""
    data, at = stream.tobytes(), 0
    while at < len(data):
        counts[data[at + 2]] += 1
        at += 2 + int.from_bytes(data[at : at + 2], "big")


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document. Raises RuntimeError when anybody's books are wrong."""
    rows: dict[str, dict[str, Any]] = {}
    ratios: dict[str, Any] = {}
    budgets: list[dict[str, Any]] = []
    file = recorded()
    with compiled_reference(Path(__file__).parent / "itch.cpp", "-shared", "-fPIC") as path, pinned(0):
        library = ctypes.CDLL(str(path)) if path is not None else None
        for is_local in (False, True):
            _report(_run_made(library, is_local=is_local, quick=quick), rows, ratios, budgets)
        if file is not None:
            _report(_run_recorded(library, file[1], quick=quick), rows, ratios, budgets)
        for is_local in (False, True):
            _report_stage(
                run_stage(is_local=is_local, quick=quick), "local" if is_local else "random", rows[OURS], ratios
            )
    return {
        "bench": "itch",
        "machine": machine(),
        "live_orders": QUICK_LIVE if quick else LIVE,
        "recorded": file[0] if file is not None else "absent: no ITCH file in $TICKPIPE_DATA",
        "results": [*rows.values(), *absent([CPP] if path is None else [], "no g++")],
        "ratios": ratios,
        "budgets": budgets,
    }


def _report(
    course: Course, rows: dict[str, dict[str, Any]], ratios: dict[str, Any], budgets: list[dict[str, Any]]
) -> None:
    for mode, contestants in course.modes.items():
        name = f"{mode}_{course.name}"
        for contestant in contestants:
            row, slices = rows.setdefault(contestant.name, {"name": contestant.name}), contestant.slices
            _add_figures(row, name, slices)
            row["samples"] = len(slices)
        ours, *others = contestants
        if mode == "stream":
            budgets.append(budget(f"{course.name}, ns a message", statistics.median(ours.slices), MESSAGE_NS_MAX))
        for other in others:
            ratios[f"vs_cpp_{name}"] = ratio(ours.slices, other.slices)
            if mode == "stream":
                budgets.append(budget(f"{course.name}, over C++", ratios[f"vs_cpp_{name}"]["median"], RATIO_MAX))


def _report_stage(modes: dict[str, list[float]], stream: str, row: dict[str, Any], ratios: dict[str, Any]) -> None:
    for mode, slices in modes.items():
        _add_figures(row, f"{mode}_{stream}", slices)
    ratios[f"stage_vs_alone_{stream}"] = ratio(modes["stage"], modes["alone"])


def _add_figures(row: dict[str, Any], name: str, slices: list[float]) -> None:
    row[f"{name}_ns_per_op"] = round(statistics.median(slices), 1)
    row[f"{name}_ns_per_op_low"], row[f"{name}_ns_per_op_high"] = round(min(slices), 1), round(max(slices), 1)
    row[f"{name}_messages_per_s"] = round(1e9 / statistics.median(slices))
