"""The venue as a process: settings from standard input, exit codes, signals, a parent that dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.venue.settings import VenueSettings
from tests.stages.venue.venue_process import ROOT, VenueProcess, running


def test_every_setting_is_described_and_the_defaults_are_valid() -> None:
    schema = VenueSettings.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        for name, setting in model["properties"].items():
            assert setting.get("description"), f"{name} has no description"
    assert VenueSettings.model_validate_json("{}") == VenueSettings()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("stages.venue.settings", ("aiohttp", "numpy")), ("stages.venue.__main__", ("numba", "numpy"))],
)
def test_a_start_waits_for_no_more_than_it_uses(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"port": 70000}, "port"),
        ({"host": "0.0.0.0"}, "host"),
        ({"speed": "fast"}, "speed"),
        ({"nonsense": 1}, "nonsense"),
        ({"balances": {"USDT": "-1"}}, "balances.USDT"),
        ({"symbols": []}, "symbols"),
        ({"ed25519_public_key": "abc"}, "ed25519_public_key"),
    ],
)
def test_a_bad_setting_is_named_and_ends_with_two(settings: dict[str, Any], key: str) -> None:
    venue = VenueProcess(settings)
    assert venue.first_event["event"] == "error"
    assert key in venue.first_event["message"]
    assert venue.first_event["hint"]
    assert venue.finish() == 2


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        venue = VenueProcess({"port": taken.getsockname()[1]})
        assert "cannot listen" in venue.first_event["message"]
        assert venue.finish() == 2


def test_sigint_is_ignored_and_sigterm_is_orderly() -> None:
    with running() as venue:
        socket_ = venue.connect("/ws")
        os.kill(venue.process.pid, signal.SIGINT)
        assert venue.rest("GET", "ping") == (200, {})
        venue.process.terminate()
        assert venue.process.wait(10) == 0
        assert socket_.recv_frame().opcode == 8  # a close frame, not a broken connection
        socket_.shutdown()


STARTER = """
import os, subprocess, sys
reader, writer = os.pipe()
venue = subprocess.Popen([sys.executable, "-m", "stages.venue", "--notify-fd", str(writer)],
                         stdin=subprocess.PIPE, pass_fds=[writer])
venue.stdin.write(b'{"parent_grace_s": 0.5}')
venue.stdin.close()
print(venue.pid, os.read(reader, 4096).decode(), flush=True)
os._exit(0)
"""


def test_it_outlives_its_parent_only_for_the_grace_time(until: Callable[..., None]) -> None:
    done = subprocess.run([sys.executable, "-c", STARTER], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    pid, event = done.stdout.split(" ", 1)
    assert json.loads(event)["event"] == "ready"

    def is_gone() -> bool:
        stat = Path(f"/proc/{pid}/stat")
        try:
            return stat.read_text().rpartition(")")[2].split()[0] in "ZX"
        except FileNotFoundError:
            return True

    until(is_gone, 10, "the venue ends after its parent")
