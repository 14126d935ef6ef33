"""Designs that lost, beside what won, checked and timed alike: `python -m bench run alternatives`."""

from typing import Any

from bench.alternatives import (
    handoff,
    histogram,
    level_by_tree,
    levels_by_table,
    order_index,
    picked_look,
    ring,
    searched_again,
    seqlock,
    small_pages,
)
from bench.harness import machine


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document. Ratios are the winner's cost over the alternative's: below 1, it won."""
    books = (order_index, level_by_tree, levels_by_table, picked_look, searched_again, small_pages)
    modules = (ring, seqlock, histogram, handoff, *books)
    parts = [module.run(quick=quick) for module in modules]
    return {
        "bench": "alternatives",
        "machine": machine(),
        "results": [row for part in parts for row in part["results"]],
        "ratios": {name: ratio for part in parts for name, ratio in part["ratios"].items()},
    }
