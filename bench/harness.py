"""What every benchmark prints and uses: the machine, the distance between two cores, slices compared pair by pair."""

import ctypes
import mmap
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from shm.atomics import cycles, load_acquire, pause, store_release
from shm.clock import calibrate, now_ns
from shm.kernel import kernel

_PR_SET_PDEATHSIG = 1


@kernel
def _pong(address: int, rounds: int) -> None:
    for number in range(1, rounds + 1):
        while load_acquire(address) < number:
            pause()
        store_release(address + 128, number)


@kernel
def _ping(address: int, rounds: int, clock: np.ndarray) -> int:
    start = now_ns(clock)
    for number in range(1, rounds + 1):
        store_release(address, number)
        while load_acquire(address + 128) < number:
            pause()
    return now_ns(clock) - start


def raw_line_rtt_ns(rounds: int = 20_000) -> float | None:
    """Round trip of one word between the first two cores this process may use, None when there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    memory = mmap.mmap(-1, 4096)
    words = np.frombuffer(memory, np.int64)
    address = int(words.ctypes.data)
    clock = calibrate(0.02)
    _pong(address, 0)
    _ping(address, 0, clock)
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {cores[1]})
        _pong(address, rounds)
        os._exit(0)
    os.sched_setaffinity(0, {cores[0]})
    try:
        return float(_ping(address, rounds, clock)) / rounds
    finally:
        os.waitpid(child, 0)
        os.sched_setaffinity(0, cores)


def die_with(parent: int) -> None:
    """In a forked child: be killed when the process `parent` ends, however it ends; Ctrl-C is for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@kernel
def _read_cycles() -> int:
    return cycles()


def ns_per_cycle(seconds: float = 0.05) -> float:
    """Length of one tick of the counter that kernels and C++ references read."""
    _read_cycles()
    before, first = time.monotonic_ns(), int(_read_cycles())
    time.sleep(seconds)
    after, last = time.monotonic_ns(), int(_read_cycles())
    return (after - before) / (last - first)


def machine() -> dict[str, Any]:
    """The `machine` part of a benchmark document."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "isolated": _read("/sys/devices/system/cpu/isolated"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "python": platform.python_version(),
        "numba": version("numba"),
        "raw_line_rtt_ns": raw_line_rtt_ns(),
    }


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def _cpu_name() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def quantiles(samples: Sequence[float], prefix: str) -> dict[str, float]:
    """p50, p99, p99.9 and max of `samples`, rounded to ns, keys `<prefix>_p50` and so on, with the count."""
    values = np.sort(np.asarray(samples, np.float64))
    at = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    result = {f"{prefix}_{name}": round(float(np.quantile(values, q))) for name, q in at.items()}
    return result | {f"{prefix}_max": round(float(values[-1])), "samples": len(values)}


def ratio(ours: Sequence[float], peer: Sequence[float]) -> dict[str, float]:
    """Ours over the peer's, slice by slice: the median and its range, to four digits (some are below a thousandth)."""
    pairs = [a / b for a, b in zip(ours, peer, strict=True)]
    found = {"median": statistics.median(pairs), "low": min(pairs), "high": max(pairs)}
    return {name: float(f"{value:.4g}") for name, value in found.items()} | {"slices": len(pairs)}


def over_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure's median over runs, and beside it `<figure>_low` and `<figure>_high`."""
    result: dict[str, float] = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        result[name] = round(statistics.median(values), 2)
        result |= {f"{name}_low": round(min(values), 2), f"{name}_high": round(max(values), 2)}
    return result


@contextmanager
def compiled_reference(source: Path, *flags: str) -> Iterator[Path | None]:
    """The C++ reference `source`, built with g++ -O3 in a temporary folder; None where there is no g++."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / source.stem
        command = ["g++", "-O3", "-march=native", *flags, "-o", program, source]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            yield None
            return
        yield program
