"""A line that trades on a paper exchange of the test's own: a process that outlives the line and knows the truth."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.conftest import REPOSITORY
from tests.stages.router.support import CREDENTIALS, venue

STAGES = ("feed", "book", "strategy", "risk", "router")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
DEADLINE_S = 60.0


def wait_until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """What `condition` returns once it is true; fails with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while not (result := condition()):
        assert time.monotonic() < end, f"{what}: not within {deadline_s:g} s"
        time.sleep(0.002)
    return result


class Venue:
    """The exchange's own view, asked over REST with the account's key."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.port, self.process = port, process
        self._http = urllib3.PoolManager(retries=False)

    def get(self, path: str, **params: Any) -> Any:
        """A signed request."""
        fields = {name: str(value) for name, value in params.items()} | {"timestamp": str(time.time_ns() // 1_000_000)}
        payload = "&".join(f"{name}={value}" for name, value in fields.items())
        signature = quote(base64.b64encode(CREDENTIALS.private_key.sign(payload.encode())), safe="")
        url = f"http://127.0.0.1:{self.port}/api/v3/{path}?{payload}&signature={signature}"
        reply = self._http.request("GET", url, headers={"X-MBX-APIKEY": CREDENTIALS.api_key})
        assert reply.status == 200, reply.data
        return json.loads(reply.data)

    def all(self, path: str, symbol: str, key: str, after: str) -> list[Any]:
        """Every order or trade of a symbol, page by page."""
        found: list[Any] = []
        while page := self.get(path, symbol=symbol, limit=1000, **{after: found[-1][key] + 1 if found else 0}):
            found += page
        return found

    def orders(self, symbol: str) -> list[Any]:
        """Every order of the account."""
        return self.all("allOrders", symbol, "orderId", "orderId")

    def trades(self, symbol: str) -> list[Any]:
        """Every trade of the account."""
        return self.all("myTrades", symbol, "id", "fromId")


@contextmanager
def exchange() -> Iterator[Venue]:
    """A paper exchange with its synthetic market."""
    with venue() as (process, port):
        yield Venue(port, process)


class Line:
    """`pipeline up` against a `Venue`; its processes by stage."""

    def __init__(self, folder: Path, market: Venue, **settings: Any) -> None:
        self.folder, self.market = folder, market
        self._key, self._private = folder / "api_key", folder / "private.pem"
        self._key.write_text(CREDENTIALS.api_key)
        self._private.write_bytes(
            CREDENTIALS.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        self._private.chmod(0o600)
        host = f"127.0.0.1:{market.port}"
        self.settings = {
            "market.venue": "binance", "market.symbols": json.dumps(SYMBOLS),
            "market.stream_url": f"ws://{host}", "market.rest_url": f"http://{host}",
            "market.order_url": f"ws://{host}/ws-api/v3", "market.api_key_file": self._key,
            "market.private_key_file": self._private, "router.not_found_wait_ms": 500, "router.ask_again_ms": 100,
            "router.backoff_ms_min": 10, "feed.reconnect_min_ms": 10,
        } | settings  # fmt: skip
        self.process: subprocess.Popen[str]

    def start(self, *arguments: str) -> "Line":
        """Start it, and wait until it trades."""
        said = len(self.words) if (self.folder / "words.txt").exists() else 0
        options = [word for name, value in self.settings.items() for word in ("-s", f"{name}={value}")]
        self._words = (self.folder / "words.txt").open("a")
        self._out = (self.folder / "out.txt").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "up", "--json", *options, *arguments],
            stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._words, text=True,
            env=os.environ | {"XDG_STATE_HOME": str(self.folder / "state"), "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        wait_until(
            lambda: "market data" in self.words[said:] or self.process.poll() is not None, "the line trades", 600
        )
        return self

    @property
    def words(self) -> str:
        """What it said."""
        return (self.folder / "words.txt").read_text()

    def pids(self) -> dict[str, int]:
        """Stage: its process, of those that run now."""
        return self._named("pipe:")

    def spares(self) -> dict[str, int]:
        """Stage: the process that waits to be its next one."""
        return self._named("spare:")

    def _named(self, prefix: str) -> dict[str, int]:
        names = {pid: comm(pid) for pid in self._children()}
        return {name.removeprefix(prefix): pid for pid, name in names.items() if name.startswith(prefix)}

    def _children(self) -> list[int]:
        try:
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def stop(self) -> Any:
        """Ctrl-C; returns the report."""
        self.process.send_signal(signal.SIGINT)
        return self.report()

    def report(self) -> Any:
        """The report, once the run has ended."""
        self.process.wait(DEADLINE_S)
        text = (self.folder / "out.txt").read_text()
        assert text, self.words
        return json.loads(text.splitlines()[-1])

    def close(self) -> None:
        """End what is left of it."""
        left = self.pids() if self.process.poll() is None else {}
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in left.values():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._words.close()
        self._out.close()

    def run_directory(self) -> Path:
        """Of the newest run."""
        runs = [path for path in (self.folder / "state" / "tickpipe" / "runs").iterdir() if path.is_dir()]
        return max(runs, key=lambda path: path.stat().st_mtime)


def comm(pid: int) -> str:
    """The name of a process; empty when it is gone or a zombie."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return "" if lines["State"].startswith("Z") else lines["Name"]
