"""A recorded Binance session through the real line: every tick, in order, to the recorded book."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Runs

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize("placement", ["dedicated", pytest.param("packed", marks=pytest.mark.long)])
def test_the_recorded_session_ends_in_the_recorded_book(pipeline: Runs, recorded_data: Path, placement: str) -> None:
    capture = recorded_data / "binance" / "btcusdt_20240808.gz"
    done = pipeline.run("up", "--replay", str(capture), "--speed", "max", "--placement", placement, "--json")
    assert done.code == 0, done.words
    data, book = done.report["market_data"], done.report["books"]["BTCUSDT"]
    assert (data["gaps"], data["resyncs"], data["dropped"], data["trades_missed"]) == (0, 0, 0, 0)
    assert (data["bbo_checked"], data["bbo_mismatches"]) == (3449, 0)
    assert (book["last_update_id"], book["bid_levels"], book["ask_levels"]) == (50093421584, 1209, 2196)
    assert (float(book["bid"]), float(book["ask"])) == (61685.99, 61686.0)
    assert done.report["orders"]["acked"] > 0


def test_two_files_whose_ids_join_are_one_stream(pipeline: Runs, recorded_data: Path) -> None:
    files = [recorded_data / "binance" / f"btcusdt_{day}.gz" for day in ("20240808", "20240809")]
    done = pipeline.run(
        "up", "--replay", str(files[0]), "--replay", str(files[1]), "--speed", "max", "--placement", "packed", "--json"
    )
    assert done.code == 0, done.words
    data = done.report["market_data"]
    # Twice in the second file (u=50093478174 and u=50093480542) the best bid of the ticker is an order from before the
    # only snapshot, below its deepest bid of 61631.55: no message tells of it before the diff that removes it.
    assert (data["gaps"], data["bbo_checked"]) == (0, 3449 + 3042)
    assert (data["bbo_mismatches"], data["bbo_beyond_snapshot"]) == (0, 2)


def test_a_file_without_a_snapshot_is_refused_with_a_hint(pipeline: Runs, recorded_data: Path) -> None:
    done = pipeline.run("up", "--replay", str(recorded_data / "binance" / "btcusdt_20240809.gz"), "--speed", "max")
    assert done.code == 2, done.words
    assert "hint" in done.words


def test_a_file_that_is_not_there_is_refused(pipeline: Runs, tmp_path: Path) -> None:
    done = pipeline.run("up", "--replay", str(tmp_path / "nothing.gz"))
    assert done.code == 2, done.words
