"""A file of raw messages through the real line: trades are told, no book is filled, what is recorded is the same."""

from pathlib import Path

import pytest

from stages.domain.captures.raw import messages
from tests.e2e.conftest import Runs
from tests.stages.feed.lines.test_raw_datagrams import QUOTE, TRADE, raw

pytestmark = [pytest.mark.timeout(400), pytest.mark.long]  # compiles a feed of its own


def test_a_file_is_played_and_what_was_recorded_of_it_again(pipeline: Runs, tmp_path: Path) -> None:
    sent = [
        raw((TRADE, QUOTE)[number % 2], (5, 9)[number % 3 > 0], 10**10 + number, 1 + number, 10**18 + 1_000 * number)
        for number in range(5_000)
    ]
    file = tmp_path / "day.raw"
    file.write_bytes(b"".join(sent))
    recording = ("-s", "record.enabled=true", "-s", f"record.folder={tmp_path / 'recorded'}")
    done = pipeline.run("up", "--replay", str(file), "--speed", "max", "--json", *recording)
    assert done.code == 0, done.words
    assert "no book is filled, and orders are denied" in done.words
    feed = done.report["counters"]["feed"]
    assert (feed["messages_in"], feed["events"], feed["other_messages"]) == (5_000, 2_500, 2_500)
    assert done.report["counters"]["book"]["messages_in"] == 2_500
    assert {symbol: book["state"] for symbol, book in done.report["books"].items()} == {"ID5": "empty", "ID9": "empty"}
    assert done.report["orders"]["sent"] == 0
    assert done.report["recording"]["lost_frames"] == 0
    (own,) = done.report["recording"]["files"]
    assert list(messages(own)) == sent
    checked = pipeline.run("verify", own, "--json")
    assert checked.report["files"][0]["messages"] == {"trade": 2_500, "quote": 2_500}
    again = pipeline.run("up", "--replay", own, "--speed", "max", "--json", "-s", "market.symbols=ID9")
    assert again.code == 0, again.words
    chosen = sum(message[1] == 9 for message in sent)
    counters = again.report["counters"]["feed"]
    assert (counters["messages_in"], counters["unknown_symbol"]) == (5_000, 5_000 - chosen)
