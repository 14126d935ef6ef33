"""Services answer on their pipe; how processes end, in words."""

import os
import signal
import sys
from pathlib import Path

import pytest

from launch.errors import ProcessFailedError
from launch.supervision.logs import describe_exit, tail
from launch.supervision.service import Service

SERVICE = """
import json, os, sys
fd = int(sys.argv[sys.argv.index("--notify-fd") + 1])
settings = json.load(sys.stdin)
if settings.get("refuse"):
    os.write(fd, b'{"event":"error","message":"no"}\\n')
    sys.exit(2)
os.write(fd, json.dumps({"event": "ready", "port": settings["port"]}).encode() + b"\\n")
import signal; signal.pause()
"""


def test_exits_are_told_in_words() -> None:
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-signal.SIGSEGV) == "was ended by signal 11 (SIGSEGV)"


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("\n".join(str(number) for number in range(10_000)))
    assert tail(log, 2) == "9998\n9999"
    assert tail(tmp_path / "absent") == ""


def test_a_service_is_configured_by_its_input_and_answers_on_its_pipe(tmp_path: Path) -> None:
    service = Service("toy", [sys.executable, "-c", SERVICE], {"port": 7}, tmp_path / "toy.log", None)
    try:
        assert service.wait_for("ready", 20)["port"] == 7
        assert os.getpgid(service.pid) == service.pid
    finally:
        service.end()
    assert service.poll() == -signal.SIGTERM


def test_a_service_that_refuses_is_named_and_its_last_words_are_kept(tmp_path: Path) -> None:
    service = Service("toy", [sys.executable, "-c", SERVICE], {"refuse": 1}, tmp_path / "toy.log", None)
    with pytest.raises(ProcessFailedError, match="toy exited with code 2"):
        service.wait_for("ready", 20)
    service.take_messages()
    assert service.latest["error"]["message"] == "no"
    service.end()
