"""The WebSocket API at /ws-api/v3 (binance-spot-api-docs web-socket-api.md; binance.md 1.9 and 1.10).

A reply is written before the events of its request, in the same call that read the request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from stages.venue import errors
from stages.venue.endpoints.authentication import Authenticator
from stages.venue.endpoints.keepalive import POLICY_VIOLATION, ping_forever
from stages.venue.endpoints.operations import Operations
from stages.venue.endpoints.params import Params
from stages.venue.endpoints.signing import KeyType, websocket_payload
from stages.venue.endpoints.wire import Connection, to_json
from stages.venue.exchange import now_ms
from stages.venue.settings import VenueSettings

BUFFER_LIMIT_BYTES = 64 * 2**20
CONNECTION_WEIGHT = 2
Method = Callable[[Params], Any]


class Session:
    """One WebSocket API connection: who is logged on, and its user data subscriptions."""

    def __init__(self, connection: Connection, *, return_rate_limits: bool) -> None:
        self.connection = connection
        self.return_rate_limits = return_rate_limits
        self.api_key: str | None = None
        self.authorized_since_ms: int | None = None
        self.subscription_id: int | None = None
        self.next_subscription_id = 0

    def on_event(self, event: bytes) -> None:
        assert self.subscription_id is not None, "an event for a session without subscription"
        self.connection.send_text(b'{"subscriptionId":%d,"event":%s}' % (self.subscription_id, event))

    def show(self) -> dict[str, Any]:
        return {
            "apiKey": self.api_key,
            "authorizedSince": self.authorized_since_ms,
            "connectedSince": self.connection.opened_ms,
            "returnRateLimits": self.return_rate_limits,
            "serverTime": now_ms(),
            "userDataStream": self.subscription_id is not None,
        }


class WebSocketApi:
    def __init__(
        self,
        operations: Operations,
        authenticator: Authenticator,
        settings: VenueSettings,
        *,
        is_replay: bool,
    ) -> None:
        self._operations = operations
        self._authenticator = authenticator
        self._settings = settings
        self._is_replay = is_replay
        self.connections: dict[Connection, None] = {}
        do = operations
        self._public: dict[str, Method] = {
            "ping": do.ping,
            "time": do.time,
            "exchangeInfo": do.exchange_info,
            "depth": do.depth,
        }
        self._signed: dict[str, Method] = {
            "order.place": do.place,
            "order.test": do.test_order,
            "order.cancel": do.cancel,
            "order.status": do.order_status,
            "openOrders.status": do.open_orders,
            "openOrders.cancelAll": do.cancel_all,
            "allOrders": do.all_orders,
            "account.status": do.account,
            "myTrades": do.my_trades,
        }
        self._session_methods: dict[str, Callable[[Session, dict[str, str]], Any]] = {
            "session.logon": self._logon,
            "session.status": self._status,
            "session.logout": self._logout,
            "session.subscriptions": self._subscriptions,
            "userDataStream.subscribe": self._subscribe,
            "userDataStream.subscribe.signature": self._subscribe_signed,
            "userDataStream.unsubscribe": self._unsubscribe,
        }

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/ws-api/v3", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=2**20)
        await socket.prepare(request)
        connection = Connection(request, socket, BUFFER_LIMIT_BYTES)
        wants_limits = request.query.get("returnRateLimits", "true").lower() != "false"
        session = Session(connection, return_rate_limits=wants_limits)
        self._operations.limits.weight.add(CONNECTION_WEIGHT)
        timeout = None if self._is_replay else self._settings.pong_timeout_s
        pinger = asyncio.create_task(ping_forever(connection, self._settings.ping_interval_s, timeout))
        self.connections[connection] = None
        try:
            await self._read(session, socket)
        finally:
            pinger.cancel()
            self._end_subscription(session)
            del self.connections[connection]
        return socket

    async def _read(self, session: Session, socket: web.WebSocketResponse) -> None:
        connection = session.connection
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._answer(session, message.data)
            elif message.type is WSMsgType.PING:
                connection.on_ping(bytes(message.data))
            elif message.type is WSMsgType.PONG:
                connection.on_pong(bytes(message.data))
            else:
                await connection.close(POLICY_VIOLATION, "Text frames only")
                return

    async def _answer(self, session: Session, text: str) -> None:
        request_id: Any = None
        method, shows_limits = "", session.return_rate_limits
        try:
            request = _parse(text)
            request_id = request.get("id")
            method = request["method"].removeprefix("v3/")
            values, wished = _params(request)
            if wished is not None:
                shows_limits = wished
            result = self._carry_out(session, method, values)
            if asyncio.iscoroutine(result):
                result = await result
            body, status = b'"result":%s' % (result if isinstance(result, bytes) else to_json(result)), 200
        except errors.BinanceError as error:
            body = b'"error":%s' % to_json({"code": error.code, "msg": error.message})
            status = error.status
        reply = b'{"id":%s,"status":%d,%s' % (to_json(request_id), status, body)
        if shows_limits:
            limits = self._operations.limits.show(orders=method == "order.place")
            reply += b',"rateLimits":%s' % to_json(limits)
        session.connection.send_text(reply + b"}")
        self._operations.exchange.flush()

    def _carry_out(self, session: Session, method: str, values: dict[str, str]) -> Any:
        own = self._session_methods.get(method)
        if own is not None:
            self._operations.limits.spend_weight(2)
            return own(session, values)
        public = self._public.get(method)
        if public is not None:
            return public(Params(values))
        signed = self._signed.get(method)
        if signed is None:
            raise errors.unsupported_operation()
        return signed(self._authenticate(session, values))

    def _authenticate(self, session: Session, values: dict[str, str]) -> Params:
        """A request of a logged-on session needs a timestamp only, unless it brings its own key."""
        params = Params(values)
        if session.api_key is None or params.has("apiKey") or params.has("signature"):
            self._check_signature(params, values)
        self._authenticator.check_time(params)
        return params

    def _check_signature(self, params: Params, values: dict[str, str]) -> KeyType:
        self._authenticator.check_api_key(params.required("apiKey"))
        params.timestamp_us()
        return self._authenticator.check_signature(websocket_payload(values), params.required("signature"))

    # ---- methods

    def _logon(self, session: Session, values: dict[str, str]) -> dict[str, Any]:
        params = Params(values)
        key_type = self._check_signature(params, values)
        self._authenticator.check_time(params)
        params.finish()
        if key_type is not KeyType.ED25519:
            raise errors.hmac_key_not_supported()
        session.api_key = values["apiKey"]
        session.authorized_since_ms = now_ms()
        return session.show()

    def _status(self, session: Session, values: dict[str, str]) -> dict[str, Any]:
        return session.show()

    def _logout(self, session: Session, values: dict[str, str]) -> dict[str, Any]:
        session.api_key = session.authorized_since_ms = None
        self._end_subscription(session)
        return session.show()

    def _subscriptions(self, session: Session, values: dict[str, str]) -> list[dict[str, Any]]:
        return [] if session.subscription_id is None else [{"subscriptionId": session.subscription_id}]

    def _subscribe(self, session: Session, values: dict[str, str]) -> dict[str, Any]:
        if session.api_key is None:
            raise errors.rejected_api_key()
        return self._begin_subscription(session)

    def _subscribe_signed(self, session: Session, values: dict[str, str]) -> dict[str, Any]:
        params = Params(values)
        self._check_signature(params, values)
        self._authenticator.check_time(params)
        params.finish()
        return self._begin_subscription(session)

    def _unsubscribe(self, session: Session, values: dict[str, str]) -> dict[str, Any]:
        params = Params(values)
        wanted = params.long("subscriptionId")
        params.finish()
        if session.subscription_id is None or wanted not in (None, session.subscription_id):
            raise errors.bad_value("subscriptionId")
        self._end_subscription(session)
        return {}

    def _begin_subscription(self, session: Session) -> dict[str, Any]:
        """One subscription per account and connection (binance.md 1.10); asking again shows the one there is."""
        if session.subscription_id is None:
            session.subscription_id = session.next_subscription_id
            session.next_subscription_id += 1
            self._operations.exchange.listeners.append(session.on_event)
        return {"subscriptionId": session.subscription_id}

    def _end_subscription(self, session: Session) -> None:
        if session.subscription_id is not None:
            self._operations.exchange.listeners.remove(session.on_event)
            session.subscription_id = None


def _parse(text: str) -> dict[str, Any]:
    try:
        request = json.loads(text, parse_float=str)
    except ValueError:
        raise errors.bad_json() from None
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise errors.bad_json()
    return request


def _params(request: dict[str, Any]) -> tuple[dict[str, str], bool | None]:
    """(parameters as text, returnRateLimits). Booleans are signed as `true` and `false`, lists as JSON."""
    params = request.get("params") or {}
    if not isinstance(params, dict):
        raise errors.bad_json()
    wished = params.get("returnRateLimits")
    values = {name: value if isinstance(value, str) else to_json(value).decode() for name, value in params.items()}
    return values, wished if isinstance(wished, bool) else None
