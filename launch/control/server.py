"""The control socket's server, inside the supervisor: single-threaded, never waiting, at the supervisor's one `wait`.

What a client does can cost the supervisor only what is bounded here: so many clients, so many bytes, so much silence,
one request each, one request handled between two waits. Whoever goes beyond is cut off; further clients wait in the
kernel's backlog. A handler answers at once, or returns a `Pending` that is completed later.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from launch.control.protocol import FAILED, PING, REQUEST_BYTES_MOST, ControlError, encode, parse_request, peer
from launch.errors import LaunchError

log = logging.getLogger(__name__)

CLIENTS_MOST = 16
PATIENCE_S = 5.0
"""For a request to be there in full, and again for the answer to be taken."""
ACCEPT_PAUSE_S = 1.0
"""After the system had no descriptor left for a client."""


class Pending:
    """An answer that is not there yet: whoever holds it calls `complete` or `refuse`.

    With `look` the server asks after each wait: it returns the result, or None for not yet, or raises LaunchError.
    """

    def __init__(self, look: Callable[[], Mapping[str, Any] | None] | None = None) -> None:
        self._look = look
        self._result: Mapping[str, Any] | None = None
        self._error: LaunchError | None = None

    def complete(self, result: Mapping[str, Any]) -> None:
        """This is the result."""
        self._result = result

    def refuse(self, error: LaunchError) -> None:
        """There will be none, because of `error`."""
        self._error = error

    def look(self) -> Mapping[str, Any] | None:
        """The result, None for not yet. Raises LaunchError."""
        if self._error is not None:
            raise self._error
        if self._result is None and self._look is not None:
            return self._look()
        return self._result


Handler = Callable[[Mapping[str, Any]], Mapping[str, Any] | Pending]
"""From a request to its result. Raises LaunchError (a ControlError where the exit code is not 2)."""


def refusal(error: LaunchError) -> dict[str, Any]:
    """The answer that says no."""
    code = error.exit_code if isinstance(error, ControlError) else ControlError("").exit_code
    return {"ok": False, "error": str(error), "hint": error.hint, "exit_code": code}


class Waiter(Protocol):
    """Where the supervisor waits: `launch.supervision.signals.Signals`."""

    def listen(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when the descriptor can be read."""

    def forget(self, descriptor: int) -> None:
        """Listen no more."""


class _Client:
    """A connection: its request comes in, then its answer is awaited, then sent."""

    def __init__(self, connection: socket.socket, end_s: float) -> None:
        self.connection, self.end_s = connection, end_s
        self.received = b""
        self.pending: Pending | None = None
        self.unsent = b""


class ControlServer:
    """Serves `handlers` (by verb), and `ping`, on a listening, non-blocking Unix socket until it is closed.

    `attend` must be called after each of the waiter's waits.
    """

    def __init__(
        self,
        listener: socket.socket,
        waiter: Waiter,
        handlers: Mapping[str, Handler],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener, self._waiter, self._clock = listener, waiter, clock
        self._handlers: dict[str, Handler] = {PING: lambda request: {}, **handlers}
        self._clients: list[_Client] = []
        self._may_handle = True
        self._accepting = False
        self._accept_at_s = 0.0
        self._listen()

    @property
    def client_count(self) -> int:
        """Connections that are open now."""
        return len(self._clients)

    def attend(self) -> None:
        """Give what has become known meanwhile; cut off who took too long."""
        self._may_handle = True
        if (not self._clients and self._accepting) or self._listener.fileno() < 0:
            return
        for client in list(self._clients):
            self._attend(client)
        self._listen()

    def close(self, last_s: float = 1.0) -> None:
        """Refuse what is still open, let the answers be taken for a moment, close. Idempotent."""
        for client in list(self._clients):
            self._attend(client)
            if client.pending is not None:
                client.pending.refuse(ControlError("the run ended before that was done", exit_code=FAILED))
                self._attend(client)
        end_s = time.monotonic() + last_s
        while any(client.unsent for client in self._clients) and time.monotonic() < end_s:
            time.sleep(0.005)
            for client in list(self._clients):
                self._flush(client)
        for client in list(self._clients):
            self._drop(client)
        self._waiter.forget(self._listener.fileno())
        self._listener.close()

    # -- connections ---------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take further clients when there is room for one."""
        room = len(self._clients) < CLIENTS_MOST and self._clock() >= self._accept_at_s
        if room and not self._accepting:
            self._waiter.listen(self._listener.fileno(), self._accept)
        elif not room and self._accepting:
            self._waiter.forget(self._listener.fileno())
        self._accepting = room

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor, no memory: a listener that stays readable must not spin
            log.warning("control socket: %s", error)
            self._accept_at_s = self._clock() + ACCEPT_PAUSE_S
            self._listen()
            return
        connection.setblocking(False)
        _, uid = peer(connection)
        if uid not in (os.geteuid(), 0):
            connection.close()
            return
        client = _Client(connection, self._clock() + PATIENCE_S)
        self._clients.append(client)
        self._waiter.listen(connection.fileno(), lambda: self._read(client))
        self._listen()

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._waiter.forget(client.connection.fileno())
            client.connection.close()

    # -- requests ------------------------------------------------------------------------------------------------

    def _read(self, client: _Client) -> None:
        # What is left unread makes the next wait return at once: between two waits one request is handled.
        if not self._may_handle or client not in self._clients:
            return
        try:
            chunk = client.connection.recv(REQUEST_BYTES_MOST)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._drop(client)
            return
        client.received += chunk
        line, newline, _ = client.received.partition(b"\n")
        if newline or len(client.received) > REQUEST_BYTES_MOST:
            self._may_handle = False
            self._waiter.forget(client.connection.fileno())  # one request each: nothing more is read
            self._answer(client, line)

    def _answer(self, client: _Client, line: bytes) -> None:
        def handled() -> Mapping[str, Any] | Pending:
            if len(line) > REQUEST_BYTES_MOST:
                raise ControlError(f"the request is longer than {REQUEST_BYTES_MOST} bytes")
            request = parse_request(line)
            handler = self._handlers.get(request["verb"])
            if handler is None:
                known = ", ".join(self._handlers)
                raise ControlError(f"verb {request['verb']!r:.40} is not known to this run", f"it knows {known}")
            return handler(request)

        self._attempt(client, handled)

    # -- answers -------------------------------------------------------------------------------------------------

    def _attempt(self, client: _Client, act: Callable[[], Mapping[str, Any] | Pending | None]) -> None:
        """Answer with what `act` returns or raises, unless that is not there yet."""
        try:
            result = act()
            if isinstance(result, Pending):
                client.pending = result
                return
            if result is None:
                return
            answer = encode({"ok": True, "result": result})
        except LaunchError as error:
            answer = encode(refusal(error))
        except Exception as error:  # a figure that could not be made must not end a line that trades
            log.exception("control socket")
            answer = encode(refusal(ControlError(f"the supervisor failed at it: {error!r}", exit_code=FAILED)))
        client.pending, client.unsent = None, answer
        client.end_s = self._clock() + PATIENCE_S
        self._flush(client)

    def _attend(self, client: _Client) -> None:
        if client.pending is not None:
            self._attempt(client, client.pending.look)
            return
        if client.unsent:
            self._flush(client)
        if self._clock() > client.end_s:
            self._drop(client)

    def _flush(self, client: _Client) -> None:
        """Send what the socket takes now, the rest after the next wait; then close."""
        try:
            while client.unsent:
                client.unsent = client.unsent[client.connection.send(client.unsent) :]
        except BlockingIOError:
            return
        except OSError:  # it left without its answer
            pass
        self._drop(client)
