"""Latency histograms as lines of the report."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.histogram import BUCKET_COUNT, SUB_BUCKET_HALF_MAGNITUDE
from stages.agent import Agent, Hop

HOP_ORDER = (
    "feed.queue", "feed.parse", "feed>book", "book.update", "book.publish", "book>strategy", "strategy.decide",
    "strategy>risk", "risk.check", "risk>router", "router.encode", "router.send", "tick_to_trade", "order_to_ack",
)  # fmt: skip
"""The order a tick takes; what is not in it follows."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}


@cache
def _lowest_values() -> NDArray[np.int64]:
    """The least value of each bucket, and of one more behind the last: `shm.histogram.lowest_value` for all of them."""
    buckets = np.arange(BUCKET_COUNT + 1, dtype=np.int64)
    exponents = np.maximum(0, (buckets >> SUB_BUCKET_HALF_MAGNITUDE) - 1)
    return (buckets - (exponents << SUB_BUCKET_HALF_MAGNITUDE)) << exponents


def hop_line(hop: Hop, histogram: np.ndarray[Any, Any] | np.void) -> dict[str, Any]:
    """One hop's statistics. Without samples every figure is null. The verdict compares p50 with the budget.

    The figures are those of the hdrhistogram package, which takes half a second for one mean: a supervisor that answers
    `pipeline status` would watch nothing meanwhile.
    """
    line: dict[str, Any] = {"name": hop.name, "unit": hop.unit, "count": 0}
    counts = np.asarray(histogram["counts"]).reshape(-1)
    occupied = np.nonzero(counts)[0]
    if not len(occupied):
        return line | dict.fromkeys(("min", "mean", *PERCENTILES, "max")) | {
            "budget": hop.budget_ns, "within_budget": None,
        }  # fmt: skip
    lowest, following = _lowest_values()[occupied], _lowest_values()[occupied + 1]
    cumulative = np.cumsum(counts[occupied])
    count = int(cumulative[-1])
    # A stage that died while it recorded may have left extremes that no counter holds.
    least, most = (
        max(int(lowest[end]), min(int(following[end]) - 1, int(np.asarray(histogram[name]).reshape(-1)[0])))
        for end, name in ((0, "min"), (-1, "max"))
    )
    middles = lowest + (following - lowest) // 2
    line |= {"count": count, "min": least, "mean": round(float(counts[occupied] @ middles.astype(float)) / count, 1)}
    for name, percentile in PERCENTILES.items():
        rank = max(1, int(percentile * count / 100 + 0.5))
        # A bucket's value is its upper end, 0.1 % wide; no percentile lies outside of what was seen.
        line[name] = max(least, min(most, int(following[np.searchsorted(cumulative, rank)]) - 1))
    line["max"] = most
    line["budget"] = hop.budget_ns
    line["within_budget"] = None if hop.budget_ns is None else line["p50"] <= hop.budget_ns
    return line


def hop_lines(
    agents: Iterable[type[Agent]], pages: Mapping[str, np.ndarray[Any, Any] | np.void]
) -> list[dict[str, Any]]:
    """The hops of all agents, in the order a tick takes."""
    lines = [
        hop_line(hop, pages[agent.name]["hops"][index]) for agent in agents for index, hop in enumerate(agent.hops)
    ]
    rank = {name: index for index, name in enumerate(HOP_ORDER)}
    return sorted(lines, key=lambda line: rank.get(line["name"], len(rank)))
