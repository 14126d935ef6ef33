"""The market stream endpoints /ws, /ws/<stream>, /stream and /stream?streams=a/b (binance.md 1.2 and 1.3)."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from aiohttp import WSMsgType, web

from stages.venue.endpoints.hub import Hub
from stages.venue.endpoints.keepalive import POLICY_VIOLATION, MessageBudget, ping_forever
from stages.venue.endpoints.wire import Connection, to_json
from stages.venue.settings import VenueSettings

STREAMS_PER_CONNECTION_MAX = 1024
BUFFER_LIMIT_BYTES = 64 * 2**20
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_ID = re.compile(r"^[A-Za-z0-9_-]{1,36}$")


class RequestError(Exception):
    """A subscription request that is answered with a code of 0 to 3."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class MarketStreams:
    """Handles market stream connections. In a replay nobody is cut off for being slow."""

    def __init__(self, hub: Hub, settings: VenueSettings, *, is_replay: bool) -> None:
        self._hub = hub
        self._settings = settings
        self._is_replay = is_replay

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/ws", self.handle)
        router.add_get("/ws/{streams:.+}", self.handle)
        router.add_get("/stream", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=2**20)
        await socket.prepare(request)
        limit = None if self._is_replay else BUFFER_LIMIT_BYTES
        connection = Connection(request, socket, limit)
        connection.combined = request.path.startswith("/stream")
        listed = request.query.get("streams", "") if connection.combined else request.match_info.get("streams", "")
        self._hub.connections[connection] = None
        self._hub.subscribe(connection, [name for name in listed.split("/") if name])
        timeout = None if self._is_replay else self._settings.pong_timeout_s
        pinger = asyncio.create_task(ping_forever(connection, self._settings.ping_interval_s, timeout))
        try:
            await self._read(connection, socket)
        finally:
            pinger.cancel()
            self._hub.drop(connection)
        return socket

    async def _read(self, connection: Connection, socket: web.WebSocketResponse) -> None:
        budget = MessageBudget(self._settings.max_stream_messages_per_second_in)
        async for message in socket:
            if message.type in (WSMsgType.PING, WSMsgType.PONG, WSMsgType.TEXT) and not budget.spend():
                await connection.close(POLICY_VIOLATION, "Too many requests")
                return
            if message.type is WSMsgType.PING:
                connection.on_ping(bytes(message.data))
            elif message.type is WSMsgType.PONG:
                connection.on_pong(bytes(message.data))
            elif message.type is WSMsgType.TEXT:
                connection.send_text(to_json(self._answer(connection, message.data)))
            else:
                await connection.close(POLICY_VIOLATION, "Text frames only")
                return

    def _answer(self, connection: Connection, text: str) -> dict[str, Any]:
        request_id: Any = None
        try:
            request = _parse(text)
            request_id = request.get("id")
            return {"result": self._carry_out(connection, request), "id": request_id}
        except RequestError as error:
            return {"code": error.code, "msg": error.message, "id": request_id}

    def _carry_out(self, connection: Connection, request: dict[str, Any]) -> Any:
        method, params = request["method"], request.get("params", [])
        if not isinstance(params, list):
            raise RequestError(2, "Invalid request: params must be an array")
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            if not params or not all(isinstance(name, str) for name in params):
                raise RequestError(2, "Invalid request: stream names must be strings")
            if method == "UNSUBSCRIBE":
                self._hub.unsubscribe(connection, params)
            elif len({*connection.streams, *params}) > STREAMS_PER_CONNECTION_MAX:
                raise RequestError(2, "Invalid request: too many streams")
            else:
                self._hub.subscribe(connection, params)
            return None
        if method == "LIST_SUBSCRIPTIONS":
            return list(connection.streams)
        return _property(connection, params, is_set=method == "SET_PROPERTY")


def _property(connection: Connection, params: list[Any], *, is_set: bool) -> bool | None:
    if not params or not isinstance(params[0], str):
        raise RequestError(2, "Invalid request: property name must be a string")
    if params[0] != "combined":
        raise RequestError(0, "Unknown property")
    if len(params) > (2 if is_set else 1):
        raise RequestError(2, "Invalid request: too many parameters")
    if not is_set:
        return connection.combined
    if len(params) < 2 or not isinstance(params[1], bool):
        raise RequestError(1, "Invalid value type: expected Boolean")
    connection.combined = params[1]
    return None


def _parse(text: str) -> dict[str, Any]:
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(3, f"Invalid JSON: expected value at line {error.lineno} column {error.colno}") from error
    if not isinstance(request, dict):
        raise RequestError(2, "Invalid request: an object was expected")
    method = request.get("method")
    end = len(text)
    if method is None:
        raise RequestError(2, f"Invalid request: missing field `method` at line 1 column {end}")
    if method not in _METHODS:
        names = ", ".join(f"`{name}`" for name in _METHODS)
        raise RequestError(
            2, f"Invalid request: unknown variant {method}, expected one of {names} at line 1 column {end}"
        )
    _check_id(request)
    return request


def _check_id(request: dict[str, Any]) -> None:
    value = request.get("id")
    is_integer = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    is_text = isinstance(value, str) and _ID.match(value) is not None
    if "id" not in request or not (value is None or is_integer or is_text):
        request["id"] = None
        raise RequestError(2, "Invalid request: request ID must be an unsigned integer")
