"""What a supervisor and its clients say to each other on the control socket: one request, one answer, a line each.

    {"version": 1, "verb": "restart", "stage": "book"}
    {"version": 1, "ok": true, "result": {...}}
    {"version": 1, "ok": false, "error": "what happened", "hint": "what to do", "exit_code": 2}

One exchange a connection; the supervisor closes it after its answer. An answer may take as long as what was asked for.
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

from launch.errors import LaunchError

VERSION = 1
REQUEST_BYTES_MOST = 4_096
"""A request is a verb and a name or two; what is longer is none."""
ANSWER_BYTES_MOST = 16 * 2**20
PING = "ping"
"""The verb that every supervisor answers at once."""
REFUSED, FAILED = 2, 3
"""Exit codes: what was asked for cannot be; it was tried and went wrong."""

_CREDENTIALS = struct.Struct("iII")


class ControlError(LaunchError):
    """A request that was refused or failed; the client ends with `exit_code`."""

    def __init__(self, text: str, hint: str = "", exit_code: int = REFUSED) -> None:
        super().__init__(text, hint)
        self.exit_code = exit_code


def peer(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end, as the kernel knows them."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def encode(message: Mapping[str, Any]) -> bytes:
    """A line."""
    return json.dumps({"version": VERSION, **message}).encode() + b"\n"


def parse_request(line: bytes) -> dict[str, Any]:
    """The request that stands in a line, `verb` a text. Raises ControlError."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise ControlError("the request is not a JSON object on one line")
    version = request.get("version")
    if type(version) is not int or version != VERSION:
        raise ControlError(
            f"version {version!r:.40} of the control protocol is not known; this run speaks version {VERSION}",
            "use the `pipeline` command that started the run",
        )
    if not isinstance(request.get("verb"), str):
        raise ControlError("the request names no verb")
    return request
