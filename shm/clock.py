"""Time: the TSC calibrated against CLOCK_MONOTONIC, read by kernels and by cold code alike.

A clock is an int64 array that its process owns (CLOCK_WORDS words): the calibration, then scratch for the fallback.
`now_ns` is on CLOCK_MONOTONIC's scale, so stamps of different processes compare, provided they share one calibration:
the launcher calibrates once and hands the array on.

Where the TSC is not invariant, or on other machines, `now_ns` asks clock_gettime instead; `read_cost_ns` says what a
read costs either way, and reports print it.
"""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shm import libc
from shm.atomics import IS_X86, JIT, cycles, load_word, multiply_shift_32
from shm.kernel import kernel, primitive

CLOCK_WORDS = 8
BASE_CYCLES, BASE_NS, NS_PER_CYCLE_32, REALTIME_OFFSET_NS, TIMESPEC = 0, 1, 2, 3, 4

CLOCKSOURCES = Path("/sys/devices/system/clocksource/clocksource0")


def tsc_is_usable() -> bool:
    """True when the TSC ticks at one rate on all cores and through idle states, and the kernel has not rejected it."""
    if not (IS_X86 and JIT):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    if "constant_tsc" not in flags or "nonstop_tsc" not in flags:
        return False
    try:
        # A kernel that found the TSC unstable takes it off this list. Virtual machines may prefer kvm-clock, which
        # itself reads the TSC, but still list it.
        return "tsc" in (CLOCKSOURCES / "available_clocksource").read_text(encoding="ascii").split()
    except OSError:
        return True


USE_TSC = tsc_is_usable()
"""Decided once per machine: compiled into kernels, and so part of the key of the kernel cache."""


@kernel
def _read_cycles() -> int:
    return cycles()


@primitive
def now_ns(clock: NDArray[np.int64]) -> int:
    """Nanoseconds on CLOCK_MONOTONIC's scale; `clock` is the int64 array of `calibrate`."""
    if USE_TSC:
        return clock[BASE_NS] + multiply_shift_32(cycles() - clock[BASE_CYCLES], clock[NS_PER_CYCLE_32])
    timespec = clock.ctypes.data + 8 * TIMESPEC
    libc.clock_gettime(libc.CLOCK_MONOTONIC, timespec)
    return load_word(timespec) * 1_000_000_000 + load_word(timespec + 8)


@kernel
def read_now_ns(clock: NDArray[np.int64]) -> int:
    """`now_ns` for callers in ordinary Python."""
    return now_ns(clock)


@kernel
def _read_many(clock: NDArray[np.int64], count: int) -> int:
    total = 0
    for _ in range(count):
        total += now_ns(clock)
    return total


def _pair() -> tuple[int, int]:
    """(cycles, monotonic ns) read as close together as ten tries allow."""
    best = None
    for _ in range(10):
        before = time.monotonic_ns()
        tick = int(_read_cycles())
        after = time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = (after - before, tick, (before + after) // 2)
    assert best is not None
    return best[1], best[2]


def calibrate(seconds: float = 0.05) -> NDArray[np.int64]:
    """A clock array for this machine. Takes `seconds`; the rate's error is about 100 ns / `seconds`."""
    clock = np.zeros(CLOCK_WORDS, np.int64)
    if USE_TSC:
        _pair()  # compiled now, not within the measurement
        first_cycles, first_ns = _pair()
        time.sleep(seconds)
        last_cycles, last_ns = _pair()
        clock[BASE_CYCLES], clock[BASE_NS] = last_cycles, last_ns
        clock[NS_PER_CYCLE_32] = ((last_ns - first_ns) << 32) // (last_cycles - first_cycles)
    set_realtime_offset(clock)
    return clock


def set_realtime_offset(clock: NDArray[np.int64]) -> None:
    """Note how far CLOCK_REALTIME is ahead of `now_ns`; housekeeping repeats it.

    Not ahead of CLOCK_MONOTONIC: that is slewed with the wall clock and the TSC is not, so at 2 ppm an order's
    timestamp would be a second off after six days.
    """
    clock[REALTIME_OFFSET_NS] = time.time_ns() - int(read_now_ns(clock))


def read_cost_ns(clock: NDArray[np.int64], reads: int = 20_000) -> float:
    """What one `now_ns` costs on this machine, the least of five rounds."""
    _read_many(clock, 1)
    rounds = []
    for _ in range(5):
        start = time.monotonic_ns()
        _read_many(clock, reads)
        rounds.append((time.monotonic_ns() - start) / reads)
    return min(rounds)
