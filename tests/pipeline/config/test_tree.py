"""The configuration: sources, one clear line for each error, rules across sections."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from pipeline.config.table import settings_table
from pipeline.config.toml_text import to_toml
from pipeline.config.tree import COMMAND_LINE, Config, document, load
from pipeline.errors import UsageError


def written(tmp_path: Path, text: str, name: str = "line.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_given_is_the_embedded_default() -> None:
    config = load().config
    assert (config.market.venue, config.launch.placement, config.strategy.name) == (
        "paper", "dedicated", "market_maker",
    )  # fmt: skip
    assert config.delivery == "conflate"


def test_later_sources_win_and_each_value_knows_its_own(tmp_path: Path) -> None:
    file = written(tmp_path, '[launch]\nidle = "yield"\nfifo_priority = 7\n[run]\nname = "a"\n')
    loaded = load(file, ["launch.idle=backoff"], {"run": {"duration_s": 2.5}})
    assert (loaded.config.launch.idle, loaded.config.launch.fifo_priority) == ("backoff", 7)
    assert loaded.config.run.duration_s == 2.5
    assert loaded.source("launch.idle") == COMMAND_LINE
    assert loaded.source("launch.fifo_priority") == str(file)
    assert loaded.source("launch.placement") == "default"


def test_yaml_says_the_same_as_toml(tmp_path: Path) -> None:
    tree = {"launch": {"idle": "yield", "quiet_deadline_s": 3}, "market": {"symbols": ["BTCUSDT"]}}
    by_yaml = load(written(tmp_path, yaml.safe_dump(tree), "line.yaml")).config
    assert by_yaml == load(written(tmp_path, to_toml(tree))).config


ERRORS = {
    "[launch]\nfifo_prioritty = 5\n": ("launch.fifo_prioritty", "unknown key", "did you mean launch.fifo_priority"),
    "[lanch]\nidle = 'spin'\n": ("lanch", "unknown section", "did you mean launch"),
    "[market]\nfifo_priority = 5\n": ("market.fifo_priority", "unknown key", "there is launch.fifo_priority"),
    "[launch]\nfifo_priority = 200\n": ("launch.fifo_priority = 200", "less than or equal to 98", ">= 1, <= 98"),
    "[launch]\nfifo_priority = '5'\n": ("launch.fifo_priority = '5'", "integer", "whole number"),
    "[launch]\nidle = 'fast'\n": ("launch.idle = 'fast'", "auto | spin | yield | backoff", "default 'auto'"),
    "[market]\nsymbols = ['btc']\n": ("market.symbols[0] = 'btc'", "pattern", ""),
    "[venue]\nport = 70000\n": ("venue.port = 70000", "65535", "TCP port"),
    "[venue]\nhost = '8.8.8.8'\n": ("venue.host = '8.8.8.8'", "not a loopback address", ""),
    "launch = 3\n": ("launch = 3", "", ""),
    "[feed]\nsource = 'itch'\n": ("feed: source = 'itch' needs lines, such as udp://", "udp://127.0.0.1:26400", ""),
    "[feed]\nlines = ['udp://127.0.0.1:9000']\n": ("feed: ", "lines belong to source", ""),
    "[feed]\nlines = ['tcp://127.0.0.1:9000']\n": ("feed.lines[0] = 'tcp://127.0.0.1:9000'", "udp://GROUP:PORT", ""),
    "[feed]\nsource = 'raw'\nlines = ['udp://127.0.0.1:1', 'udp://127.0.0.1:2']\n": ("feed: ", "one line only", ""),
}


@pytest.mark.parametrize("text", ERRORS)
def test_an_error_is_one_line_with_file_key_and_hint(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(file)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{file}: ")
    for part in ERRORS[text]:
        assert part in line, line
    assert caught.value.exit_code == 2


def test_each_error_has_a_line_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, "[launch]\nfifo_priority = 0\nnope = 1\n"))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("x.toml", "[launch\n", "not TOML"),
        ("x.yaml", "launch: [1\n", "not YAML"),
        ("x.yaml", "- 1\n", "sections were expected"),
    ],
)
def test_a_file_that_is_no_configuration_says_so_and_where(tmp_path: Path, name: str, text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        load(written(tmp_path, text, name))
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path / 'no.toml'}: No such file")):
        load(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("assignment", "what"),
    [
        ("launch.idle", "not of the form"),
        ("idle=spin", "not of the form"),
        ("launch.idle=fast", "command line: launch.idle = 'fast'"),
        ("launch.fifo_priority=abc", "command line: launch.fifo_priority = 'abc'"),
        ("launch.nope=1", "command line: launch.nope: unknown key"),
    ],
)
def test_a_bad_assignment_is_named_as_the_command_lines(assignment: str, what: str) -> None:
    with pytest.raises(UsageError, match=re.escape(what)):
        load(None, [assignment])


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("run.name=5", "run", "name", "5"),
        ('run.name="five"', "run", "name", "five"),
        ("run.duration_s=5", "run", "duration_s", 5.0),
        ("market.symbols=BTCUSDT,ETHUSDT", "market", "symbols", ["BTCUSDT", "ETHUSDT"]),
        ('market.symbols=["BTCUSDT"]', "market", "symbols", ["BTCUSDT"]),
        ("venue.enforce_rate_limits=true", "venue", "enforce_rate_limits", True),
        ("venue.speed=2", "venue", "speed", "2"),
    ],
)
def test_assignments_need_no_quotes(assignment: str, section: str, key: str, value: object) -> None:
    given = [assignment, "venue.replay=x.gz"] if "speed" in assignment else [assignment]
    assert getattr(getattr(load(None, given).config, section), key) == value


def test_what_is_wrong_with_a_list_is_said_of_its_items() -> None:
    with pytest.raises(UsageError, match=r"feed\.lines\[1\] = 'udp://b:2': 'udp://b:2': b is not an IPv4 address"):
        load(None, ["feed.source=itch", "feed.lines=udp://127.0.0.1:1,udp://b:2"])
    with pytest.raises(UsageError, match=r"feed: source = 'itch' needs lines, such as udp://127\.0\.0\.1:26400$"):
        load(None, ["feed.source=itch"])


def test_parameters_of_a_strategy_are_free_keys() -> None:
    assert load(None, ["strategy.parameters.anything=3"]).config.strategy.parameters == {"anything": 3}


@pytest.mark.parametrize(
    ("given", "knob"),
    [
        (['market.venue="binance"', "venue.replay=x.gz", "market.symbols=BTCUSDT"], "market.venue"),
        (["venue.speed=max"], "venue.speed"),
        (["run.delivery=every"], "run.delivery"),
        (["launch.heartbeat_warning_s=50"], "launch.heartbeat_warning_s"),
        (["market.symbols=BTCUSDT,BTCUSDT"], "market.symbols"),
        (["market.symbols=NOSUCH"], "market.symbols"),
        (["market.venue=binance", "market.order_url=ws://127.0.0.1:9/ws-api/v3"], "market.symbols"),
        (["market.symbols=BTCUSDT", "market.api_key_file=key"], "market.private_key_file"),
        (
            ["market.venue=binance", "market.order_url=ws://127.0.0.1:1/ws-api/v3", 'market.symbols=["BTCUSDT"]'],
            "market.stream_url",
        ),
    ],
)
def test_a_rule_across_sections_names_the_knob(given: list[str], knob: str) -> None:
    with pytest.raises(UsageError, match=re.escape(knob)) as caught:
        load(None, given)
    assert caught.value.hint


def test_orders_are_refused_to_any_other_machine() -> None:
    for url in ("wss://ws-api.binance.com:443/ws-api/v3", "ws://10.0.0.1:80/ws-api/v3"):
        with pytest.raises(UsageError, match="loopback") as caught:
            load(None, ["market.venue=binance", f"market.order_url={url}"])
        assert "market.order_url" in str(caught.value)


def test_a_replay_at_full_speed_delivers_every_event() -> None:
    assert load(None, ["venue.replay=x.gz", "venue.speed=max"]).config.delivery == "every"
    assert load(None, ["venue.replay=x.gz", "venue.speed=2"]).config.delivery == "conflate"


def test_the_concluded_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    loaded = load(None, ["launch.idle=backoff", 'run.name="x"', "strategy.parameters.a=1"])
    text = to_toml(document(loaded))
    assert tomllib.loads(text)["launch"]["idle"] == "backoff"
    assert load(written(tmp_path, text)).config == loaded.config


def test_every_setting_has_help_and_a_default_that_is_valid() -> None:
    rows = settings_table(load())
    assert {row["key"].partition(".")[0] for row in rows} == set(Config.model_fields)
    for row in rows:
        assert row["help"], row["key"]
        assert row["value"] == row["default"], row["key"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", f"[risk]\ncollar_bps = {'9' * 5000}\n"),
        ("b.toml", f"x = {'[' * 5000}{']' * 5000}\n"),
        ("c.yaml", f"risk: {{collar_bps: {'9' * 5000}}}\n"),
        ("d.yaml", "risk:\n  2024-01-01: 5\n"),
        ("e.yaml", "risk: &a\n  x: *a\n"),
        ("f.yaml", f"a: {'[' * 2000}{']' * 2000}\n"),
    ],
)
def test_a_file_that_no_configuration_looks_like_is_one_clear_line(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, text, name))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match=r"risk\.collar_bps"):
        load(None, [f"risk.collar_bps={'9' * 5000}"])
    with pytest.raises(UsageError, match=r"venue\.speed"):
        load(None, ["venue.speed=nan"])
