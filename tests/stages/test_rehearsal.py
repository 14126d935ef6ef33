"""Rehearsals: the twins come all the way each time, and idle agents change nothing that anybody sees."""

from types import SimpleNamespace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shm.atomics import JIT, poke
from shm.clock import calibrate, read_now_ns
from stages.agent import Agent
from stages.book.agent import BookAgent
from stages.book.kernel import poll_once as poll_book
from stages.book.settings import BookSettings
from stages.feed.agent import FeedAgent
from stages.feed.kernel import poll_once as poll_feed
from stages.feed.settings import FeedSettings
from stages.rehearsal import Twins
from stages.risk.agent import RiskAgent
from stages.risk.kernel import poll_once as poll_risk
from stages.risk.settings import RiskSettings
from stages.router.agent import RouterAgent
from stages.router.credentials import Credentials
from stages.router.kernel import poll_once as poll_router
from stages.router.settings import RouterSettings
from stages.strategy.agent import StrategyAgent
from stages.strategy.loader import load, strategy_path
from stages.strategy.settings import StrategySettings
from tests.stages.book.test_kernel import synced
from tests.stages.private_memory import instruments

POLLS = {"feed": poll_feed, "book": poll_book, "risk": poll_risk, "router": poll_router}


def _agents() -> dict[str, Agent]:
    table = instruments()
    key = Credentials("test", Ed25519PrivateKey.generate())
    return {
        "feed": FeedAgent(table, FeedSettings(), "ws://127.0.0.1:1", "http://127.0.0.1:1", "conflate"),
        "book": BookAgent(table, BookSettings(), "conflate"),
        "strategy": StrategyAgent(table, StrategySettings(), load(strategy_path("spread")), "conflate"),
        "risk": RiskAgent(table, RiskSettings(), "conflate"),
        "router": RouterAgent(table, RouterSettings(), "ws://127.0.0.1:1/ws-api/v3", key, 1),
    }


def test_each_rehearsal_goes_from_the_feed_to_a_sent_order() -> None:
    clock = calibrate(0.01)
    twins = Twins(_agents(), POLLS, clock)
    try:
        before = {name: counters.copy() for name, counters in twins.counters.items()}
        for count in range(1, 6):
            for address, value in twins.rehearsal.words:
                poke(int(address), int(value))
            for name, poll in POLLS.items():
                poll(twins._agents[name].context, int(read_now_ns(clock)))
            gained = SimpleNamespace(
                **{
                    name: int(counters[counter] - before[name][counter])
                    for name, counter in (("feed", "events"), ("book", "messages_in"), ("risk", "forwarded"))
                    for counters in (twins.counters[name],)
                },
                router=int(twins.counters["router"]["sent"]),
            )
            assert (gained.feed, gained.book, gained.risk, gained.router) == (count,) * 4
        assert int(twins.counters["risk"]["denied_by_risk"]) == 0
        assert int(twins.counters["router"]["connections_lost"]) == 0
    finally:
        twins.close()


@pytest.mark.skipif(not JIT, reason="thousands of polls")
def test_an_idle_feed_and_book_change_nothing_that_is_seen() -> None:
    line = synced()
    list(line.drain_notices() or ())
    books = line.book._books.copy()
    rows = {name: segment.memory.copy() for name, segment in line.segments.items() if name in ("bbo", "depth")}
    counters = {stage: line.counters(stage).copy() for stage in ("feed", "book")}
    for turn in range(1, 2_000):
        line.now_ns = turn * 1_000_000  # every poll is due for a rehearsal
        assert (line.step_feed(), line.step_book()) == (0, 0)
    assert np.array_equal(line.book._books, books)
    for name, memory in rows.items():
        assert np.array_equal(line.segments[name].memory, memory), name
    counters["book"]["checks"] = line.counters("book")["checks"]  # of its integrity, which idle time is for too
    for stage, values in counters.items():
        assert line.counters(stage) == values, stage
