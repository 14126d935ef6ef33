"""What the command says before anything trades: the plan, the settings, and what is wrong with them."""

import json
import tomllib
from pathlib import Path

import pytest

from shm.segment import NAME_PREFIX, SHM_DIRECTORY
from tests.e2e.conftest import Runs

pytestmark = pytest.mark.timeout(60)


def _data(pipeline: Runs, *arguments: str) -> str:
    """Standard output of a command that must succeed."""
    process = pipeline.start(*arguments)
    out, words = process.communicate(timeout=50)
    assert process.returncode == 0, words
    return out


@pytest.mark.parametrize("placement", ["dedicated", "packed"])
def test_a_dry_run_prints_the_plan_and_starts_nothing(pipeline: Runs, placement: str) -> None:
    plan = json.loads(_data(pipeline, "up", "--dry-run", "--json", "--placement", placement))
    order = ["router", "risk", "strategy", "book", "feed"] if placement == "dedicated" else ["line"]
    assert plan["start_order"] == order
    assert plan["processes"].keys() == set(order)
    if placement == "dedicated":
        reachable = {*plan["processes"]["strategy"]["reads"], *plan["processes"]["strategy"]["writes"]}
        assert not {"risk-router", "router-risk", "page.risk"} & reachable
    assert 0 < plan["shared_memory_bytes"] < 32_000_000
    assert plan["stop_sequence"]
    assert not (pipeline.state / "tickpipe").exists(), "a dry run leaves no run directory"
    assert not list(SHM_DIRECTORY.glob(f"{NAME_PREFIX}dry-run*"))


def test_the_configuration_is_shown_as_a_file_that_gives_the_same(pipeline: Runs, tmp_path: Path) -> None:
    shown = _data(pipeline, "config", "show", "-s", "risk.collar_bps=77")
    assert tomllib.loads(shown)["risk"]["collar_bps"] == 77
    file = tmp_path / "all.toml"
    file.write_text(shown, encoding="utf-8")
    assert _data(pipeline, "config", "show", "-c", str(file)) == shown
    document = json.loads(_data(pipeline, "config", "show", "--json", "-c", str(file)))
    assert document["config"]["risk"]["collar_bps"] == 77
    assert document["sources"]["risk.collar_bps"] == str(file)


def test_every_setting_is_explained_with_default_and_source(pipeline: Runs) -> None:
    rows = json.loads(_data(pipeline, "config", "explain", "--json", "-s", "risk.collar_bps=77"))["settings"]
    assert len(rows) > 50
    assert all(row["help"] and row["type"] for row in rows), [row["key"] for row in rows if not row["help"]]
    (row,) = (row for row in rows if row["key"] == "risk.collar_bps")
    assert (row["value"], row["default"], row["source"]) == (77, 100, "command line")
    assert "risk.collar_bps = " in _data(pipeline, "config", "explain", "risk.")


@pytest.mark.parametrize(
    ("name", "text", "key", "hint"),
    [
        ("a.toml", "[risk]\ncolar_bps = 5\n", "risk.colar_bps", "did you mean risk.collar_bps?"),
        ("b.toml", "[risks]\ncollar_bps = 5\n", "risks", "did you mean risk?"),
        ("c.toml", '[risk]\ncollar_bps = "wide"\n', "risk.collar_bps", "whole number"),
        ("d.toml", "[risk]\ncollar_bps = -1\n", "risk.collar_bps", ">="),
        ("e.yaml", "launch:\n  placement: scattered\n", "launch.placement", "dedicated | packed"),
        ("f.toml", "[feed\n", "f.toml", "sections look like"),
        ("g.toml", "[feed]\nstreams = ['trade']\n", "feed", "depth"),
    ],
    ids=["unknown key", "unknown section", "wrong type", "out of range", "not a choice", "no TOML", "cross-field"],
)
def test_a_mistake_in_the_file_is_a_line_with_file_key_and_hint(
    pipeline: Runs, tmp_path: Path, name: str, text: str, key: str, hint: str
) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    done = pipeline.run("up", "--duration", "1s", "-c", str(file))
    assert pipeline.run("config", "check", "-c", str(file)).words == done.words
    assert done.code == 2, done.words
    lines = [line for line in done.words.splitlines() if not line.startswith("hint: ")]
    assert len(lines) == 1, done.words
    assert lines[0].startswith(f"error: {file}: ")
    assert key in lines[0]
    assert hint in done.words
    assert "Traceback" not in done.words


def test_a_valid_file_is_checked_with_exit_code_0(pipeline: Runs, tmp_path: Path) -> None:
    file = tmp_path / "fine.toml"
    file.write_text("[risk]\ncollar_bps = 50\n", encoding="utf-8")
    assert json.loads(_data(pipeline, "config", "check", "--json", "-c", str(file))) == {
        "valid": True, "settings_given": 1,
    }  # fmt: skip
