"""A router that was killed, and its successor: nothing lost, nothing doubled, what is unclear is asked."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm.atomics import peek, poke
from shm.control import State
from shm.ring import HEAD, READER_EPOCH
from stages.agent import AgentError
from stages.domain.edges import RISK_TO_ROUTER, ROUTER_TO_RISK
from stages.domain.messages import ReportKind, ReportOrigin, Side
from stages.domain.orders import OrderState
from tests.stages.router.support import Router, url, venue

FAR_TICKS, LOTS = 5_000_000, 100
SOON = {"ask_again_ms": 20, "not_found_wait_ms": 200, "backoff_ms_min": 10}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with venue() as (_, port):
        yield port


def synced(router: Router) -> Router:
    router.start()
    router.until(router.agent.is_synced)
    return router


def test_a_working_order_is_still_known_and_can_be_cancelled(port: int, tmp_path: Path) -> None:
    first = Router(url(port), journal=tmp_path, **SOON).start()
    first.order(1, Side.BUY, FAR_TICKS, LOTS)
    first.until(lambda: ReportKind.ACKED in first.kinds(1))
    first.die()
    second = synced(Router(url(port), journal=tmp_path, after=first, **SOON))
    assert ReportKind.UNKNOWN in second.kinds(1)
    assert second.agent.context.orders[1]["state"] == OrderState.WORKING
    second.cancel(1)
    second.until(lambda: second.final(1))
    assert second.final(1)["kind"] == ReportKind.CANCELLED  # type: ignore[index]
    second.close()


def test_a_fill_while_nobody_was_there_is_found_with_its_position(port: int, tmp_path: Path) -> None:
    first = Router(url(port), journal=tmp_path, **SOON).start()
    first.order(1, Side.BUY, 9_000_000, LOTS)  # through the market: fills at once
    first.turn(take_reports=False)  # sent, and killed before the answer
    first.die()
    second = synced(Router(url(port), journal=tmp_path, after=first, **SOON))
    second.until(lambda: second.final(1))
    assert second.final(1)["cumulative_lots"] == LOTS  # type: ignore[index]
    assert second.position(0)["quantity_lots"] == LOTS
    second.close()


def test_an_order_written_down_and_never_sent_is_not_sent_later(port: int, tmp_path: Path) -> None:
    first = Router(url(port), journal=tmp_path, **SOON).start()
    state = first.agent.context.state[0]
    open_fd, state["fd"] = int(state["fd"]), 1_000_000  # what is sent goes nowhere
    first.order(1, Side.BUY, FAR_TICKS, LOTS)
    first.turn(take_reports=False)
    state["fd"] = open_fd
    first.die()
    second = synced(Router(url(port), journal=tmp_path, after=first, **SOON))
    second.until(lambda: second.final(1))
    assert second.final(1)["kind"] == ReportKind.REJECTED  # type: ignore[index]
    assert second.count("sent") == 0
    second.close()


def test_a_successor_that_is_told_to_stop_before_it_is_connected_is_not_quiet_while_orders_are_open(
    port: int, tmp_path: Path
) -> None:
    first = Router(url(port), journal=tmp_path, **SOON).start()
    first.order(1, Side.BUY, FAR_TICKS, LOTS)
    first.until(lambda: ReportKind.ACKED in first.kinds(1))
    first.die()
    second = Router(url(port), journal=tmp_path, after=first, **SOON)
    second.agent.start(second.attention)
    second.agent.quiesce()
    assert second.agent.state() == State.RUNNING
    second.until(lambda: second.agent.state() == State.QUIET)
    assert second.final(1)["kind"] == ReportKind.CANCELLED  # type: ignore[index]
    second.close()


def test_a_supervisor_that_was_gone_before_its_router_started_is_missed(port: int) -> None:
    router = Router(url(port), **SOON)
    router.attention.supervisor_pid = 2**22 + 1  # as the fork had it, not as the parent is now
    with pytest.raises(AgentError, match="the supervisor is gone"):
        router.start().until(lambda: False)


def test_an_input_that_was_acted_on_but_not_consumed_is_adopted(port: int, tmp_path: Path) -> None:
    first = Router(url(port), journal=tmp_path, **SOON).start()
    first.order(1, Side.BUY, FAR_TICKS, LOTS)
    first.until(lambda: ReportKind.ACKED in first.kinds(1))
    head = first.segments[RISK_TO_ROUTER].address + HEAD
    poke(head, peek(head) - 1)  # as killed between its entry and its consumption
    first.die()
    second = synced(Router(url(port), journal=tmp_path, after=first, **SOON))
    assert first.segments.unread(RISK_TO_ROUTER) == 0
    assert (second.count("sent"), second.count("messages_in")) == (0, second.count("messages_in"))
    second.cancel(1)
    second.until(lambda: second.final(1))
    second.close()


def test_a_refusal_that_was_told_but_whose_order_was_not_consumed_is_adopted(port: int, tmp_path: Path) -> None:
    first = Router(url(port), journal=tmp_path, **SOON).start()
    first.agent.context.state[0]["is_stopped"] = 1
    first.order(1, Side.BUY, FAR_TICKS, LOTS)
    first.turn(take_reports=False)
    head = first.segments[RISK_TO_ROUTER].address + HEAD
    poke(head, peek(head) - 1)
    first.die()
    second = synced(Router(url(port), journal=tmp_path, after=first, **SOON))
    assert second.kinds(1).count(ReportKind.REJECTED) == 1
    assert second.count("sent") == 0
    second.close()


def test_orders_that_wait_while_no_router_is_there_are_refused_not_sent_late(port: int, tmp_path: Path) -> None:
    first = Router(url(port), journal=tmp_path, **SOON).start()
    first.die()
    first.order(1, Side.BUY, FAR_TICKS, LOTS)
    second = Router(url(port), journal=tmp_path, after=first, **SOON)
    second.agent.start(second.attention)
    second.turn()  # before the session is handed over
    assert second.final(1)["kind"] == ReportKind.REJECTED  # type: ignore[index]
    assert second.count("sent") == 0
    second.until(second.agent.is_synced)
    second.close()


def test_a_session_that_is_there_before_every_order_is_marked_waits_for_that(port: int, tmp_path: Path) -> None:
    first = Router(url(port), journal=tmp_path, **SOON).start()
    first.order(1000, Side.BUY, FAR_TICKS, LOTS)  # a row far back in the table
    first.until(lambda: ReportKind.ACKED in first.kinds(1000))
    first.die()
    second = Router(url(port), journal=tmp_path, after=first, **SOON)
    second.agent.start(second.attention)
    while not second.attention.word[0]:
        time.sleep(0.001)  # the session stands before the first poll
    second.agent.service(0)
    second.until(second.agent.is_synced)
    assert second.agent.context.orders[1000]["state"] == OrderState.WORKING
    second.cancel(1000)
    second.until(lambda: second.final(1000))
    second.close()


def test_a_reader_that_starts_anew_is_told_orders_and_positions_and_the_end(port: int, tmp_path: Path) -> None:
    router = Router(url(port), journal=tmp_path, **SOON).start()
    router.order(1, Side.BUY, FAR_TICKS, LOTS)
    router.order(2, Side.BUY, 9_000_000, LOTS)
    router.until(lambda: ReportKind.ACKED in router.kinds(1) and router.final(2))
    router.reports.clear()
    epoch = router.segments[ROUTER_TO_RISK].address + READER_EPOCH
    poke(epoch, peek(epoch) + 1)
    router.until(lambda: router.reports and router.reports[-1]["kind"] == ReportKind.STATE_END)
    assert {int(report["origin"]) for report in router.reports} == {ReportOrigin.RETOLD}
    assert [ReportKind(int(report["kind"])) for report in router.reports] == [
        ReportKind.WORKING, ReportKind.FILLED, ReportKind.POSITION, ReportKind.POSITION, ReportKind.STATE_END,
    ]  # fmt: skip
    working, filled, held, _, end = router.reports
    assert (int(working["order_id"]), int(working["leaves_lots"]), int(working["final"])) == (1, LOTS, 0)
    assert (int(filled["order_id"]), int(filled["final"])) == (2, 1)
    assert (int(held["symbol"]), int(held["cumulative_lots"])) == (0, LOTS)
    assert (int(end["order_id"]), int(end["execution_id"])) == (2, peek(epoch))
    router.cancel(1)
    router.until(lambda: router.final(1))
    router.close()


def test_what_an_earlier_run_left_at_the_venue_is_cancelled_first_but_not_what_a_living_one_has(port: int) -> None:
    dead = Router(url(port), **SOON).start()
    dead.order(1, Side.BUY, FAR_TICKS, LOTS)
    dead.until(lambda: ReportKind.ACKED in dead.kinds(1))
    living = Router(url(port), **SOON, on_leftovers="leave").start()
    living.order(1, Side.BUY, FAR_TICKS, LOTS)
    living.until(lambda: ReportKind.ACKED in living.kinds(1))
    following = Router(url(port), **SOON)
    following.agent._living = lambda: (living.agent._prefix,)
    following.start()
    dead.until(lambda: dead.final(1))
    assert dead.final(1)["kind"] == ReportKind.CANCELLED  # type: ignore[index]
    living.cancel(1)
    living.until(lambda: living.final(1))
    for router in (dead, living, following):
        router.close()
