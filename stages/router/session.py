"""Connect, log on, subscribe: runs in the helper thread, may block, ends with a descriptor for compiled code."""

import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import simplejson
import websocket

from stages.domain.sockets import connect_directly, tune
from stages.router.credentials import Credentials
from stages.router.settings import RouterSettings

log = logging.getLogger(__name__)


OUR_ID = re.compile("t[0-9a-z]+-[0-9a-z]+")
"""Client order ids of any run of ours (stages.domain.orders)."""


Living = Callable[[], Collection[str]]
"""Says the client order id prefixes of the runs that live now. Any thread."""


class SessionError(Exception):
    """The session cannot be opened, in the venue's words."""


class RefusedError(SessionError):
    """The venue refused a request."""


@dataclass
class Session:
    """An open, logged-on, subscribed connection. `sock` is non-blocking and tuned; nothing read from it is lost."""

    sock: socket.socket
    findings: list[str]
    early: list[bytes] = field(default_factory=list)
    """Messages that came before the subscription's answer and are not answers of the log-on."""
    connection: Any = None
    """websocket-client's object, kept because its destructor would close the socket."""


def open_session(url: str, credentials: Credentials, settings: RouterSettings, living: Living | None = None) -> Session:
    """One attempt. Raises OSError, websocket.WebSocketException or SessionError.

    With `living`, orders that an earlier run left at the venue are cancelled first: those whose ids are of our form
    and of none of the runs that live.
    """
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
        if living is not None:
            _cancel_leftovers(connection, early, living)
        _ask(connection, early, "userDataStream.subscribe", {})
        if connection.frame_buffer.recv_buffer:
            raise SessionError("websocket-client read beyond the frame it was asked for")
        assert connection.sock is not None, "a connection that has just answered has a socket"
        return Session(connection.sock, tune(connection.sock), early, connection)
    except BaseException:
        connection.close(timeout=0)
        raise


def _cancel_leftovers(connection: Any, early: list[bytes], living: Living) -> None:
    """Cancel what a run that died, router and all, could not cancel itself."""
    orders = _ask(connection, early, "openOrders.status", _stamped())
    of_the_living = tuple(living())  # asked after the venue: a run has its name before it has an order
    for order in orders:
        client_id = str(order["clientOrderId"])
        if not OUR_ID.fullmatch(client_id) or client_id.startswith(of_the_living):
            continue
        try:
            _ask(connection, early, "order.cancel", _stamped(symbol=order["symbol"], orderId=order["orderId"]))
        except RefusedError as error:
            log.warning("%s of an earlier run is not cancelled: %s", client_id, error)  # it ended meanwhile
        else:
            log.warning("cancelled %s %s, which an earlier run left at the venue", order["symbol"], client_id)


def _stamped(**params: Any) -> dict[str, Any]:
    return params | {"timestamp": time.time_ns() // 1_000_000}


def open_session_with_backoff(
    url: str,
    credentials: Credentials,
    settings: RouterSettings,
    stopping: threading.Event,
    living: Living | None = None,
) -> Session | None:
    """Attempts until one succeeds, the waits between them doubling; None when `stopping` was set meanwhile."""
    wait_ms = settings.backoff_ms_min
    while not stopping.is_set():
        try:
            return open_session(url, credentials, settings, living)
        except (OSError, websocket.WebSocketException, SessionError) as error:
            log.warning("order connection to %s: %s; trying again in %d ms", url, error or repr(error), wait_ms)
        stopping.wait(wait_ms / 1_000)
        wait_ms = min(2 * wait_ms, settings.backoff_ms_max)
    return None


def _ask(connection: Any, early: list[bytes], method: str, params: dict[str, Any]) -> Any:
    """Send a request and wait for its result, as long as the connection's timeout says and no longer.

    Whatever else arrives is put into `early`, in order.
    """
    with _deadline(connection, method):
        connection.send(simplejson.dumps({"id": method, "method": method, "params": params}))
        return _answer(connection, early, method)


@contextlib.contextmanager
def _deadline(connection: Any, method: str) -> Iterator[None]:
    """Cut the connection when the time is over: the socket's own timeout begins anew with every byte that comes."""
    timeout_s = connection.gettimeout()
    is_over = threading.Event()

    def cut() -> None:
        is_over.set()
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, websocket.WebSocketException, SessionError) as error:
        if is_over.is_set():
            raise SessionError(f"{method}: no answer within {timeout_s:g} s") from error
        raise
    finally:
        timer.cancel()


def _answer(connection: Any, early: list[bytes], method: str) -> Any:
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
                raise RefusedError(f"{method}: {words}")
            return answer.get("result")
        early.append(raw)
