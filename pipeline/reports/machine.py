"""The machine a report was made on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launch.topology import Topology


def machine_document(topology: Topology) -> dict[str, Any]:
    """Processor, cores that could be used, kernel, versions."""
    return {
        "cpu": cpu_model(),
        "cores": len(topology.usable),
        "usable_cores": list(topology.usable),
        "isolated": sorted(topology.isolated),
        "quota_cores": topology.quota_cores,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": version("numba"),
        "pid": os.getpid(),
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
