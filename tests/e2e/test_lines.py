"""ITCH over two lossy lines of MoldUDP64 packets through the real line: what both lose is asked for.

The run records its lines: what was recorded verifies to the same books, and would be played as the same messages.
"""

from pathlib import Path
from typing import Any

import pytest

from pipeline.verify.pcap import verify
from stages.domain.captures import itch
from tests.e2e.conftest import Runs
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import coherent, order_stream
from tests.stages.domain.test_lines import free_port

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize(
    ("placement", "line"),
    [
        ("dedicated", "udp://127.0.0.1:{}"),
        pytest.param("packed", "udp://239.255.77.9:{}?interface=127.0.0.1", marks=pytest.mark.long),  # compiles anew
    ],
)
def test_a_replay_over_lossy_lines_ends_in_its_books(pipeline: Runs, tmp_path: Path, placement: str, line: str) -> None:
    stream = coherent(order_stream(5, 3_000, strangers=0, excess=0))
    messages = [message for message in stream if message[:1] not in (b"H", b"h")]  # halts, which go on and off here
    file = tmp_path / "day.itch"
    file.write_bytes(oracle.framed(*messages))
    lines = ",".join(line.format(free_port()) for _ in range(2))
    settings = {
        "feed.source": "itch", "feed.lines": lines, "feed.request_server": f"udp://127.0.0.1:{free_port()}",
        "feed.request_interval_ms": "1", "venue.line_loss_permille": "100", "book.orders_max": "10000",
        "record.enabled": "true", "record.folder": str(tmp_path / "recorded"),
    }  # fmt: skip
    assignments = [word for key, value in settings.items() for word in ("-s", f"{key}={value}")]
    done = pipeline.finish(
        pipeline.start(
            "up", "--replay", str(file), "--speed", "0.001", "--placement", placement, "--json", *assignments
        ),
        seconds=230,
    )  # fmt: skip
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
    types = {letter: sum(message[:1] == letter.encode() for message in messages) for letter in oracle.FORMATS}
    counters = done.report["counters"]["feed"]
    assert {letter: counters[f"itch_{letter}"] for letter in types} == types

    assert done.report["recording"]["lost_frames"] == 0
    (recorded,) = done.report["recording"]["files"]
    assert list(itch.messages(recorded)) == messages
    found: dict[str, dict[str, Any]] = {}
    (report,) = verify(Path(recorded), found)
    assert (report.gaps, report.problems) == (0, [])
    shown = ("bid", "bid_qty", "ask", "ask_qty", "bid_levels", "ask_levels")
    for symbol, book in done.report["books"].items():
        assert [found[symbol][name] for name in shown] == [book[name] for name in shown]


def test_a_line_that_cannot_be_opened_stops_the_run_with_one_clear_line(pipeline: Runs) -> None:
    done = pipeline.run("up", "-s", "feed.source=itch", "-s", "feed.lines=udp://203.0.113.1:26400", "--json")
    assert done.code == 3
    assert "cannot receive at udp://203.0.113.1:26400: Cannot assign requested address" in done.words
    assert "Traceback" not in done.words
