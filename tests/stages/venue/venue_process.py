"""Starts the real paper exchange as its launcher does, and talks to it as a client of Binance would."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import websocket
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ROOT = Path(__file__).resolve().parents[3]
SECRET = "test-secret"
PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = base64.b64encode(PRIVATE_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
DEADLINE_S = 20.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class VenueProcess:
    """One running venue; `wait_event` reads what it writes to its notification descriptor."""

    def __init__(self, settings: dict[str, Any]) -> None:
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stages.venue", "--notify-fd", str(writer)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writer],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        os.close(writer)
        self._reader = reader
        self._text = b""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(settings).encode())
        self.process.stdin.close()
        self.first_event = self.wait_event()
        self.port = int(self.first_event.get("port", 0))

    def wait_event(self) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE_S
        while b"\n" not in self._text:
            left = deadline - time.monotonic()
            assert left > 0, "the venue said nothing in time"
            if select.select([self._reader], [], [], left)[0]:
                chunk = os.read(self._reader, 65536)
                assert chunk, f"the venue ended without a word: exit code {self.process.wait(5)}"
                self._text += chunk
        line, self._text = self._text.split(b"\n", 1)
        event: dict[str, Any] = json.loads(line)
        return event

    def stop(self) -> int:
        """End it as a launcher does; the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        return self.finish()

    def finish(self) -> int:
        """Wait until it has ended by itself; the exit code."""
        code = self.process.wait(DEADLINE_S)
        os.close(self._reader)
        assert self.process.stderr is not None
        self.stderr = self.process.stderr.read().decode()
        self.process.stderr.close()
        return code

    # ---- REST

    def rest(
        self, method: str, path: str, payload: str = "", *, key: str | None = None, body: str | None = None
    ) -> tuple[int, Any]:
        """(HTTP status, JSON); `payload` is the query string exactly as given."""
        url = f"http://127.0.0.1:{self.port}/api/v3/{path}" + (f"?{payload}" if payload else "")
        request = urllib.request.Request(url, method=method, data=body.encode() if body else None)
        if key is not None:
            request.add_header("X-MBX-APIKEY", key)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def signed(self, method: str, path: str, **params: Any) -> tuple[int, Any]:
        """A REST request signed with HMAC."""
        payload = urlencode({**params, "timestamp": params.get("timestamp", now_ms())}, quote_via=quote)
        return self.rest(method, path, f"{payload}&signature={hmac_hex(payload)}", key="paper")

    # ---- WebSockets

    def connect(self, path: str) -> websocket.WebSocket:
        return websocket.create_connection(f"ws://127.0.0.1:{self.port}{path}", timeout=DEADLINE_S)


def hmac_hex(payload: str) -> str:
    return hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()


def ed25519_base64(payload: str) -> str:
    return base64.b64encode(PRIVATE_KEY.sign(payload.encode())).decode()


def websocket_payload(params: dict[str, Any]) -> str:
    return "&".join(f"{name}={params[name]}" for name in sorted(params))


def payloads(client: websocket.WebSocket) -> Iterator[bytes]:
    """Payloads of the venue's frames, cut from large reads: websocket-client takes some 60 us a message."""
    data, start = b"", 0
    while True:
        head = data[start : start + 10]
        size = head[1] if len(head) > 1 else 0
        skip = 2
        if size == 126:
            size, skip = int.from_bytes(head[2:4], "big"), 4
        elif size == 127:
            size, skip = int.from_bytes(head[2:10], "big"), 10
        if len(head) < skip or len(data) < start + skip + size:
            chunk = client.sock.recv(1 << 20)
            assert chunk, "the venue closed the connection"
            data, start = data[start:] + chunk, 0
            continue
        yield data[start + skip : start + skip + size]
        start += skip + size


class ApiClient:
    """A WebSocket API session that keeps replies and events apart."""

    def __init__(self, venue: VenueProcess, *, logon: bool = True, query: str = "?returnRateLimits=false") -> None:
        self.socket = venue.connect(f"/ws-api/v3{query}")
        self.events: list[dict[str, Any]] = []
        self._id = 0
        if logon:
            params: dict[str, Any] = {"apiKey": "paper", "timestamp": now_ms()}
            params["signature"] = ed25519_base64(websocket_payload(params))
            assert self.call("session.logon", params)["status"] == 200

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The reply to one request; events that come before it are kept."""
        self._id += 1
        request: dict[str, Any] = {"id": self._id, "method": method}
        if params is not None:
            request["params"] = params
        self.socket.send(json.dumps(request))
        while True:
            message = self.receive()
            if "event" in message:
                self.events.append(message["event"])
            else:
                assert message["id"] == self._id
                return message

    def trade(self, method: str, **params: Any) -> dict[str, Any]:
        """A request of the logged-on session: only the timestamp is added."""
        return self.call(method, {"timestamp": now_ms(), **params})

    def place(self, **params: Any) -> dict[str, Any]:
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
        merged = {name: value for name, value in {**order, **params}.items() if value is not None}
        return self.trade("order.place", **merged)

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv())
        return message

    def wait_event(self, accept: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event that fits, from those kept or still to come."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            while self.events:
                event = self.events.pop(0)
                if accept(event):
                    return event
            self.events.append(self.receive()["event"])
        raise AssertionError("no such event in time")

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def running(**settings: Any) -> Iterator[VenueProcess]:
    """A venue with test keys; it must end with exit code 0."""
    venue = VenueProcess({"ed25519_public_key": PUBLIC_KEY, "hmac_secret": SECRET, **settings})
    try:
        assert venue.first_event["event"] == "ready", venue.first_event
        yield venue
    finally:
        code = venue.stop()
    assert code == 0, venue.stderr
    assert "Traceback" not in venue.stderr, venue.stderr
