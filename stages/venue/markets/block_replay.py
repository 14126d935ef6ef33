"""Plays binary messages to a stream of their name: blocks of messages, one binary frame a block.

Play starts when the stream has a subscriber, goes by the messages' own times, and drops nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

from stages.venue.endpoints.hub import Hub
from stages.venue.endpoints.wire import BINARY, Connection, frame
from stages.venue.exchange import Exchange

log = logging.getLogger("venue.replay")
BLOCK_MESSAGES_MAX = 128
YIELD_BLOCKS = 8
"""So many blocks are written before requests have their turn, however fast the sockets take them."""


class Description(Protocol):
    """What is to be played."""

    files: list[str]
    message_count: int
    first_ns: int
    damage: list[str]
    lost: list[str]


class BlockReplay(ABC):
    """The player. What the messages are, and what they do to the markets, is said by its kinds."""

    stream: ClassVar[str]

    def __init__(
        self,
        exchange: Exchange,
        hub: Hub,
        description: Description,
        *,
        speed: str,
        notify: Callable[[dict[str, Any]], None],
    ) -> None:
        self._exchange, self._hub, self._description, self._notify = exchange, hub, description, notify
        self._speed = None if speed == "max" else float(speed)  # pacing only
        self._served: dict[Connection, None] = {}
        self._block: list[bytes] = []
        self._blocks = 0

    @abstractmethod
    def messages(self) -> Iterator[bytes]:
        """All there are, in playing order."""

    @abstractmethod
    def time_ns(self, message: bytes) -> int:
        """When a message was sent."""

    @abstractmethod
    def joined(self, messages: Sequence[bytes]) -> bytes:
        """The payload of a frame with these messages."""

    @abstractmethod
    def play(self, message: bytes) -> None:
        """What a message that goes out does to its market."""

    async def run(self) -> None:
        await self._wait_for_listeners()
        start_ns = time.monotonic_ns()
        for message in self.messages():
            await self._wait_for(message, start_ns)
            self._block.append(message)
            self.play(message)
            if len(self._block) == BLOCK_MESSAGES_MAX:
                await self._send()
        await self._send()
        for connection in self._served:
            await connection.drain_all()
        self._finish(start_ns)

    async def _wait_for_listeners(self) -> None:
        while not self._hub.is_wanted(self.stream):
            log.info("replay waits for a subscriber of %s", self.stream)
            self._hub.changed.clear()
            await self._hub.changed.wait()

    async def _wait_for(self, message: bytes, start_ns: int) -> None:
        """Until the message is due; what came before it goes out first."""
        if self._speed is None:
            return
        due_ns = int((self.time_ns(message) - self._description.first_ns) / self._speed)
        if (wait_ns := start_ns + due_ns - time.monotonic_ns()) > 0:
            await self._send()
            await asyncio.sleep(wait_ns / 1e9)

    async def _send(self) -> None:
        """The block, then the executions that it caused; then wait for the sockets, then let requests in."""
        if not self._block:
            return
        subscribers = self._broadcast(self._block)
        self._block.clear()
        self._exchange.flush()
        for connection in subscribers:
            await connection.drain()
        self._blocks += 1
        if self._speed is not None or self._blocks % YIELD_BLOCKS == 0:
            await asyncio.sleep(0)

    def _broadcast(self, block: Sequence[bytes]) -> list[Connection]:
        """Write a block to the subscribers; returns them."""
        data = frame(self.joined(block), BINARY)
        subscribers = list(self._hub.subscribers(self.stream))
        for connection in subscribers:
            connection.stream_messages += 1
            connection.write(data)
            self._served[connection] = None
        return subscribers

    def _sent(self) -> int:
        """What a listener must have read in all: frames."""
        return sum(connection.stream_messages for connection in self._served)

    def _finish(self, start_ns: int) -> None:
        self._notify(
            {
                "event": "replay_finished",
                "stream_messages": self._sent(),
                "per_connection": [
                    {
                        "connection": each.number,
                        "streams": list(each.streams),
                        "stream_messages": each.stream_messages,
                    }
                    for each in self._served
                ],
                "recorded_messages": self._description.message_count,
                "damage": [*self._description.damage, *self._description.lost],
                "duration_ns": time.monotonic_ns() - start_ns,
                "held_ns": 0,
            }
        )
