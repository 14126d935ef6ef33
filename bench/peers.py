"""The ring benchmark's peers: what Python offers for messages between two processes, each used as its users use it.

A round trip is a 64-byte message there and the same message back, compared. Peers that are not installed are listed
as absent. faster-fifo is spared its pickling: the message is bytes already.
"""

import contextlib
import ctypes
import importlib.util
import logging
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MESSAGE_BYTES = 64


class Peer:
    """A contestant in mode `rtt`, made of a blocking `send` and `receive` of bytes."""

    name: str
    package: str | None = None
    """What must be installed; None: the standard library."""

    def open(self, side: str) -> None:
        """Connect; overridden where there is something to do after the fork."""

    def send(self, message: bytes) -> None:
        """To the other side."""
        raise NotImplementedError

    def receive(self) -> bytes:
        """From the other side; blocks or spins."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing behind."""

    def left(self, mode: str, count: int) -> np.ndarray:
        """`count` round trips; ns of each."""
        messages = [number.to_bytes(8, "little") * (MESSAGE_BYTES // 8) for number in range(count)]
        samples = np.empty(count)
        for number, message in enumerate(messages):
            start = time.perf_counter_ns()
            self.send(message)
            answer = self.receive()
            samples[number] = time.perf_counter_ns() - start
            if answer != message:
                raise RuntimeError(f"answer to message {number} differs from it")
        return samples

    def right(self, mode: str, count: int) -> None:
        """Send `count` messages back."""
        for _ in range(count):
            self.send(self.receive())


class PipePeer(Peer):
    """multiprocessing.Pipe, bytes."""

    name = "multiprocessing.Pipe"

    def __init__(self) -> None:
        self._ends = multiprocessing.Pipe()

    def open(self, side: str) -> None:
        end = self._ends[side == "right"]
        self.send, self.receive = end.send_bytes, end.recv_bytes  # type: ignore[method-assign]


class QueuePeer(Peer):
    """multiprocessing.Queue, one each way."""

    name = "multiprocessing.Queue"

    def __init__(self) -> None:
        self._queues: tuple[Any, Any] = (multiprocessing.Queue(), multiprocessing.Queue())

    def open(self, side: str) -> None:
        there, back = self._queues if side == "left" else self._queues[::-1]
        self.send, self.receive = there.put, back.get  # type: ignore[method-assign]

    def close(self) -> None:
        for queue in self._queues:
            queue.close()
            queue.join_thread()


class FasterFifoPeer(QueuePeer):
    """faster-fifo, one queue each way, the message passed as it is."""

    name = "faster-fifo"
    package = "faster_fifo"

    def __init__(self) -> None:
        from faster_fifo import Queue

        logging.getLogger("faster_fifo").setLevel(logging.ERROR)
        as_it_is = {"dumps": lambda message: message, "loads": bytes}
        self._queues = (Queue(**as_it_is), Queue(**as_it_is))

    def close(self) -> None:
        for queue in self._queues:
            queue.close()


class ZmqPeer(Peer):
    """pyzmq, a PAIR of sockets over ipc."""

    name = "pyzmq (ipc)"
    package = "zmq"

    def __init__(self) -> None:
        self._path = Path(tempfile.gettempdir()) / f"tickpipe-bench-{os.getpid()}.ipc"

    def open(self, side: str) -> None:
        import zmq

        self._context: Any = zmq.Context()
        self._socket: Any = self._context.socket(zmq.PAIR)
        getattr(self._socket, "bind" if side == "left" else "connect")(f"ipc://{self._path}")
        self.send, self.receive = self._socket.send, self._socket.recv  # type: ignore[method-assign]

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


class Message(ctypes.Structure):
    """The payload as iceoryx2 wants it declared."""

    _fields_ = (("bytes", ctypes.c_uint8 * MESSAGE_BYTES),)


class IceoryxPeer(Peer):
    """iceoryx2, a publisher and a subscriber each way, polled."""

    name = "iceoryx2"
    package = "iceoryx2"

    def open(self, side: str) -> None:
        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        self._node: Any = (
            iceoryx2.NodeBuilder.new()
            .signal_handling_mode(iceoryx2.SignalHandlingMode.Disabled)
            .create(iceoryx2.ServiceType.Ipc)
        )
        owner = os.getpid() if side == "left" else os.getppid()
        there, back = (self._service(iceoryx2, f"tickpipe-bench-{owner}-{way}") for way in ("there", "back"))
        if side == "right":
            there, back = back, there
        self._services = there, back
        self._publisher: Any = there.publisher_builder().create()
        self._subscriber: Any = back.subscriber_builder().create()

    def _service(self, iceoryx2: Any, name: str) -> Any:
        builder = self._node.service_builder(iceoryx2.ServiceName.new(name))
        return builder.publish_subscribe(Message).open_or_create()

    def send(self, message: bytes) -> None:
        self._publisher.send_copy(Message.from_buffer_copy(message))

    def receive(self) -> bytes:
        while True:
            sample = self._subscriber.receive()
            if sample is not None:
                return ctypes.string_at(sample.payload_ptr, MESSAGE_BYTES)

    def close(self) -> None:
        del self._publisher, self._subscriber, self._services, self._node


PEERS: tuple[type[Peer], ...] = (PipePeer, QueuePeer, FasterFifoPeer, ZmqPeer, IceoryxPeer)


def installed() -> list[type[Peer]]:
    """The peers that this Python has."""
    return [peer for peer in PEERS if peer.package is None or importlib.util.find_spec(peer.package) is not None]


def absent() -> list[str]:
    """Names of the peers that this Python lacks."""
    return [peer.name for peer in PEERS if peer not in installed()]
