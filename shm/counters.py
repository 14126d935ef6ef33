"""Counters: an int64 each in the page of the process that alone writes it, and what it means.

A stage declares its counters once, as a tuple of `Counter`; the record dtype and reports derive from it, and so does
the run's catalogue (`shm.catalogue`), by which any tool finds and prints them.

Byte picture: the counters in the order of their declaration, 8 bytes each, padded to whole pairs of cache lines, so
that two writers' counters never share one. The writer's kernels count with a plain load and a plain store: aligned
words, which no reader sees torn, ordered with nothing. A reader may see two counters a moment apart. A writer that dies
leaves the last stored values; what it did and had not counted yet is not counted. Its successor goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shm.layout import align_up


@dataclass(frozen=True)
class Counter:
    """What one is called and means. `kind` is `counter` (only grows) or `gauge`."""

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
