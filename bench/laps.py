"""Contestants on one core, in turns: slices of milliseconds, compared only within the round they belong to."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bench.harness import over_runs, ratio

SLICE_NS = 8e6
OURS, CPP = "tickpipe", "C++ -O3"
RUNS, ROUNDS = 3, 40

Lap = Callable[[int], Callable[[], int]]
"""Does so many operations, timed; returns what then says, untimed, how many of them came out wrong."""
Round = dict[tuple[str, str], float]
"""ns an operation, by (mode, contestant)."""


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process on one core, for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Race:
    """Rounds of all modes and contestants; knows how many operations fill a slice."""

    def __init__(
        self,
        modes: Mapping[str, Mapping[str, Lap]],
        *,
        quick: bool,
        prepare: Callable[[str, str], None] = lambda mode, name: None,
    ) -> None:
        """`prepare(mode, contestant)` is called before each slice, untimed."""
        self._modes = modes
        self._prepare = prepare
        self._quick = quick
        self._counts: dict[tuple[str, str], int] = {}
        self.rounds: list[Round] = []
        self._runs: list[list[Round]] = []

    def run(self) -> None:
        """3 runs of 40 rounds, quick: 1 of 2. Raises RuntimeError when an operation came out wrong."""
        for _ in range(1 if self._quick else RUNS):
            self._runs.append([self._round() for _ in range(2 if self._quick else ROUNDS)])
            self.rounds += self._runs[-1]

    def _round(self) -> Round:
        return {(mode, name): self._slice(mode, name) for mode, laps in self._modes.items() for name in laps}

    def _slice(self, mode: str, name: str) -> float:
        lap = self._modes[mode][name]
        self._prepare(mode, name)
        if (mode, name) not in self._counts:
            self._timed(lap, 64, mode, name)
            once = self._timed(lap, 4096, mode, name)
            self._counts[mode, name] = max(64, int(SLICE_NS / max(once, 0.5)))
        return self._timed(lap, self._counts[mode, name], mode, name)

    def _timed(self, lap: Lap, count: int, mode: str, name: str) -> float:
        start = time.perf_counter_ns()
        check = lap(count)
        elapsed = time.perf_counter_ns() - start
        if wrong := check():
            raise RuntimeError(f"{name}, {mode}: {wrong} of {count} operations came out wrong")
        return elapsed / count

    def results(self) -> list[dict[str, Any]]:
        """A row a contestant: the median over runs of each mode's median, and its range."""
        names = dict.fromkeys(name for laps in self._modes.values() for name in laps)
        return [{"name": name, **over_runs(self._medians(name)), "samples": len(self.rounds)} for name in names]

    def _medians(self, name: str) -> list[dict[str, float]]:
        modes = [mode for mode, laps in self._modes.items() if name in laps]
        return [
            {f"{mode}_ns_per_op": statistics.median(each[mode, name] for each in rounds) for mode in modes}
            for rounds in self._runs
        ]

    def ratios(self, winner: str = OURS) -> dict[str, Any]:
        """Ours (the winner's) over each other contestant, mode by mode, round by round."""
        prefix = "vs_" if winner == OURS else f"{winner}_vs_"
        short = {CPP: "cpp"}
        return {
            f"{prefix}{short.get(name, name)}_{mode}": ratio(
                [each[mode, winner] for each in self.rounds], [each[mode, name] for each in self.rounds]
            )
            for mode, laps in self._modes.items()
            for name in laps
            if name != winner and winner in laps
        }

    def ours(self, mode: str) -> float:
        """Our median over all rounds."""
        return statistics.median(each[mode, OURS] for each in self.rounds)


def budget(what: str, figure: float, limit: float) -> dict[str, Any]:
    """A line of a document's `budgets`."""
    return {"what": what, "figure": round(figure, 4), "limit": limit, "holds": figure <= limit}


def absent(names: Sequence[str], why: str) -> list[dict[str, str]]:
    """Rows for contestants that are not here."""
    return [{"name": name, "absent": why} for name in names]
