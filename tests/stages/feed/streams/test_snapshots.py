"""The weight limit and the back-off of snapshot requests, on a clock of the test's own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.feed.context import WANTED
from stages.feed.settings import FeedSettings
from stages.feed.streams.snapshot_desk import SnapshotDesk
from stages.feed.streams.snapshots import WINDOW_NS, Backoff, WeightBudget, weight_of
from tests.stages.feed.stepped import Stepped


@given(moments=st.lists(st.integers(0, 20_000_000_000), max_size=200), limit=st.sampled_from([250, 600, 6_000]))
def test_no_window_of_a_minute_holds_more_than_the_limit(moments: list[int], limit: int) -> None:
    budget, now_ns, spent = WeightBudget(limit), 0, []
    for pause_ns in moments:
        now_ns += pause_ns
        if budget.try_spend(250, now_ns):
            spent.append(now_ns)
        assert sum(250 for moment in spent if moment > now_ns - WINDOW_NS) <= limit


def test_a_full_snapshot_can_be_taken_24_times_a_minute() -> None:
    budget = WeightBudget(6_000)
    assert [budget.try_spend(weight_of(5_000), 0) for _ in range(25)] == [True] * 24 + [False]
    assert budget.try_spend(weight_of(5_000), WINDOW_NS)


@pytest.mark.parametrize(("timeout_s", "count"), [(10.0, 24), (None, 50)])
def test_a_replay_asks_for_as_many_snapshots_as_it_has_gaps(timeout_s: float | None, count: int) -> None:
    line = Stepped(*(f"S{index}" for index in range(50)))
    desk = SnapshotDesk(line.feed.context, [""] * 50, FeedSettings(), "", timeout_s)
    line.feed.context.sync["snapshot_state"] = WANTED
    asked: list[Any] = []
    desk.request(0, 0, lambda *request: asked.append(request))
    assert len(asked) == count


def test_retry_after_blocks_all_symbols() -> None:
    budget = WeightBudget(6_000)
    budget.block(1_000)
    assert not budget.try_spend(5, 999)
    assert budget.try_spend(5, 1_000)


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(10, 65)
    assert [backoff.fail(100) for _ in range(5)] == [10, 20, 40, 65, 65]
    assert backoff.not_before_ns == 165
    backoff.succeed()
    assert (backoff.not_before_ns, backoff.fail(0)) == (0, 10)


@pytest.mark.parametrize("streams", [(), ("trade",), ("depth", "depth"), ("depth", "aggTrade"), ("depth", "kline")])
def test_streams_that_make_no_book_are_refused(streams: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        FeedSettings(streams=streams)  # type: ignore[arg-type]
