"""A venue in a thread per connection: handshake, the frames a test gives, depth snapshots. Plain sockets."""

import base64
import contextlib
import hashlib
import queue
import socket
import threading

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class SmallVenue:
    """Listens on loopback. `first` goes out in one send with the handshake's answer; `accepted` brings each stream."""

    def __init__(self, first: bytes = b"", snapshots: tuple[tuple[int, bytes], ...] = ()) -> None:
        self.first = first
        self.snapshots: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        for status_and_body in snapshots:
            self.snapshots.put(status_and_body)
        self.accepted: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self.paths: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    byte = connection.recv(1)
                    if not byte:
                        return
                    head += byte
                lines = head.decode().split("\r\n")
                path = lines[0].split(" ")[1]
                self.paths.append(path)
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                if "upgrade" in headers:
                    digest = hashlib.sha1((headers["sec-websocket-key"] + _GUID).encode()).digest()
                    answer = (
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n"
                    )
                    connection.sendall(answer.encode() + self.first)
                    self.accepted.put(connection)
                    return
                status, body = self.snapshots.get()
                connection.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
