"""A WebSocket API in a thread, on a real socket, that says exactly what a test tells it to, faults included."""

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class FakeVenue:
    """Accepts connections one after the other, answers log-on and subscription; then the test reads and writes."""

    def __init__(self, before_subscription: bytes = b"", receive_buffer_bytes: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        if receive_buffer_bytes:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.port = int(self._listener.getsockname()[1])
        self._before_subscription = before_subscription
        self._ready = threading.Semaphore(0)
        self.connection: socket.socket | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # A client that was told nonsense leaves; a venue of nonsense may, too.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, SystemExit):
                self._log_on(connection)

    def _log_on(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(key.group(1) + _GUID).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.connection = connection
        method = ""
        while method != "userDataStream.subscribe":
            method = self.read_json()["method"]
            assert method in ("session.logon", "openOrders.status", "userDataStream.subscribe")
            if method == "userDataStream.subscribe" and self._before_subscription:
                connection.sendall(self._before_subscription)
            result: Any = [] if method == "openOrders.status" else {"subscriptionId": 0}
            self.send({"id": method, "status": 200, "result": result})
        self._ready.release()

    def wait_ready(self) -> "FakeVenue":
        assert self._ready.acquire(timeout=20), "no log-on came"
        return self

    def read_frame(self) -> tuple[int, bytes]:
        """(opcode, unmasked payload) of the client's next frame; asserts that it is masked."""
        first, second = self._read(2)
        assert second & 0x80, "a client must mask"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self._read(2))
        mask = self._read(4)
        payload = bytes(byte ^ mask[index & 3] for index, byte in enumerate(self._read(size)))
        return first & 0xF, payload

    def read_json(self) -> dict[str, Any]:
        opcode, payload = self.read_frame()
        assert opcode == 1
        document: dict[str, Any] = json.loads(payload)
        return document

    def _read(self, size: int) -> bytes:
        assert self.connection is not None
        data = b""
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            assert part, "the router closed the connection"
            data += part
        return data

    def send(self, document: Any) -> None:
        self.send_raw(frame(json.dumps(document, separators=(",", ":")).encode()))

    def send_raw(self, data: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(data)

    def in_thread(self, work: Callable[[], Any]) -> threading.Thread:
        """Run `work` beside the test, which cranks the router meanwhile."""
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        self._listener.close()
        if self.connection is not None:
            self.connection.close()


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """An unmasked, final frame."""
    if len(payload) < 126:
        return bytes((0x80 | opcode, len(payload))) + payload
    return bytes((0x80 | opcode, 126)) + struct.pack(">H", len(payload)) + payload
