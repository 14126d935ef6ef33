"""ITCH over two lossy lines of MoldUDP64 packets through the real line: what both lose is asked for."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Runs
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import coherent, order_stream
from tests.stages.domain.test_lines import free_port

pytestmark = pytest.mark.timeout(240)


def test_a_replay_over_lossy_lines_ends_in_its_books(pipeline: Runs, tmp_path: Path) -> None:
    stream = coherent(order_stream(5, 3_000, strangers=0, excess=0))
    messages = [message for message in stream if message[:1] not in (b"H", b"h")]  # halts, which go on and off here
    file = tmp_path / "day.itch"
    file.write_bytes(oracle.framed(*messages))
    lines = ",".join(f"udp://127.0.0.1:{free_port()}" for _ in range(2))
    settings = {
        "feed.source": "itch", "feed.lines": lines, "feed.request_server": f"udp://127.0.0.1:{free_port()}",
        "feed.request_interval_ms": "1", "venue.line_loss_permille": "100", "book.orders_max": "10000",
    }  # fmt: skip
    assignments = [word for key, value in settings.items() for word in ("-s", f"{key}={value}")]
    done = pipeline.finish(
        pipeline.start("up", "--replay", str(file), "--speed", "0.001", "--json", *assignments), seconds=230
    )
    assert done.code == 0, done.words
    data = done.report["market_data"]
    assert (data["messages"], data["gaps"], data["dropped"]) == (len(messages), 0, 0)
    assert done.report["reason"] == "replay finished and drained"
    assert done.report["orders"]["sent"] > 0
    books = oracle.Books()
    for message in messages:
        books.apply(message)
    for locate in (1, 2, 3, 4):
        book = done.report["books"][f"STOCK{locate}"]
        bids, asks = (books.levels(locate, side) for side in (0, 1))
        assert (book["state"], book["bid_levels"], book["ask_levels"]) == ("valid", len(bids), len(asks))
        for side, levels in (("bid", bids), ("ask", asks)):
            price, shares = next(iter(levels.items()), (0, 0))
            assert (float(book[side] or 0), float(book[f"{side}_qty"] or 0)) == (price / 10_000, shares)


def test_a_line_that_cannot_be_opened_stops_the_run_with_one_clear_line(pipeline: Runs) -> None:
    done = pipeline.run("up", "-s", "feed.source=itch", "-s", "feed.lines=udp://203.0.113.1:26400", "--json")
    assert done.code == 3
    assert "cannot receive at udp://203.0.113.1:26400: Cannot assign requested address" in done.words
    assert "Traceback" not in done.words
