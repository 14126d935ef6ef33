"""The command itself, as a process: help, exit codes, where output goes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import directory


def pipeline(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | environment, timeout=60, check=False,
    )  # fmt: skip


def test_help_names_the_verbs_without_loading_the_compiler() -> None:
    code = (
        "import sys, pipeline.cli as c\n"
        "sys.argv = ['pipeline', '--help']\n"
        "try: c.cli.main()\n"
        "except SystemExit: pass\n"
        "assert not {'numba', 'numpy', 'rich', 'pydantic'} & set(sys.modules)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    assert "up" in done.stdout
    assert "config" in done.stdout
    assert time.monotonic() - start < 5


def test_output_that_cannot_be_written_is_said_in_a_line() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "config", "show"],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_folders_that_cannot_be_are_said_in_a_line() -> None:
    done = pipeline("up", "--duration", "1s", XDG_CACHE_HOME="/proc/nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: /proc/nowhere")
    assert "Traceback" not in done.stderr


def test_a_name_is_a_name_and_no_pattern() -> None:
    assert "Traceback" not in pipeline("inspect", "a**").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--duration", "soon"),
        ("up", "--placement", "sideways"),
        ("up", "--replay", "/nowhere/x.gz"),
        ("up", "-c", "/nowhere/x.toml"),
        ("up", "-s", "launch.nope=1"),
        ("nonsense",),
        ("config", "explain", "nope"),
        ("up", "--dry-run", "-s", "risk.symbols={FOO={}}"),
        ("logs", "-n", "99999999999999999999"),
    ],
)
def test_bad_usage_exits_2_with_words_on_stderr_only(arguments: tuple[str, ...]) -> None:
    done = pipeline(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_is_wrong_without_colour_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[launch]\nfifo_priority = 1000\n")
    done = pipeline("config", "check", "-c", str(path), NO_COLOR="1")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: launch.fifo_priority = 1000")
    assert "\x1b" not in done.stderr


def test_a_dry_run_of_an_itch_file_states_what_its_orders_take_and_whether_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "day.itch"
    file.write_bytes(oracle.framed(directory(1), directory(2)))
    arguments = ("up", "--dry-run", "--replay", str(file), "-s", "book.orders_max=10000")
    done, document = (
        pipeline(*arguments, *extra, XDG_STATE_HOME=str(tmp_path / "state")) for extra in ((), ("--json",))
    )
    assert (done.returncode, document.returncode) == (0, 0), document.stderr
    memory = json.loads(document.stdout)["book_memory"]
    assert (memory["symbols"], memory["orders_max"], memory["fits"]) == (2, 10_000, True)
    assert 100 < memory["bytes_per_order"] < 128
    assert abs(memory["bytes"] - 10_000 * memory["bytes_per_order"] - 2 * memory["bytes_per_symbol"]) < 1_000
    assert f"10,000 live orders of {memory['bytes_per_order']:g} bytes" in done.stdout
    assert "on 5,000 price levels" in done.stdout
    assert "  fits: " in done.stdout


def test_a_dry_run_says_why_each_process_is_where_it_is_and_what_it_asks_for(tmp_path: Path) -> None:
    done = pipeline("up", "--dry-run", XDG_STATE_HOME=str(tmp_path))
    plan = json.loads(pipeline("up", "--dry-run", "--json", XDG_STATE_HOME=str(tmp_path)).stdout)
    assert done.returncode == 0, done.stderr
    assert f"SCHED_FIFO on this kernel: {plan['rt_guard']}" in done.stdout
    assert plan["housekeeping_why"] in done.stdout
    for process in plan["processes"].values():
        assert f"why    {process['why']}" in done.stdout
        assert process["knobs"]["affinity"]["value"] == process["cpu"]
        for knob, why in process["not_taken"].items():
            assert f"not    {knob}: {why}" in done.stdout
    for lack in plan["lacking"]:
        assert lack["what"] in done.stdout
    memory = plan["book_memory"]
    assert memory["bytes"] == memory["symbols"] * memory["bytes_per_symbol"]
    assert f"{memory['symbols']} symbols of {memory['bytes_per_symbol']:,} bytes" in done.stdout


@pytest.mark.parametrize(
    ("setting", "code", "what"),
    [
        ("launch.cores.feed=4095", 2, "error: launch.cores.feed = 4095: core 4095 is not usable by this process"),
        ("launch.restart_of.fed=never", 2, "error: launch.restart_of.fed: this run has no such process"),
        ("launch.cores.line=1", 2, "error: launch.cores.line: this run has no such process"),
        ("launch.housekeeping_core=4095", 2, "error: launch.housekeeping_core = 4095: core 4095 is not usable"),
        ("launch.fifo=required", 4, 'error: launch.fifo = "required", but no fifo for feed, book, strategy, risk,'),
    ],
)
def test_what_the_machine_cannot_do_ends_the_run_before_it_starts(setting: str, code: int, what: str) -> None:
    core = str(min(os.sched_getaffinity(0)))
    done = subprocess.run(
        ["taskset", "-c", core, sys.executable, "-m", "pipeline.cli", "up", "-s", setting],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(what)
    assert "hint: " in done.stderr
    assert done.stdout == ""
