"""The paper exchange as a process of the run, and what the line must know of any venue before it starts."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from launch.errors import ProcessFailedError
from launch.supervision.service import Service
from pipeline.config.tree import Config
from pipeline.errors import PipelineError, UsageError
from stages.router.credentials import Credentials

VENUE_USAGE = 2
"""Exit code by which the paper exchange refuses its configuration or a capture."""
RETRY_FIRST_S, RETRY_MOST_S = 0.2, 5.0
HTTP_TIMEOUT_S = 10.0
SYMBOLS_ASKED_MAX = 100
"""Of more than these all are asked for: a URL has its limits."""


def read_credentials(api_key_file: Path, private_key_file: Path) -> Credentials:
    """What to log on with, from two files. Raises UsageError."""
    key = _read_key(private_key_file)
    try:
        return Credentials(api_key_file.read_text(encoding="ascii").strip(), key)
    except (OSError, ValueError) as error:
        raise UsageError(f"market.api_key_file = {api_key_file}: {error}", "give a readable file") from None


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise UsageError(f"market.private_key_file = {path}: {error.strerror}", "give a readable file") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"market.private_key_file = {path}: {error}", "an unencrypted PEM file is needed") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"market.private_key_file = {path}: not an Ed25519 key", "session.logon takes no other kind")
    return key


def start_paper_venue(config: Config, credentials: Credentials, log_path: Path, cpu: int) -> Service:
    """Start it for the holder of `credentials`; it is ready when it says so."""
    settings = config.venue.model_dump(mode="json") | {"ed25519_public_key": credentials.public_key_base64()}
    if not config.venue.replay_symbols:
        settings["replay_symbols"] = config.market.symbols
    if config.feed.source == "itch" and config.venue.replay and not config.venue.lines:
        settings |= {"lines": config.feed.lines, "request_server": config.feed.request_server}
    command = [sys.executable, "-m", "stages.venue", "--parent-pid", str(os.getpid())]
    return Service("venue", command, settings, log_path, cpu)


def wait_ready(service: Service, deadline_s: float, wait: Callable[[float], object]) -> tuple[str, int]:
    """(host, port) it serves. Raises UsageError for what it refuses, PipelineError when it fails."""
    try:
        ready = service.wait_for("ready", deadline_s, wait)
    except ProcessFailedError as error:
        service.take_messages()
        refused = service.latest.get("error")
        if refused is not None and service.poll() == VENUE_USAGE:
            raise UsageError(str(refused.get("message")), str(refused.get("hint", ""))) from None
        raise PipelineError(f"{error}\n{error.log_tail}", error.hint) from None
    return str(ready["host"]), int(ready["port"])


def fetch_exchange_info(
    rest_url: str,
    symbols: list[str],
    *,
    deadline_s: float,
    say: Callable[[str], None],
    wait: Callable[[float], object],
) -> dict[str, Any]:
    """GET /api/v3/exchangeInfo, tried again with growing pauses while the venue is not there. Raises PipelineError."""
    url = f"{rest_url.rstrip('/')}/api/v3/exchangeInfo"
    if 0 < len(symbols) <= SYMBOLS_ASKED_MAX:
        url += f"?symbols={json.dumps(symbols, separators=(',', ':'))}"
    pause_s, waited_s = RETRY_FIRST_S, 0.0
    with urllib3.PoolManager(retries=False, timeout=HTTP_TIMEOUT_S) as pool:
        while True:
            problem = ""
            try:
                answer = pool.request("GET", url)
                if answer.status == 200:
                    return _document(answer.data, url)
                problem = f"status {answer.status}: {answer.data[:200].decode(errors='replace')}"
                if answer.status in (400, 401, 403, 404, 418):
                    raise UsageError(f"{url}: {problem}", "check market.symbols and market.rest_url")
            except urllib3.exceptions.HTTPError as error:
                problem = _reason(error)
            if waited_s >= deadline_s:
                raise PipelineError(
                    f"venue not reachable at {rest_url} for {waited_s:.0f} s: {problem}",
                    "check market.rest_url; market.connect_deadline_s allows more time",
                )
            say(f"venue not reachable at {rest_url} ({problem}), retrying in {pause_s:.1f} s")
            wait(pause_s)
            waited_s += pause_s
            pause_s = min(2 * pause_s, RETRY_MOST_S)


def _document(body: bytes, url: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("symbols"), list):
        raise PipelineError(f"{url}: the answer is not an exchangeInfo document", "is this a Binance REST interface?")
    return document


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    """The innermost cause, in short."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
