"""When a failed process is started again, and when no more."""

import pytest

from launch.supervision.restarts import Failure, RestartPolicy, Restarts

LIMITED = RestartPolicy("limited", 3, 0.05, 0.15)


def test_the_first_restart_is_at_once_and_the_pauses_double_up_to_the_longest() -> None:
    restarts = Restarts(RestartPolicy("always", 3, 0.05, 0.15))
    assert [restarts.pause_s(Failure.CRASH, 0.0) for _ in range(5)] == [0.0, 0.05, 0.1, 0.15, 0.15]


def test_more_than_the_limit_within_a_minute_is_a_crash_loop() -> None:
    restarts = Restarts(LIMITED)
    assert [restarts.pause_s(Failure.HANG, second) for second in (0.0, 1.0, 2.0)] == [0.0, 0.05, 0.1]
    assert restarts.pause_s(Failure.CRASH, 59.9) == "it was restarted 3 times within a minute already"
    assert restarts.pause_s(Failure.CRASH, 60.0) == 0.1
    assert isinstance(restarts.pause_s(Failure.CRASH, 60.5), str)


def test_failures_of_more_than_a_minute_ago_are_forgotten() -> None:
    restarts = Restarts(LIMITED)
    assert all(restarts.pause_s(Failure.LATE, 61.0 * minute) == 0.0 for minute in range(10))


@pytest.mark.parametrize(("when", "is_restarted"), [("limited", False), ("always", True), ("never", False)])
def test_a_stage_that_says_itself_that_it_cannot_go_on_is_only_restarted_always(when: str, is_restarted: bool) -> None:
    pause = Restarts(RestartPolicy(when, 3, 0.05, 0.15)).pause_s(Failure.FAULT, 0.0)  # type: ignore[arg-type]
    assert (pause == 0.0) is is_restarted


@pytest.mark.parametrize("when", ["limited", "always", "never"])
def test_a_refused_privilege_is_refused_again(when: str) -> None:
    assert isinstance(Restarts(RestartPolicy(when, 3, 0, 0)).pause_s(Failure.REFUSED, 0.0), str)  # type: ignore[arg-type]
