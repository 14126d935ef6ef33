"""A MoldUDP64 server: one stream of messages over redundant lines, kept for whoever asks for what was lost.

Packets are sent as they come, the same on each line; what a line loses on purpose is drawn at random per line and
packet. Heartbeats say what comes next while there is nothing to say, and the end of the session is said again and
again. A request gets what is kept of it, in as many packets as it takes; nothing, for what is not kept.

Source: MoldUDP64 protocol specification 1.00.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Iterator, Sequence

from stages.domain.codecs import moldudp64
from stages.domain.lines import LineError, open_receiver, open_sender, parse_address
from stages.venue.errors import VenueConfigurationError

log = logging.getLogger("venue.moldudp64")
PACKET_BYTES_MAX = 1_400
"""What goes through an Ethernet without being split."""
KEPT_MAX = 4_000_000
HEARTBEAT_S = 1.0
SOCKET_BYTES = 4 << 20


class MoldServer:
    """Sends at once, whenever it is told to; `run` sends heartbeats and answers requests until it is cancelled.

    kept   how many of the last messages can be asked for
    """

    def __init__(
        self,
        lines: Sequence[str],
        request_server: str,
        *,
        session: bytes = b"PAPER",
        loss_permille: int = 0,
        kept: int = KEPT_MAX,
        seed: int = 1,
    ) -> None:
        self.session = session
        self.next_sequence = 1
        self.requests = 0
        self.is_ended = False
        self._messages: list[bytes] = []
        self._kept_max = kept
        self._loss_permille = loss_permille
        self._losses = [random.Random(f"{seed} {line}") for line in lines]
        try:
            self._lines = [open_sender(parse_address(text)) for text in lines]
            self._desk = open_receiver(parse_address(request_server), SOCKET_BYTES)[0] if request_server else None
        except LineError as error:
            raise VenueConfigurationError(str(error), "see venue.lines and venue.request_server") from None

    def send(self, messages: Sequence[bytes]) -> None:
        """The next messages of the session, in as few packets as they fit."""
        for packet in packets(self.session, self.next_sequence, messages):
            self._broadcast(packet)
        self._messages.extend(messages)
        if len(self._messages) > 2 * self._kept_max:
            del self._messages[: -self._kept_max]
        self.next_sequence += len(messages)

    def heartbeat(self) -> None:
        """Say what comes next; at the end of the session, that nothing does."""
        count = moldudp64.END_OF_SESSION if self.is_ended else 0
        self._broadcast(moldudp64.header(self.session, self.next_sequence, count))

    def is_heard(self) -> bool:
        """Heartbeats to all lines; whether each has a receiver, as far as one can tell: hosts refuse, groups never."""
        heartbeat, is_heard = moldudp64.header(self.session, self.next_sequence, 0), True
        for line in self._lines:
            line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # of the last time: it would be the answer to this one
            with contextlib.suppress(OSError):
                line.send(heartbeat)
            is_heard = is_heard and line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        return is_heard

    def end(self) -> None:
        """The session is over."""
        self.is_ended = True
        self.heartbeat()

    def close(self) -> None:
        for sock in (*self._lines, *filter(None, (self._desk,))):
            sock.close()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        if self._desk is not None:
            loop.add_reader(self._desk, self.answer)
        try:
            while True:
                sent = self.next_sequence
                await asyncio.sleep(HEARTBEAT_S)
                if self.next_sequence == sent:
                    self.heartbeat()
        finally:
            if self._desk is not None:
                loop.remove_reader(self._desk)

    def answer(self) -> None:
        """Answer the requests that have arrived."""
        assert self._desk is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                request, asker = self._desk.recvfrom(64)
                for packet in self._answers(request):
                    with contextlib.suppress(OSError):  # whoever asked has gone, or reads too slowly: he asks again
                        self._desk.sendto(packet, asker)

    def _answers(self, request: bytes) -> Iterator[bytes]:
        if len(request) != moldudp64.HEADER_BYTES or request[: moldudp64.SESSION_BYTES] != self.session.ljust(10):
            log.warning("a request of %d bytes for session %r is not answered", len(request), request[:10])
            return
        self.requests += 1
        sequence, count = int.from_bytes(request[10:18], "big"), int.from_bytes(request[18:20], "big")
        begin = max(sequence, 1, self.next_sequence - self._kept_max)
        end = min(sequence + count, self.next_sequence)
        origin = self.next_sequence - len(self._messages)
        if begin < end:
            yield from packets(self.session, begin, self._messages[begin - origin : end - origin])

    def _broadcast(self, packet: bytes) -> None:
        for line, loss in zip(self._lines, self._losses, strict=True):
            if self._loss_permille and loss.randrange(1_000) < self._loss_permille:
                continue
            with contextlib.suppress(OSError):  # nobody listens (yet), or the queue is full: it is lost, as on a wire
                line.send(packet)


def packets(session: bytes, sequence: int, messages: Sequence[bytes]) -> Iterator[bytes]:
    """`messages` from sequence number `sequence` on, in packets of PACKET_BYTES_MAX at most."""
    begin, size = 0, moldudp64.HEADER_BYTES
    for index, message in enumerate(messages):
        block = moldudp64.BLOCK_HEADER_BYTES + len(message)
        if size + block > PACKET_BYTES_MAX and index > begin:
            yield moldudp64.packet(session, sequence + begin, messages[begin:index])
            begin, size = index, moldudp64.HEADER_BYTES
        size += block
    if begin < len(messages):
        yield moldudp64.packet(session, sequence + begin, messages[begin:])
