"""Time: the TSC calibrated against CLOCK_MONOTONIC, read by kernels and by cold code alike.

A clock is an int64 array that its process owns (CLOCK_WORDS words): the calibration with its error, and scratch for the
fallback. `now_ns` is on CLOCK_MONOTONIC's scale, so stamps of different processes compare, provided they share one
calibration: the launcher calibrates once and hands the array on.

The error. A pair is a reading of the cycle counter between two of CLOCK_MONOTONIC, taken to be at their middle; it is
off by half their distance at most, and by what the readings themselves are rounded by. The rate is measured from one
pair to another, so it is off by the sum of both errors over the time in between; `now_ns` is off by the second pair's
error, and by the rate's for each nanosecond since. `rate_error_ppm` and `error_ns` say how much that is: bounds, not
deviations, for as long as CLOCK_MONOTONIC runs as it did meanwhile. (The wall clock's daemon may make it run faster or
slower later, by some ppm as a rule; the TSC does not follow. No latency here is long enough for that to be seen.)

Where the TSC is not invariant (`tsc_refusal` says why), or on other machines, `now_ns` asks clock_gettime instead, and
has no error. That costs 23 ns in place of 10 on the machine of the README, where the C library can read the counter for
it, and a system call of some hundred where it cannot. `read_cost_ns` says what a read costs here; reports print it.

Which read: `now_ns` for stamps. `cycles` for intervals in compiled loops, converted by `cycles_to_ns` when the loop is
over. `cycles_ordered` where what is timed takes less than some hundred cycles. None of them waits for stores.
"""

import math
import platform
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm import libc
from shm.atomics import IS_X86, JIT, cycles, cycles_ordered, load_word, multiply_shift_32
from shm.kernel import kernel, primitive
from shm.processor import CLOCK_SOURCES, CPU_FLAGS, CPUINFO

CLOCK_WORDS = 8
BASE_CYCLES, BASE_NS, NS_PER_CYCLE_32, REALTIME_OFFSET_NS, TIMESPEC = 0, 1, 2, 3, 4
BASE_ERROR_NS, RATE_ERROR_PPB = 6, 7


def tsc_refusal(
    *,
    x86: bool = IS_X86,
    jit: bool = JIT,
    flags: frozenset[str] = CPU_FLAGS,
    sources: tuple[str, ...] | None = CLOCK_SOURCES,
) -> str | None:
    """Why `now_ns` cannot be the TSC, in words; None when it ticks at one rate, on all cores and through idle states.

    A kernel that found the TSC unstable takes it off its clock sources. Virtual machines may prefer kvm-clock, which
    itself reads the TSC, but still list it.
    """
    if not x86:
        return f"a machine of type {platform.machine()} has none"
    if not jit:
        return "the compiler is switched off"
    missing = [flag for flag in ("constant_tsc", "nonstop_tsc") if flag not in flags]
    if missing:
        return f"the processor does not promise that it runs evenly: no {' and no '.join(missing)} in {CPUINFO}"
    if sources is not None and "tsc" not in sources:
        return f"the kernel does not trust it: its clock sources are {', '.join(sources)}"
    return None


TSC_REFUSAL = tsc_refusal()
USE_TSC = TSC_REFUSAL is None
"""Decided once per machine: compiled into kernels, and so part of the key of the kernel cache."""


@primitive
def _monotonic_ns(timespec: int) -> int:
    libc.clock_gettime(libc.CLOCK_MONOTONIC, timespec)
    return load_word(timespec) * 1_000_000_000 + load_word(timespec + 8)


@primitive
def now_ns(clock: NDArray[np.int64]) -> int:
    """Nanoseconds on CLOCK_MONOTONIC's scale; `clock` is the int64 array of `calibrate`."""
    if USE_TSC:
        return clock[BASE_NS] + multiply_shift_32(cycles() - clock[BASE_CYCLES], clock[NS_PER_CYCLE_32])
    return _monotonic_ns(clock.ctypes.data + 8 * TIMESPEC)


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


BRACKETS = 64
"""Tries for one pair, of which the narrowest counts: 40 ns wide, and as many µs when the machine is called away."""

_CYCLES, _BEFORE, _AFTER, _SCRATCH, _PAIR_WORDS = 0, 1, 2, 3, 5


@kernel
def _read_pair(words: NDArray[np.int64]) -> None:
    scratch = words.ctypes.data + 8 * _SCRATCH
    for attempt in range(BRACKETS):
        before = _monotonic_ns(scratch)
        count = cycles_ordered()
        after = _monotonic_ns(scratch)
        if attempt == 0 or after - before < words[_AFTER] - words[_BEFORE]:
            words[_CYCLES], words[_BEFORE], words[_AFTER] = count, before, after


class Pair(NamedTuple):
    """One moment on both scales: within [before_ns, after_ns + 1) the counter was at `cycles`."""

    cycles: int
    before_ns: int
    after_ns: int

    @property
    def middle_ns(self) -> int:
        """The moment, as far as it is known."""
        return (self.before_ns + self.after_ns) // 2

    def error_ns(self, cycle_ns: float) -> float:
        """How far it may have been from the middle. All three readings are rounded down, and so is the middle."""
        return (self.after_ns - self.before_ns) / 2 + 1.5 + cycle_ns


def read_pair() -> Pair:
    """The narrowest of BRACKETS pairs."""
    words = np.zeros(_PAIR_WORDS, np.int64)
    _read_pair(words)
    return Pair(*words[: _AFTER + 1].tolist())


def calibrate(seconds: float = 0.05) -> NDArray[np.int64]:
    """A clock array for this machine. Takes `seconds`: the longer, the smaller is the rate's error."""
    read_pair()  # compiled now, not within the measurement
    first = read_pair()
    time.sleep(seconds)
    clock = clock_between(first, read_pair())
    set_realtime_offset(clock)
    return clock


def clock_between(first: Pair, last: Pair) -> NDArray[np.int64]:
    """The calibration that two pairs make, with its error. Raises ValueError when no time passed between them."""
    elapsed_ns, elapsed_cycles = last.middle_ns - first.middle_ns, last.cycles - first.cycles
    if elapsed_ns <= 0 or elapsed_cycles <= 0:
        raise ValueError(f"elapsed_ns={elapsed_ns} elapsed_cycles={elapsed_cycles}: pairs of one moment, or exchanged")
    clock = np.zeros(CLOCK_WORDS, np.int64)
    clock[BASE_CYCLES], clock[BASE_NS] = last.cycles, last.middle_ns
    clock[NS_PER_CYCLE_32] = rate = (elapsed_ns << 32) // elapsed_cycles
    cycle_ns = elapsed_ns / elapsed_cycles
    both_ns = first.error_ns(cycle_ns) + last.error_ns(cycle_ns)
    clock[BASE_ERROR_NS] = math.ceil(last.error_ns(cycle_ns)) + 1  # `now_ns` is rounded down
    clock[RATE_ERROR_PPB] = math.ceil(1e9 * (both_ns / elapsed_ns + 1 / rate))  # so is the rate
    return clock


@primitive
def cycles_to_ns(clock: NDArray[np.int64], count: int) -> int:
    """How long `count` >= 0 cycles take, rounded down. Measured where `now_ns` does not use the counter, too."""
    return multiply_shift_32(count, clock[NS_PER_CYCLE_32])


def frequency_hz(clock: NDArray[np.int64]) -> float:
    """How often a second the counter ticks that `cycles` reads."""
    return 1e9 * 2**32 / int(clock[NS_PER_CYCLE_32])


def rate_error_ppm(clock: NDArray[np.int64]) -> float:
    """By how much the frequency may be wrong, in millionths of it."""
    return int(clock[RATE_ERROR_PPB]) / 1000


def error_ns(clock: NDArray[np.int64], stamp_ns: int, *, counted: bool = USE_TSC) -> float:
    """How far a stamp may be from CLOCK_MONOTONIC, had that run as it did while the clock was calibrated."""
    if not counted:
        return 0.0
    return int(clock[BASE_ERROR_NS]) + abs(stamp_ns - int(clock[BASE_NS])) * int(clock[RATE_ERROR_PPB]) / 1e9


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
