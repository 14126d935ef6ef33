"""Latency histograms as lines of the report."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shm.histogram import to_hdr
from stages.agent import Agent, Hop

HOP_ORDER = (
    "feed.queue", "feed.parse", "feed>book", "book.update", "book.publish", "book>strategy", "strategy.decide",
    "strategy>risk", "risk.check", "risk>router", "router.encode", "router.send", "tick_to_trade", "order_to_ack",
)  # fmt: skip
"""The order a tick takes; what is not in it follows."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}


def hop_line(hop: Hop, histogram: np.ndarray[Any, Any] | np.void) -> dict[str, Any]:
    """One hop's statistics. Without samples every figure is null. The verdict compares p50 with the budget."""
    line: dict[str, Any] = {"name": hop.name, "unit": hop.unit, "count": 0}
    hdr = to_hdr(histogram)
    count = int(hdr.total_count)
    if count == 0:
        return line | dict.fromkeys(("min", "mean", *PERCENTILES, "max")) | {
            "budget": hop.budget_ns, "within_budget": None,
        }  # fmt: skip
    least, most = int(hdr.min_value), int(hdr.max_value)
    line |= {"count": count, "min": least, "mean": round(float(hdr.get_mean_value()), 1)}
    for name, percentile in PERCENTILES.items():
        # A bucket's value is its upper end, 0.1 % wide; no percentile lies outside of what was seen.
        line[name] = max(least, min(most, int(hdr.get_value_at_percentile(percentile))))
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
