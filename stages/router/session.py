"""Connect, log on, subscribe: runs in the helper thread, may block, ends with a descriptor for compiled code."""

import logging
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import simplejson
import websocket

from stages.domain.sockets import connect_directly, tune
from stages.router.credentials import Credentials
from stages.router.settings import RouterSettings

log = logging.getLogger(__name__)


class SessionError(Exception):
    """The venue refused the log-on or the subscription, in its words."""


@dataclass
class Session:
    """An open, logged-on, subscribed connection. `sock` is non-blocking and tuned; nothing read from it is lost."""

    sock: socket.socket
    findings: list[str]
    early: list[bytes] = field(default_factory=list)
    """Messages that came before the subscription's answer and are not answers of the log-on."""
    connection: Any = None
    """websocket-client's object, kept because its destructor would close the socket."""


def open_session(url: str, credentials: Credentials, settings: RouterSettings) -> Session:
    """One attempt. Raises OSError, websocket.WebSocketException or SessionError."""
    timeout_s = settings.connect_timeout_ms / 1_000
    sock = connect_directly(url, timeout_s)
    try:
        # Orders go where `url` says and nowhere else: through no proxy, and no redirection is followed.
        connection: Any = websocket.create_connection(
            url, timeout=timeout_s, suppress_origin=True, redirect_limit=0, socket=sock
        )
    except BaseException:
        sock.close()
        raise
    try:
        early: list[bytes] = []
        timestamp = str(time.time_ns() // 1_000_000)
        params = {"apiKey": credentials.api_key, "timestamp": timestamp}
        _ask(connection, early, "session.logon", params | {"signature": credentials.sign(params)})
        _ask(connection, early, "userDataStream.subscribe", {})
        if connection.frame_buffer.recv_buffer:
            raise SessionError("websocket-client read beyond the frame it was asked for")
        assert connection.sock is not None, "a connection that has just answered has a socket"
        return Session(connection.sock, tune(connection.sock), early, connection)
    except BaseException:
        connection.close(timeout=0)
        raise


def open_session_with_backoff(
    url: str, credentials: Credentials, settings: RouterSettings, stopping: threading.Event
) -> Session | None:
    """Attempts until one succeeds, the waits between them doubling; None when `stopping` was set meanwhile."""
    wait_ms = settings.backoff_ms_min
    while not stopping.is_set():
        try:
            return open_session(url, credentials, settings)
        except (OSError, websocket.WebSocketException, SessionError) as error:
            log.warning("order connection to %s: %s; trying again in %d ms", url, error or repr(error), wait_ms)
        stopping.wait(wait_ms / 1_000)
        wait_ms = min(2 * wait_ms, settings.backoff_ms_max)
    return None


def _ask(connection: Any, early: list[bytes], method: str, params: dict[str, str]) -> None:
    """Send a request and wait for its answer; whatever else arrives is put into `early`, in order."""
    connection.send(simplejson.dumps({"id": method, "method": method, "params": params}))
    while True:
        text = connection.recv()
        if not text:
            raise SessionError(f"{method}: the venue closed the connection")
        raw = text if isinstance(text, bytes) else text.encode()
        try:
            answer = simplejson.loads(raw, use_decimal=True)
        except (ValueError, RecursionError):
            early.append(raw)
            continue
        if isinstance(answer, dict) and answer.get("id") == method:
            if answer.get("status") != 200:
                error = answer.get("error")
                words = f"{error.get('code')} {error.get('msg')}" if isinstance(error, dict) else repr(answer)[:200]
                raise SessionError(f"{method}: {words}")
            return
        early.append(raw)
