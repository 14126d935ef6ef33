"""The machine a report was made on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launch.host.topology import Topology
from shm import clock as clocks


def machine_document(topology: Topology) -> dict[str, Any]:
    """Processor, cores that could be used, kernel, versions."""
    return {
        "cpu": cpu_model(),
        "cores": topology.core_limit,
        "usable_cores": list(topology.usable),
        "isolated": sorted(topology.isolated),
        "quota_cores": topology.quota_cores,
        "topology": topology.document(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": version("numba"),
        "pid": os.getpid(),
    }


def clock_document(clock: NDArray[np.int64]) -> dict[str, Any]:
    """What the stamps of a run were read from, and how far they may be off; figures are null when there is no error."""
    counted = clocks.TSC_REFUSAL is None
    return {
        "source": "tsc" if counted else "clock_gettime",
        "tsc_refused": clocks.TSC_REFUSAL,
        "frequency_hz": round(clocks.frequency_hz(clock)) if counted else None,
        "rate_error_ppm": clocks.rate_error_ppm(clock) if counted else None,
        "base_error_ns": int(clock[clocks.BASE_ERROR_NS]) if counted else None,
    }


def cpu_model(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as the kernel gives it."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Processor"):
            return value.strip()
    return platform.machine()
