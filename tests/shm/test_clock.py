"""The clock against CLOCK_MONOTONIC within the error it states, and the 128-bit arithmetic under it."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import clock, libc
from shm.atomics import JIT, cycles, cycles_ordered, leading_zeros, load_word, multiply_shift_32
from shm.clock import Pair, clock_between
from shm.kernel import kernel

CLOCK_MONOTONIC_RAW = 4


@kernel
def _multiply_shift(a: int, b: int) -> int:
    return multiply_shift_32(a, b)


@kernel
def _leading_zeros(value: int) -> int:
    return leading_zeros(value)


@given(a=st.integers(0, 2**55), b=st.integers(0, 2**34))
def test_products_wider_than_a_word_are_exact(a: int, b: int) -> None:
    expected = ((a * b) >> 32) & (2**64 - 1)
    assert int(_multiply_shift(a, b)) & (2**64 - 1) == expected


@given(value=st.integers(0, 2**63 - 1))
def test_leading_zeros_counts_from_the_top(value: int) -> None:
    assert _leading_zeros(value) == 64 - value.bit_length()


@kernel
def _cycles_to_ns(calibrated: np.ndarray, count: int) -> int:
    return clock.cycles_to_ns(calibrated, count)


@kernel
def _monotonic_now_monotonic(calibrated: np.ndarray, readings: np.ndarray) -> None:
    scratch = readings.ctypes.data + 24
    libc.clock_gettime(libc.CLOCK_MONOTONIC, scratch)
    readings[0] = load_word(scratch) * 1_000_000_000 + load_word(scratch + 8)
    readings[1] = clock.now_ns(calibrated)
    libc.clock_gettime(libc.CLOCK_MONOTONIC, scratch)
    readings[2] = load_word(scratch) * 1_000_000_000 + load_word(scratch + 8)


@kernel
def _monotonic_raw_monotonic(readings: np.ndarray) -> None:
    """The narrowest of many, so that its middle says where the raw clock was."""
    scratch = readings.ctypes.data + 24
    for attempt in range(clock.BRACKETS):
        libc.clock_gettime(libc.CLOCK_MONOTONIC, scratch)
        before = load_word(scratch) * 1_000_000_000 + load_word(scratch + 8)
        libc.clock_gettime(CLOCK_MONOTONIC_RAW, scratch)
        raw = load_word(scratch) * 1_000_000_000 + load_word(scratch + 8)
        libc.clock_gettime(libc.CLOCK_MONOTONIC, scratch)
        after = load_word(scratch) * 1_000_000_000 + load_word(scratch + 8)
        if attempt == 0 or after - before < readings[2] - readings[0]:
            readings[0], readings[1], readings[2] = before, raw, after


def _against_raw() -> Pair:
    """A pair whose counter is the raw clock's nanoseconds: no daemon makes that one run faster or slower."""
    readings = np.zeros(5, np.int64)
    _monotonic_raw_monotonic(readings)
    return Pair(int(readings[1]), int(readings[0]), int(readings[2]))


def test_the_clock_keeps_to_clock_monotonic_within_the_error_it_states() -> None:
    """Each stamp lies between two readings of CLOCK_MONOTONIC, give or take the stated error: however long it takes.

    What the wall clock's daemon changes in CLOCK_MONOTONIC's rate after the calibration is seen in the raw clock, and
    given to the clock under test.
    """
    readings = np.zeros(5, np.int64)
    _monotonic_now_monotonic(clock.calibrate(0.001), readings)
    _against_raw()
    raw_before = _against_raw()
    calibrated = clock.calibrate()
    raw_at_base = _against_raw()
    rate = clock_between(raw_before, raw_at_base)
    for _ in range(20):
        time.sleep(0.01)
        _monotonic_now_monotonic(calibrated, readings)
        before, ours, after = readings[:3].tolist()
        raw_now = _against_raw()
        since = clock_between(raw_at_base, raw_now)
        elapsed_ns = raw_now.middle_ns - raw_at_base.middle_ns
        changed = abs(clock.frequency_hz(since) / clock.frequency_hz(rate) - 1)
        known = (clock.rate_error_ppm(since) + clock.rate_error_ppm(rate)) / 1e6
        slewed_ns = elapsed_ns * changed if clock.USE_TSC and changed > known else 0
        error_ns = clock.error_ns(calibrated, ours) + slewed_ns
        assert before - error_ns <= ours <= after + error_ns, f"{before=} {ours=} {after=} {error_ns=}"


@given(
    hertz=st.one_of(st.integers(10_000_000, 5_000_000_000), st.just(2_596_138_200), st.just(1_000_000_000)),
    phase=st.fractions(0, 1),
    start_ns=st.integers(0, 2**60),
    elapsed_ns=st.integers(1_000_000, 10**9),
    widths=st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)),
    within=st.tuples(st.fractions(0, 1), st.fractions(0, 1)),
    later_ns=st.integers(0, 10**13),
)
def test_no_clock_is_further_off_than_its_calibration_says(
    hertz: int, phase: Fraction, start_ns: int, elapsed_ns: int, widths: tuple[int, int],
    within: tuple[Fraction, Fraction], later_ns: int,
) -> None:  # fmt: skip
    """In exact arithmetic, of a counter that runs at `hertz`, read anywhere within its bracket."""

    def count_at(moment_ns: Fraction) -> int:
        return int((moment_ns - start_ns) * hertz / 10**9 + phase)

    def pair(before_ns: int, width_ns: int, part: Fraction) -> Pair:
        return Pair(count_at(before_ns + part * (width_ns + 1)), before_ns, before_ns + width_ns)

    first = pair(start_ns, widths[0], within[0])
    last = pair(start_ns + 100_000 + elapsed_ns, widths[1], within[1])
    made = clock_between(first, last)
    base_cycles, base_ns, rate = (int(word) for word in made[:3])
    moment_ns = Fraction(last.after_ns + 1 + later_ns)
    ours = base_ns + ((count_at(moment_ns) - base_cycles) * rate >> 32)
    error_ns = clock.error_ns(made, ours, counted=True)
    assert abs(ours - moment_ns) <= error_ns
    rate_error = Fraction(clock.rate_error_ppm(made)) / 10**6
    assert abs(Fraction(clock.frequency_hz(made)) / hertz - 1) <= rate_error
    second_ns = int(_cycles_to_ns(made, hertz))
    assert abs(second_ns - 10**9) <= rate_error * second_ns + 1


def test_a_longer_calibration_states_a_smaller_error() -> None:
    pairs = [Pair(0, 0, 40), Pair(2_600_000, 1_000_000, 1_000_040), Pair(2_600_000_000, 1_000_000_000, 1_000_000_040)]
    short, long = (clock.rate_error_ppm(clock_between(pairs[0], last)) for last in pairs[1:])
    assert short == pytest.approx(2 * (20 + 1.5 + 0.385) / 1_000_000 * 1e6, rel=0.01)
    assert long == pytest.approx(short / 1000, abs=0.002)


def test_pairs_of_one_moment_make_no_clock() -> None:
    with pytest.raises(ValueError, match="elapsed_ns=0 elapsed_cycles=0"):
        clock_between(Pair(5, 0, 10), Pair(5, 0, 10))


def test_a_refusal_says_what_is_wrong() -> None:
    good = frozenset({"tsc", "constant_tsc", "nonstop_tsc"})
    assert clock.tsc_refusal(x86=True, jit=True, flags=good, sources=("kvm-clock", "tsc")) is None
    assert clock.tsc_refusal(x86=True, jit=True, flags=good, sources=None) is None
    refusals = [
        (clock.tsc_refusal(x86=False, jit=True, flags=good, sources=("tsc",)), "has none"),
        (clock.tsc_refusal(x86=True, jit=False, flags=good, sources=("tsc",)), "compiler is switched off"),
        (clock.tsc_refusal(x86=True, jit=True, flags=good - {"nonstop_tsc"}, sources=("tsc",)), "no nonstop_tsc in"),
        (clock.tsc_refusal(x86=True, jit=True, flags=frozenset(), sources=None), "no constant_tsc and no nonstop_tsc"),
        (clock.tsc_refusal(x86=True, jit=True, flags=good, sources=("hpet", "acpi_pm")), "hpet, acpi_pm"),
    ]
    for refusal, words in refusals:
        assert refusal is not None
        assert words in refusal


@kernel
def _count(counts: np.ndarray) -> None:
    for index in range(counts.size):
        counts[index] = cycles_ordered() if index & 1 else cycles()


def test_the_counter_only_grows_and_is_converted_to_the_time_it_took() -> None:
    counts = np.zeros(10_000, np.int64)
    calibrated = clock.calibrate(0.01)
    _count(counts)
    assert (np.diff(counts) >= 0).all()
    assert counts[-1] > counts[0], "a counter that stands still"
    start, first = time.monotonic_ns(), clock.read_pair()
    time.sleep(0.02)
    last, end = clock.read_pair(), time.monotonic_ns()
    took_ns = _cycles_to_ns(calibrated, last.cycles - first.cycles)
    # A thousandth: no daemon makes CLOCK_MONOTONIC run so much faster or slower than it ran for the calibration.
    assert 19_980_000 <= took_ns <= (end - start) * 1.001
    if not JIT:
        assert clock.frequency_hz(calibrated) == pytest.approx(1e9, rel=1e-4)


def test_the_clock_never_runs_backwards() -> None:
    calibrated = clock.calibrate(0.01)
    stamps = np.array([clock.read_now_ns(calibrated) for _ in range(1000)])
    assert (np.diff(stamps) >= 0).all()


def test_the_cost_of_a_read_is_measured() -> None:
    assert 0 < clock.read_cost_ns(clock.calibrate(0.01), reads=200) < 100_000
