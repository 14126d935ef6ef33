"""Without root, without and with a terminal: the same run; a live line where it can be drawn."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.conftest import Runs, copy_kernels

pytestmark = pytest.mark.timeout(400)

NOBODY = 65_534
STRATEGY = """
from stages.strategy.api import BUY, place, state_record

STATE = state_record("count")


def on_book(ctx, book):
    mine = ctx.state[book.symbol]
    if book.is_valid and mine["count"] < 1:
        mine["count"] += 1
        place(ctx, book.symbol, BUY, book.bid_ticks, 1000)
"""
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d)(?:;\d+)*m")
"""A select-graphic-rendition sequence that sets a colour."""

# In a mount namespace of its own: each folder that others may not enter ($1, split by colons) is covered by one that
# holds only what the command reads ($2, likewise), at its usual place. Then the command runs as nobody.
UNCOVER = r"""
set -e
stash=$3; IFS=:
count=0; for path in $2; do
    count=$((count + 1)); mkdir -p "$stash/$count"; mount --bind "$path" "$stash/$count"
done
for folder in $1; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
count=0; for path in $2; do
    count=$((count + 1)); mkdir -p "$path"; mount --bind "$stash/$count" "$path"
done
unset IFS; shift 3
cd / && exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --no-new-privs "$@"
"""


@dataclass(frozen=True)
class User:
    """An ordinary user: command words that become it, and an environment with folders of its own."""

    before: list[str]
    environment: Mapping[str, str]
    strategy: str
    """A file of its own."""


def _covered(path: Path) -> Path | None:
    """The outermost folder above `path` that others may not enter."""
    closed = [folder for folder in path.parents if not folder.stat().st_mode & 0o001]
    return closed[-1] if closed else None


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    """Ourselves, or nobody when we are root."""
    home = Path(tempfile.mkdtemp(prefix="tickpipe-user-"))
    try:
        copy_kernels(home / "cache")
        strategy = home / "own.py"
        strategy.write_text(STRATEGY, encoding="utf-8")
        environment = {
            "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_RUNTIME_DIR": str(home), "TERM": "xterm-256color",
        }  # fmt: skip
        if os.geteuid() != 0:
            yield User([], environment, str(strategy))
            return
        missing = [tool for tool in ("setpriv", "unshare", "mount") if shutil.which(tool) is None]
        if missing:
            pytest.skip(f"we are root, and to become somebody else needs {', '.join(missing)}")
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        read = sorted({Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parent.parent,
                       REPOSITORY.resolve()})  # fmt: skip
        covered = {path: folder for path in read if (folder := _covered(path)) is not None}
        stash = tempfile.mkdtemp(prefix="tickpipe-stash-")
        before = [
            "unshare", "-m", "--propagation", "private", "sh", "-c", UNCOVER, "sh",
            ":".join(sorted({str(folder) for folder in covered.values()})), ":".join(map(str, covered)), stash,
        ]  # fmt: skip
        try:
            tried = subprocess.run(
                [*before, sys.executable, "-c", "import numba, os; print(os.getuid())"], capture_output=True, text=True,
                env=os.environ | environment,
            )  # fmt: skip
            if tried.stdout.strip() != str(NOBODY):
                pytest.skip(f"nobody cannot be made to run {sys.executable} here: {tried.stderr.strip()[-300:]}")
            yield User(before, environment, str(strategy))
        finally:
            shutil.rmtree(stash)
    finally:
        shutil.rmtree(home)


class Screen:
    """The other end of a terminal of 40 rows and 160 columns that a command runs on."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (40, 160))
        self.seen = ""

    def read_until(self, text: str | None, seconds: float) -> None:
        """Until `text` has appeared, or (None) until the command has closed the terminal."""
        deadline = time.monotonic() + seconds
        while text is None or text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} not on the screen within {seconds} s:\n{self.seen}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    data = os.read(self.master, 65_536)
                except OSError:  # EIO: nobody holds the other end any more
                    data = b""
                if not data:
                    assert text is None, f"{text!r} never came:\n{self.seen}"
                    return
                self.seen += data.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)


def _on_a_terminal(pipeline: Runs, user: User, until_trading: Sequence[str], **environment: str) -> str:
    """What is seen of a run that is interrupted once the words of `until_trading` have come, one after the other."""
    screen = Screen()
    try:
        process = pipeline.start(
            "up", "--duration", "200s", "--strategy", user.strategy, before=["setsid", "--ctty", *user.before],
            env=dict(user.environment) | environment, stdin=screen.slave, stdout=screen.slave, stderr=screen.slave,
        )  # fmt: skip
        os.close(screen.slave)
        for text in until_trading:
            screen.read_until(text, 120)
        screen.type(b"\x03")
        screen.read_until(None, 30)
        assert process.wait(10) == 0, screen.seen
    finally:
        os.close(screen.master)
    assert "\x1b[2K" in screen.seen or "\x1b[1A" in screen.seen, "drawn in place"
    assert "stopped: interrupted; report kept in" in screen.seen
    assert "tick_to_trade" in screen.seen, "the report's table"
    assert screen.seen.rindex("\x1b[?25h") > screen.seen.rindex("\x1b[?25l"), "the cursor is there again"
    return screen.seen


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid to give a command its own terminal")
def test_on_a_terminal_progress_and_a_live_line_are_drawn_and_ctrl_c_stops(pipeline: Runs, user: User) -> None:
    with Path(user.strategy).open("a", encoding="utf-8") as file:
        file.write("\n# compiled now, so that there is progress to show\n")
    seen = _on_a_terminal(pipeline, user, ("compiling", "5/5", "market data"))
    assert "━" in seen, "a progress bar"
    assert COLOUR.search(seen)
    assert not COLOUR.search(_on_a_terminal(pipeline, user, ("market data",), NO_COLOR="1"))


def test_without_a_terminal(pipeline: Runs, user: User) -> None:
    done = pipeline.run(
        "up", "--duration", "1s", "--json", "--strategy", user.strategy, before=user.before, env=user.environment
    )
    assert done.code == 0, done.words
    report = done.report
    assert report["exit"] == "clean"
    assert report["orders"]["acked"] > 0
    assert report["market_data"]["dropped"] == 0
    assert "\x1b" not in done.words, "no terminal, no escape sequences"
    assert "\r" not in done.words
    kept = Path(user.environment["XDG_STATE_HOME"]) / "tickpipe" / "runs" / report["run"]
    assert json.loads((kept / "report.json").read_text())["run"] == report["run"]
    if os.geteuid() == 0:
        assert kept.stat().st_uid == NOBODY
    assert kept.stat().st_mode & 0o077 == 0, "nobody else may read it"
