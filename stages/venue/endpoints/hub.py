"""Who is subscribed to which market stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from stages.venue.endpoints.wire import Connection, frame, wrapped


class Hub:
    """Streams to connections. `changed` is set whenever a subscription is made."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.connections: dict[Connection, None] = {}
        self._routes: dict[str, dict[Connection, None]] = {}

    def subscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        for stream in streams:
            connection.streams[stream] = None
            self._routes.setdefault(stream, {})[connection] = None
        self.changed.set()

    def unsubscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        for stream in streams:
            connection.streams.pop(stream, None)
            route = self._routes.get(stream)
            if route is not None:
                route.pop(connection, None)
                if not route:
                    del self._routes[stream]

    def drop(self, connection: Connection) -> None:
        self.unsubscribe(connection, list(connection.streams))
        self.connections.pop(connection, None)

    def subscribers(self, stream: str) -> Iterable[Connection]:
        return self._routes.get(stream, ())

    def is_wanted(self, stream: str) -> bool:
        return stream in self._routes

    def publish(self, stream: str, payload: bytes) -> None:
        """Send one payload to all subscribers, wrapped for those in combined mode."""
        for connection in list(self._routes.get(stream, ())):
            body = wrapped(stream, payload) if connection.combined else payload
            connection.stream_messages += 1
            connection.write(frame(body))
