"""Counters: a catalogue entry each (name, unit, kind, help), an int64 in the writer's page each.

A stage declares its counters once, as a tuple of `Counter`; the record dtype, reports and exporters derive from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shm.layout import align_up


@dataclass(frozen=True)
class Counter:
    """One catalogue entry. `kind` is `counter` (only grows) or `gauge`."""

    name: str
    help: str
    unit: str = "1"
    kind: Literal["counter", "gauge"] = "counter"


def counters_dtype(catalogue: Sequence[Counter]) -> np.dtype:
    """A record with one int64 per entry, padded to whole cache lines. Raises ValueError on a repeated name."""
    names = [counter.name for counter in catalogue]
    if len(set(names)) != len(names):
        raise ValueError(f"counter names repeat: {sorted(name for name in names if names.count(name) > 1)}")
    spec = {
        "names": names,
        "formats": ["<i8"] * len(names),
        "offsets": [8 * index for index in range(len(names))],
        "itemsize": align_up(8 * len(names), 128),
        "aligned": True,
    }
    return np.dtype(spec)  # type: ignore[call-overload]  # numpy types this form too narrowly
