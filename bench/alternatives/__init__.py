"""Designs that lost, beside what won, checked and timed alike: `python -m bench run alternatives`."""

from typing import Any

from bench.alternatives import handoff, histogram, ring, seqlock
from bench.harness import machine


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document. Ratios are the winner's cost over the alternative's: below 1, it won."""
    parts = [part.run(quick=quick) for part in (ring, seqlock, histogram, handoff)]
    return {
        "bench": "alternatives",
        "machine": machine(),
        "results": [row for part in parts for row in part["results"]],
        "ratios": {name: ratio for part in parts for name, ratio in part["ratios"].items()},
    }
