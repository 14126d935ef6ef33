"""What a process does while it waits for the next record: idle strategies, beside a hand-off by one futex wake a hop.

A record of 64 bytes goes round a line of five processes, one hop each, and back to the first; every process checks it
word by word. The processes are joined by the project's rings and idle as stages do (`stages/duty.py`); `unordered
yield` is in whatever order the kernel has drawn, not in that of the line (`shm/turns.py`). `shared core`: all on one.
`own cores`: one core each; where there are fewer than five, the line is as long as there are cores, and the document
says so. Each with and without a neighbour that burns the last of the line's cores at normal priority.

The naive hand-off, `futex`, is C++: whoever finds no record sleeps in the kernel at once, and the process before it
wakes it, one wake a hop. The budget is on what stages that share a core do by default: on the shared core, without the
neighbour, a round by `yield` takes at most half of one by `futex`. It is the hand-off alone that is compared here. Tick
to trade has the stages' work and the send on top: a run's own figure (`pipeline up --duration 10s`) stands beside the
row `futex, shared core` only when both were taken on the same quiet machine.

A round is all contestants, a slice of tens of milliseconds each (three laps at least: spinning processes take whole
time slices from each other), in alternating order, and ratios are of the slices of one round. As many laps as a slice
counts come before it uncounted: all have slept between slices, and those that yield find their order anew.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import compiled_reference, machine, ns_per_cycle, quantiles, ratio
from bench.idle_line import COUNT_MAX, FUTEX, STRATEGIES, UNORDERED, Line, busy_neighbour, line_of
from bench.laps import absent, budget

HERE = Path(__file__).parent
PROCESSES = 5
SLICE_NS = 40e6
COUNT_MIN = 3
ROUNDS = 30
CASE_S = 35.0
"""A case takes no longer, so that all four are done within three minutes: on a busy machine it has fewer rounds."""
SHARED, OWN = "shared core", "own cores"
YIELD_LIMIT = 0.5
"""Yielding, the default on a shared core, takes at most half the time of the naive hand-off there."""


@dataclass
class Case:
    """A placement, with or without the neighbour: what each contestant took."""

    placement: str
    is_busy: bool
    hops: int
    samples: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As the document names it."""
        return f"{self.placement}, busy neighbour" if self.is_busy else self.placement

    def rows(self) -> list[dict[str, Any]]:
        """A row a contestant."""
        return [
            {"name": f"{name}, {self.title}", "hops": self.hops, **quantiles(np.concatenate(slices).tolist(), "rtt_ns")}
            for name, slices in self.samples.items()
        ]

    def ratios(self) -> dict[str, dict[str, float]]:
        """Each strategy over the futex hand-off, by the medians of the slices of each round."""
        if FUTEX not in self.samples:
            return {}
        medians = {name: [float(np.median(each)) for each in slices] for name, slices in self.samples.items()}
        return {
            f"vs_futex_rtt: {name}, {self.title}": ratio(medians[name], medians[FUTEX]) for name in medians
            if name != FUTEX
        }  # fmt: skip


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document; 30 rounds of each case at most, quick: 2."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    tick_ns, cases = ns_per_cycle(), []
    placements = {SHARED: [cores[-1]] * PROCESSES}
    if len(cores) > 1:
        placements[OWN] = cores[:PROCESSES]
    try:
        with compiled_reference(HERE / "idle.cpp", "-shared", "-fPIC") as library:
            names = (*((FUTEX,) if library is not None else ()), *STRATEGIES)
            os.sched_setaffinity(0, {cores[0]})  # asleep while a slice runs
            for placement, used in placements.items():
                here = [name for name in names if placement == SHARED or name != UNORDERED]
                cases += _measure(placement, used, here, library, tick_ns, 2 if quick else ROUNDS)
    finally:
        os.sched_setaffinity(0, before)
    return {
        "bench": "idle",
        "machine": machine(),
        "results": [
            *(row for case in cases for row in case.rows()),
            *(absent([FUTEX], "no g++") if library is None else []),
            *(absent([OWN], "one core only") if OWN not in placements else []),
        ],
        "ratios": {name: found for case in cases for name, found in case.ratios().items()},
        "budgets": _budgets(cases),
        **({"note": f"{len(cores)} cores: the line on own cores has {len(cores)} processes, not {PROCESSES}"}
           if len(cores) < PROCESSES else {}),
    }  # fmt: skip


def _measure(
    placement: str, cores: Sequence[int], names: Sequence[str], library: Path | None, tick_ns: float, rounds: int
) -> list[Case]:
    cases = [Case(placement, is_busy, len(cores)) for is_busy in (False, True)]
    with busy_neighbour(cores[-1]) as neighbour, line_of(cores, library) as line:
        for case in cases:
            if case.is_busy:
                neighbour.go()
            counts = {name: _count(line, name, tick_ns) for name in names}
            end_s = time.monotonic() + CASE_S
            for number in range(rounds):
                if number > 1 and time.monotonic() > end_s:
                    break
                for name in names if number % 2 else names[::-1]:
                    laps = line.slice(name, 2 * counts[name])[counts[name] :]
                    case.samples.setdefault(name, []).append(laps * tick_ns)
            if case.is_busy:
                neighbour.stop()
    return cases


def _count(line: Line, name: str, tick_ns: float) -> int:
    """How many laps fill a slice, by some that are not counted."""
    line.slice(name, COUNT_MIN)
    lap_ns = float(np.median(line.slice(name, COUNT_MIN))) * tick_ns  # the mean may be that of one lost time slice
    return max(COUNT_MIN, min(COUNT_MAX // 2, int(SLICE_NS / lap_ns)))


def _budgets(cases: Sequence[Case]) -> list[dict[str, Any]]:
    return [
        budget(
            f"a record round {case.hops} processes on one core: yield over one futex wake a hop, median ratio",
            found["median"], YIELD_LIMIT,
        )
        for case in cases if case.placement == SHARED and not case.is_busy
        for name, found in case.ratios().items() if ": yield, " in name
    ]  # fmt: skip
