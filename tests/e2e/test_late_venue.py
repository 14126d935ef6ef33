"""A venue that is not there yet: it is said, tried again, and then traded on."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.conftest import Runs
from tests.e2e.fake_venue import FakeVenue, frame

pytestmark = pytest.mark.timeout(400)

STRATEGY = str(REPOSITORY / "bench" / "wire_strategy.py")


def test_a_venue_that_comes_up_later_is_waited_for_and_traded_on(
    pipeline: Runs, until: Callable[..., None], tmp_path: Path
) -> None:
    said = tmp_path / "words"
    with FakeVenue(refused_upgrades=3) as venue, said.open("w") as words:
        process = pipeline.start("up", "--json", "--strategy", STRATEGY, *venue.settings(), stderr=words)
        until(lambda: said.read_text().count("retrying in") >= 2, 30, "the words say twice that it is tried again")
        venue.open()
        market = venue.market.get(timeout=75)
        market.sendall(frame(venue.diff({"60000.01000000": "0.50000000"})))
        order = venue.orders.get(timeout=30)
        process.send_signal(signal.SIGINT)
        done = pipeline.finish(process)
    assert done.code == 0, said.read_text()
    first = next(line for line in said.read_text().splitlines() if "retrying" in line)
    assert first == f"venue not reachable at http://127.0.0.1:{venue.port} (Connection refused), retrying in 0.2 s"
    assert float(order["price"]) == 60000.01
    assert done.report["orders"]["acked"] > 0
    assert venue.refused_upgrades == 0
    logs = done.state / "tickpipe" / "runs" / done.report["run"] / "logs"
    # Both connections were refused at first: each stage says so in its log.
    assert "503" in (logs / "router.log").read_text() + (logs / "feed.log").read_text()


def test_a_venue_that_never_comes_ends_the_command_with_a_hint(pipeline: Runs) -> None:
    with FakeVenue() as venue:
        done = pipeline.run("up", *venue.settings(), "-s", "market.connect_deadline_s=0.5")
    assert done.code == 3, done.words
    *_, error, hint = done.words.splitlines()
    assert error.startswith(f"error: venue not reachable at http://127.0.0.1:{venue.port} for ")
    assert hint.startswith("hint: ")
    assert "market.connect_deadline_s" in hint


def test_waiting_for_a_venue_can_be_interrupted(pipeline: Runs, until: Callable[..., None], tmp_path: Path) -> None:
    said = tmp_path / "words"
    with FakeVenue() as venue, said.open("w") as words:
        process = pipeline.start("up", *venue.settings(), stderr=words)
        until(lambda: "retrying in" in said.read_text(), 30, "the words say that it is tried again")
        process.send_signal(signal.SIGINT)
        assert pipeline.finish(process, 20).code == 0, said.read_text()
    assert "Traceback" not in said.read_text()


def test_waiting_for_the_order_connection_can_be_interrupted(
    pipeline: Runs, until: Callable[..., None], tmp_path: Path
) -> None:
    said = tmp_path / "words"
    with FakeVenue(refused_upgrades=1_000_000) as venue, said.open("w") as words:
        venue.open()
        process = pipeline.start("up", "--json", "--strategy", STRATEGY, *venue.settings(), stderr=words)
        until(lambda: "router is not ready yet" in said.read_text(), 120, "the router waits for the venue")
        process.send_signal(signal.SIGINT)
        done = pipeline.finish(process, 30)
    assert (done.code, done.report["exit"], done.report["notes"]) == (0, "clean", []), said.read_text()
