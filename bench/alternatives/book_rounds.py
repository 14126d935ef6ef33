"""Book designs in turns: every round each of them does the same work, and says how many operations came out wrong."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.harness import ratio

STEP = 5_000
"""Operations of a round."""
ROUNDS, QUICK_ROUNDS = 100, 4
Work = Callable[[], int]


def in_turns(prepare: Callable[[], Mapping[str, Work]], *, quick: bool) -> dict[str, Any]:
    """Results and ratios, the winner first in what `prepare` returns, untimed, for each round.

    Raises RuntimeError when an operation came out wrong.
    """
    times: dict[str, list[float]] = {}
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for name, work in prepare().items():
            start = time.thread_time_ns()
            wrong = work()
            elapsed = time.thread_time_ns() - start
            if wrong:
                raise RuntimeError(f"{name}: {wrong} of {STEP} operations came out wrong")
            times.setdefault(name, []).append(elapsed / STEP)
    winner, *losers = times
    return {
        "results": [
            {"name": name, "book_ns_per_op": round(statistics.median(values), 1), "samples": len(values)}
            for name, values in times.items()
        ],
        "ratios": {f"{winner}_vs_{name}": ratio(times[winner], times[name]) for name in losers},
    }
