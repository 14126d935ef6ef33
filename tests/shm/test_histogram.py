"""The shared histogram against the hdrhistogram package: counts bit by bit, whoever dies at whichever store."""

import os
import signal
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shm import histogram
from shm.atomics import JIT, load_acquire
from shm.histogram import BUCKET_COUNT, HIGHEST_NS, HISTOGRAM, Histogram, merged, since, to_hdr
from shm.kernel import kernel
from shm.segment import Segment, record_layout, unlink
from tests.shm.interleavings.source import Program

POWERS = [2**exponent for exponent in range(1, 36)]
EDGES = sorted({0, 1, 2047, 2048, HIGHEST_NS - 1, HIGHEST_NS, *(p + d for p in POWERS for d in (-1, 0, 1))})
VALUES = st.one_of(st.integers(0, 5000), st.integers(0, HIGHEST_NS), st.sampled_from(EDGES))
ANY_VALUES = st.one_of(VALUES, st.integers(-(2**63), 2**63 - 1))


class Own:
    """A histogram in private memory and the face of it."""

    def __init__(self) -> None:
        self.words = np.zeros(1, HISTOGRAM)
        self.face = Histogram(self.words.ctypes.data)

    @property
    def counts(self) -> list[int]:
        return list(self.words[0]["counts"].tolist())

    def scalars(self) -> tuple[int, ...]:
        return tuple(int(self.words[0][name]) for name in ("total_count", "min", "max", "saturated"))


def package() -> HdrHistogram:
    return HdrHistogram(1, HIGHEST_NS, histogram.SIGNIFICANT_DIGITS)


def counts_of(theirs: HdrHistogram) -> list[int]:
    assert theirs.counts_len == BUCKET_COUNT
    return list(theirs.counts)


def recorded(values: Sequence[int]) -> tuple[Own, HdrHistogram]:
    """Both with these values, within the limits for the package: it has no way to say that one was not."""
    ours, theirs = Own(), package()
    for value in values:
        ours.face.record(value)
        assert theirs.record_value(limited(value))
    return ours, theirs


def limited(value: int) -> int:
    return max(0, min(value, HIGHEST_NS))


@settings(max_examples=60 if JIT else 10)
@given(values=st.lists(VALUES, min_size=1, max_size=200))
def test_counts_and_percentiles_are_those_of_the_hdrhistogram_package(values: list[int]) -> None:
    ours, theirs = recorded(values)
    assert ours.counts == counts_of(theirs)
    converted = to_hdr(ours.words[0])
    for percentile in (0, 50, 90, 99, 99.9, 100):
        assert converted.get_value_at_percentile(percentile) == theirs.get_value_at_percentile(percentile)
    assert ours.scalars() == (len(values), min(values), max(values), 0)
    assert ours.face.total_count == len(values)


@pytest.mark.parametrize("value", EDGES)
def test_an_edge_is_counted_where_the_package_counts_it(value: int) -> None:
    ours, theirs = recorded([value])
    assert ours.counts == counts_of(theirs)
    assert ours.scalars() == (1, value, value, 0)


@given(values=st.lists(ANY_VALUES, min_size=1, max_size=30))
def test_values_outside_the_range_are_counted_at_its_ends(values: list[int]) -> None:
    ours, theirs = recorded(values)
    assert ours.counts == counts_of(theirs)
    ends = [limited(value) for value in values]
    assert ours.scalars() == (len(values), min(ends), max(ends), sum(value > HIGHEST_NS for value in values))
    assert ours.face.saturated == ours.scalars()[3]


def test_integers_that_no_word_holds_are_outside_the_range_too() -> None:
    ours = Own()
    for value in (-(2**70), 2**70):
        ours.face.record(value)
    ours.face.record_corrected(2**70, 2**70)
    assert ours.scalars() == (3, 0, HIGHEST_NS, 2)


@kernel
def _bounds(value: int, bounds: np.ndarray) -> None:
    bucket = histogram.bucket_of(value)
    bounds[0], bounds[1] = histogram.lowest_value(bucket), histogram.lowest_value(bucket + 1) - 1


@given(value=VALUES)
def test_a_bucket_begins_and_ends_where_the_packages_does(value: int) -> None:
    bounds, theirs = np.zeros(2, np.int64), package()
    _bounds(value, bounds)
    assert bounds.tolist() == [theirs.get_lowest_equivalent_value(value), theirs.get_highest_equivalent_value(value)]


# --- coordinated omission --------------------------------------------------------------------------------------------


@st.composite
def stalls(draw: st.DrawFn) -> tuple[int, int]:
    """(value, expected interval) of at most some hundred samples, since the package records them one by one."""
    interval = draw(st.one_of(st.integers(-2, 3000), st.integers(1, HIGHEST_NS), st.sampled_from(EDGES)))
    most = min(HIGHEST_NS, 300 * interval) if interval > 0 else HIGHEST_NS
    return draw(st.one_of(st.integers(0, most), st.sampled_from([e for e in EDGES if e <= most]))), interval


@given(samples=st.lists(stalls(), min_size=1, max_size=5))
def test_what_a_stall_kept_from_being_measured_is_counted_as_the_package_counts_it(
    samples: list[tuple[int, int]],
) -> None:
    ours, theirs = Own(), package()
    for value, interval in samples:
        ours.face.record_corrected(value, interval)
        assert theirs.record_corrected_value(value, interval)
    assert ours.counts == counts_of(theirs)
    assert ours.scalars() == (theirs.total_count, theirs.min_value, theirs.max_value, 0)


@given(stall=stalls())
def test_java_leaves_out_a_last_value_below_the_interval(stall: tuple[int, int]) -> None:
    value, interval = stall
    ours, java = Own(), [value]
    ours.face.record_corrected(value, interval)
    if interval > 0:
        java += range(value - interval, interval - 1, -interval)
        if value > interval and value % interval:
            java.append(value % interval)
    assert ours.counts == counts_of(recorded(java)[1])


@pytest.mark.parametrize("interval", [1, 2, 3, 1000, 65_537, 10**9, HIGHEST_NS - 1, HIGHEST_NS])
@pytest.mark.parametrize("value", [2049, 10**9 + 7, HIGHEST_NS])
def test_a_correction_of_billions_of_samples_is_exact_and_takes_no_longer_than_there_are_buckets(
    value: int, interval: int
) -> None:
    ours, theirs = Own(), package()
    ours.face.record_corrected(value, interval)

    def up_to(limit: int) -> int:
        """How many of value, value - interval, ... are positive and at most `limit`."""
        greatest = value - max(0, -(-(value - limit) // interval)) * interval
        return -(-greatest // interval) if greatest > 0 else 0

    starts = [theirs.get_value_from_index(index) for index in range(BUCKET_COUNT + 1)]
    below = [up_to(start - 1) for start in starts]
    assert ours.counts == np.diff(below).tolist()
    assert ours.scalars() == (-(-value // interval), (value - 1) % interval + 1, value, 0)


@given(value=st.integers(HIGHEST_NS + 1, 2**63 - 1), interval=st.integers(10**8, 2**63 - 1))
def test_a_stall_above_the_highest_is_corrected_as_if_it_were_the_highest(value: int, interval: int) -> None:
    ours, theirs = Own(), package()
    ours.face.record_corrected(value, interval)
    theirs.record_corrected_value(HIGHEST_NS, interval)
    assert ours.counts == counts_of(theirs)
    assert ours.scalars() == (theirs.total_count, theirs.min_value, HIGHEST_NS, 1)


# --- merging ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40 if JIT else 8)
@given(parts=st.lists(st.lists(ANY_VALUES, max_size=40), max_size=5))
def test_a_merged_histogram_is_that_of_all_samples(parts: list[list[int]]) -> None:
    made = [recorded(part) for part in parts]
    target, theirs = Own(), package()
    for (ours, other), part in zip(made, parts, strict=True):
        assert target.face.add(ours.face) == len(part)
        theirs.add(other)
    everything, _ = recorded([value for part in parts for value in part])
    assert target.counts == counts_of(theirs) == everything.counts
    assert target.scalars() == everything.scalars()
    again = merged([ours.words[0] for ours, _ in made])
    assert again.tobytes() == target.words.tobytes()
    assert target.face.copy().tobytes() == target.words.tobytes()
    assert merged([again]).tobytes() == again.tobytes()


def test_a_histogram_added_to_itself_has_every_sample_twice() -> None:
    ours, _ = recorded([3, 5000, HIGHEST_NS + 1])
    ours.face.add(ours.face)
    assert ours.counts == recorded([3, 5000, HIGHEST_NS] * 2)[0].counts
    assert ours.scalars() == (6, 3, HIGHEST_NS, 2)


@given(earlier=st.lists(ANY_VALUES, max_size=30), later=st.lists(ANY_VALUES, max_size=30))
def test_what_came_between_two_copies_is_their_difference(earlier: list[int], later: list[int]) -> None:
    ours, _ = recorded(earlier)
    before = ours.face.copy()
    for value in later:
        ours.face.record(value)
    came = since(before[0], ours.words[0])
    expected, theirs = recorded(later)
    assert came[0]["counts"].tolist() == expected.counts
    assert (int(came[0]["total_count"]), int(came[0]["saturated"])) == (len(later), expected.scalars()[3])
    assert to_hdr(came[0]).get_min_value() == theirs.get_min_value()
    assert to_hdr(came[0]).get_max_value() == theirs.get_max_value()


def test_copies_in_the_wrong_order_are_refused() -> None:
    ours, _ = recorded([7])
    with pytest.raises(ValueError, match="bucket 7 lost 1 samples"):
        since(ours.words[0], np.zeros(1, HISTOGRAM)[0])


# --- deaths ----------------------------------------------------------------------------------------------------------


RECORDERS = {name: Program()("shm.histogram", name) for name in ("record", "record_corrected")}


def stores_of(name: str, words: np.ndarray, *arguments: int, most: int = 1 << 60) -> int:
    """Run the primitive's own source on `words`, killed before store number `most`; how many stores it made."""
    base, memory, made = 1 << 20, words.view(np.int64), 0
    coroutine = RECORDERS[name](base, *arguments)
    answer = None
    while True:
        try:
            event, *operands = coroutine.send(answer)  # type: ignore[arg-type]  # None starts it
        except StopIteration:
            return made
        answer = 0
        if event == "leading_zeros":
            answer = 64 - operands[0].bit_length()
        elif event.startswith("load"):
            answer = int(memory[(operands[0] - base) // 8])
        else:
            if made == most:
                return made
            memory[(operands[0] - base) // 8] = operands[1]
            made += 1


def alone(name: str, *arguments: int) -> Own:
    ours = Own()
    getattr(ours.face, name)(*arguments)
    return ours


@settings(max_examples=25 if JIT else 5)
@given(
    before=st.lists(ANY_VALUES, max_size=3),
    fatal=st.one_of(
        st.tuples(st.just("record"), st.tuples(ANY_VALUES)),
        st.tuples(st.just("record_corrected"), stalls().filter(lambda stall: stall[0] <= 30 * stall[1])),
    ),
    after=st.lists(ANY_VALUES, max_size=3),
)
def test_a_writer_killed_at_any_store_costs_its_last_samples_and_no_reader_is_misled(
    before: list[int], fatal: tuple[str, tuple[int, ...]], after: list[int]
) -> None:
    name, arguments = fatal
    most_lost = sum(alone(name, *arguments).counts)
    for most in range(stores_of(name, recorded(before)[0].words, *arguments) + 1):
        ours, survived = recorded(before)[0], Own()
        stores_of(name, ours.words, *arguments, most=most)
        for value in after:
            ours.face.record(value)
        read = to_hdr(ours.words[0])
        survived.face.add(ours.face)
        certain = recorded([*before, *after])[0]
        extra = np.array(ours.counts) - certain.counts
        assert (extra >= 0).all()
        assert sum(extra) <= most_lost
        assert ours.scalars()[0] <= sum(ours.counts) == read.total_count == survived.scalars()[0]
        assert survived.counts == ours.counts == counts_of(read)
        occupied = np.nonzero(ours.counts)[0]
        if len(occupied):
            assert read.get_counts_array_index(read.min_value) == occupied[0]
            assert read.get_counts_array_index(read.max_value) == occupied[-1]
            assert (read.min_value, read.max_value) == survived.scalars()[1:3]
            assert counts_of(HdrHistogram.decode(read.encode())) == ours.counts


@kernel
def _record_many(base: int, values: np.ndarray, count: int) -> None:
    for _ in range(count):
        for index in range(values.size):
            histogram.record(base, values[index])


@kernel
def _total(base: int) -> int:
    return load_acquire(base + histogram.TOTAL)


@pytest.mark.skipif(not JIT, reason="two processes at speed need compiled code")
def test_copies_of_a_live_histogram_are_consistent_while_writers_are_killed_and_replaced(
    until: Callable[..., None],
) -> None:
    name, layout = f"tickpipe.test-{os.getpid()}.histogram", record_layout(HISTOGRAM)
    values = np.array([17, 2047, 2048, 3_000, 1_000_000, HIGHEST_NS])
    mine = recorded(values.tolist())[0].words
    occupied = mine[0]["counts"] > 0
    _record_many(mine.ctypes.data, values, 0)
    with Segment.create(name, layout) as segment, Segment.attach(name, layout) as watched:
        face = Histogram(watched.address)
        _total(watched.address)
        seen = face.copy()
        try:
            for _ in range(6):
                started = face.total_count
                child = os.fork()
                if child == 0:
                    address = Segment.attach(name, layout, writable=True).address
                    while True:
                        _record_many(address, values, 100_000)
                try:

                    def progress(started: int = started) -> bool:
                        nonlocal seen
                        total, copy = _total(watched.address), face.copy()
                        assert total <= copy[0]["total_count"] == copy[0]["counts"].sum()
                        assert not copy[0]["counts"][~occupied].any(), "a value that nobody recorded"
                        since(seen[0], copy[0])
                        seen = copy
                        return int(total) - started > 500_000

                    until(progress, what="500,000 samples recorded")
                finally:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
            counts = segment.view(HISTOGRAM)[0]["counts"][occupied]
            assert counts.max() - counts.min() <= 6, "each death costs one sample of one value at most"
            assert 0 <= counts.sum() - face.total_count <= 6
        finally:
            unlink(name)


class HistogramMachine(RuleBasedStateMachine):
    """Two histograms, recorded into and added to each other, beside two of the package."""

    @initialize()
    def make(self) -> None:
        self.ours, self.theirs = [Own(), Own()], [package(), package()]
        self.saturated = [0, 0]

    @rule(which=st.integers(0, 1), value=ANY_VALUES)
    def record(self, which: int, value: int) -> None:
        self.ours[which].face.record(value)
        self.theirs[which].record_value(limited(value))
        self.saturated[which] += value > HIGHEST_NS

    @rule(which=st.integers(0, 1), stall=stalls())
    def record_corrected(self, which: int, stall: tuple[int, int]) -> None:
        self.ours[which].face.record_corrected(*stall)
        self.theirs[which].record_corrected_value(*stall)

    @rule(into=st.integers(0, 1), source=st.integers(0, 1))
    def add(self, into: int, source: int) -> None:
        added = package()
        added.add(self.theirs[source])  # a copy: the package does not add one to itself
        assert self.ours[into].face.add(self.ours[source].face) == added.get_total_count()
        self.theirs[into].add(added)
        self.saturated[into] += self.saturated[source]

    @invariant()
    def both_hold_the_same(self) -> None:
        for ours, theirs, saturated in zip(self.ours, self.theirs, self.saturated, strict=True):
            assert ours.counts == counts_of(theirs)
            total = theirs.get_total_count()
            assert (ours.face.total_count, ours.face.saturated) == (total, saturated)
            if total:
                read = to_hdr(ours.words[0])
                assert read.get_value_at_percentile(50) == theirs.get_value_at_percentile(50)


def test_histograms_do_what_the_packages_do() -> None:
    examples = 12 if JIT else 3
    run_state_machine_as_test(HistogramMachine, settings=settings(max_examples=examples, stateful_step_count=12))  # type: ignore[no-untyped-call]
