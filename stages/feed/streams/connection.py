"""The connection to the market streams: websocket-client makes the handshake, then the kernel takes the descriptor."""

import contextlib
import socket

import websocket
from websocket import ABNF

from stages.domain.sockets import BUFFER_BYTES, connect_directly, tune
from stages.feed.streams.reader import SO_TIMESTAMPNS

OUTBOUND_BYTES_MAX = 65_536


class ConnectError(Exception):
    """No connection to the market streams; the text says where and why."""


class Connection:
    """An open connection whose handshake is done. Reading is the kernel's; writing goes through `send`."""

    def __init__(self, url: str, socket_: socket.socket, findings: list[str]) -> None:
        self.url = url
        self.findings = findings
        """Socket options that were refused, in words."""
        self._socket = socket_
        self._outbound = bytearray()

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    def send(self, payload: bytes, opcode: int) -> None:
        """Queue one frame, masked, and write what the socket takes. Raises OSError when the connection is lost."""
        frame = ABNF.create_frame(payload, opcode).format()
        if len(self._outbound) + len(frame) > OUTBOUND_BYTES_MAX:
            raise OSError(f"{len(self._outbound)} bytes unsent: the venue does not read what it is sent")
        self._outbound += frame
        self.flush()

    def flush(self) -> None:
        """Go on writing where the last write stopped: a frame is finished before the next begins."""
        while self._outbound:
            try:
                sent = self._socket.send(self._outbound, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            del self._outbound[:sent]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def connect(url: str, timeout_s: float) -> Connection:
    """Make the handshake with `url` and hand over the socket, non-blocking and tuned. Blocks; raises ConnectError."""
    held = None
    try:
        held = connect_directly(url, timeout_s, BUFFER_BYTES)
        client = websocket.create_connection(
            url, timeout=timeout_s, enable_multithread=False, redirect_limit=0, socket=held
        )
    except (websocket.WebSocketException, OSError, ValueError) as error:
        if held is not None:
            held.close()
        raise ConnectError(f"venue not reachable at {url}: {error}") from error
    # The handshake reads byte by byte up to the empty line; what the venue sends behind it is ours to read.
    if client.frame_buffer.recv_buffer:
        held.close()
        raise ConnectError(f"websocket-client {websocket.__version__} read frames along with the handshake of {url}")
    findings = tune(held)
    try:
        held.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError as error:
        findings.append(f"SO_TIMESTAMPNS=1: refused: {error.strerror}; feed.queue stays empty")
    client.sock = None  # its destructor closes nothing of ours
    return Connection(url, held, findings)
