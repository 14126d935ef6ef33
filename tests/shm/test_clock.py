"""The clock against CLOCK_MONOTONIC, and the 128-bit arithmetic under it."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shm import clock
from shm.atomics import leading_zeros, multiply_shift_32
from shm.kernel import kernel


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


def test_the_clock_runs_with_clock_monotonic() -> None:
    calibrated = clock.calibrate()
    before = time.monotonic_ns()
    ours = int(clock.read_now_ns(calibrated))
    after = time.monotonic_ns()
    # Within the calibration's error: generous, for a virtual machine whose host may stop it anywhere in between.
    assert before - 2_000_000 <= ours <= after + 2_000_000


def test_the_clock_never_runs_backwards() -> None:
    calibrated = clock.calibrate(0.01)
    stamps = np.array([clock.read_now_ns(calibrated) for _ in range(1000)])
    assert (np.diff(stamps) >= 0).all()


def test_the_cost_of_a_read_is_measured() -> None:
    assert 0 < clock.read_cost_ns(clock.calibrate(0.01), reads=200) < 100_000
