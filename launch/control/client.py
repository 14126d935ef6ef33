"""Asking a run's supervisor over its control socket.

A supervisor that works on what it was asked for may take its time; one that hangs is told apart by asking it something
else meanwhile.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from launch.control.protocol import ANSWER_BYTES_MOST, FAILED, PING, ControlError, encode, peer

SILENCE_S = 10.0
"""A supervisor that says nothing for so long hangs. Its longest step is the end of a process that ignores SIGTERM."""
ASK_MEANWHILE_S = 1.0
"""How often it is asked whether it still reacts, while an answer is awaited."""
CONNECT_POLL_S = 0.02


class GoneError(ControlError):
    """Nobody is behind the socket, or it ended without an answer."""


class HangsError(ControlError):
    """The supervisor does not react."""


def ask(path: Path, verb: str, arguments: Mapping[str, Any], silence_s: float = SILENCE_S) -> dict[str, Any]:
    """The result of a request, however long that takes while the supervisor reacts to others.

    Raises ControlError as the supervisor does; GoneError, HangsError.
    """
    with _connect(path, silence_s) as connection:
        try:
            connection.sendall(encode({**arguments, "verb": verb}))
            if verb != PING:
                connection.settimeout(min(ASK_MEANWHILE_S, silence_s))
            received = b""
            while not received.endswith(b"\n"):
                chunk = _receive(connection, path, verb, silence_s)
                received += chunk
                if not chunk or len(received) > ANSWER_BYTES_MOST:
                    raise GoneError("the supervisor ended without an answer", exit_code=FAILED)
        except OSError as error:
            raise GoneError(f"the supervisor ended without an answer: {error.strerror}", exit_code=FAILED) from None
    return _result(received)


def _connect(path: Path, silence_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(silence_s)
    end_s = time.monotonic() + silence_s
    try:
        while True:
            try:
                connection.connect(os.fsencode(path))
                break
            except BlockingIOError:  # its backlog is full
                if time.monotonic() > end_s:
                    raise _hangs(silence_s) from None
                time.sleep(CONNECT_POLL_S)
        _, uid = peer(connection)
        if uid not in (os.geteuid(), 0) and os.geteuid():
            raise GoneError(f"{path} belongs to user {uid}, not to you", exit_code=FAILED)
    except OSError as error:
        connection.close()
        raise GoneError(f"control socket {path}: {error.strerror}", exit_code=FAILED) from None
    except ControlError:
        connection.close()
        raise
    return connection


def _receive(connection: socket.socket, path: Path, verb: str, silence_s: float) -> bytes:
    while True:
        try:
            return connection.recv(65_536)
        except TimeoutError:
            if verb == PING:
                raise _hangs(silence_s) from None
            with suppress(GoneError):  # then our answer, or the end, is on its way
                ask(path, PING, {}, silence_s)


def _hangs(silence_s: float) -> HangsError:
    return HangsError(f"the supervisor does not react for {silence_s:g} s", exit_code=FAILED)


def _result(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
        if answer["ok"]:
            return dict(answer["result"])
        error = ControlError(str(answer["error"]), str(answer["hint"]), int(answer["exit_code"]))
    except (ValueError, KeyError, TypeError):
        raise ControlError(
            f"the supervisor's answer is not understood: {line[:80]!r}",
            "use the `pipeline` command that started the run", FAILED,
        ) from None  # fmt: skip
    raise error
