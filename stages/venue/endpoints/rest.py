"""REST under /api/v3 (binance-spot-api-docs rest-api.md). Parameters may come in the query string, the body, or
both; a signature covers them as sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web

from stages.venue import errors
from stages.venue.endpoints.authentication import Authenticator
from stages.venue.endpoints.operations import Operations
from stages.venue.endpoints.params import Params
from stages.venue.endpoints.signing import rest_payload
from stages.venue.endpoints.wire import to_json

log = logging.getLogger("venue.rest")
Handler = Callable[[Params], Any]


class RestApi:
    def __init__(self, operations: Operations, authenticator: Authenticator) -> None:
        self._operations = operations
        self._authenticator = authenticator

    def add_routes(self, router: web.UrlDispatcher) -> None:
        do = self._operations
        public: list[tuple[str, str, Handler]] = [
            ("GET", "ping", do.ping),
            ("GET", "time", do.time),
            ("GET", "exchangeInfo", do.exchange_info),
            ("GET", "depth", do.depth),
        ]
        signed: list[tuple[str, str, Handler]] = [
            ("POST", "order", do.place),
            ("POST", "order/test", do.test_order),
            ("GET", "order", do.order_status),
            ("DELETE", "order", do.cancel),
            ("GET", "openOrders", do.open_orders),
            ("DELETE", "openOrders", do.cancel_all),
            ("GET", "allOrders", do.all_orders),
            ("GET", "account", do.account),
            ("GET", "myTrades", do.my_trades),
        ]
        for method, path, handler in public:
            router.add_route(method, f"/api/v3/{path}", self._endpoint(handler, signed=False))
        for method, path, handler in signed:
            router.add_route(method, f"/api/v3/{path}", self._endpoint(handler, signed=True))

    def _endpoint(self, handler: Handler, *, signed: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def endpoint(request: web.Request) -> web.StreamResponse:
            places = request.method == "POST"
            try:
                params = await self._read(request, signed=signed)
                result = handler(params)
                if asyncio.iscoroutine(result):
                    result = await result
            except errors.BinanceError as error:
                return self._reply({"code": error.code, "msg": error.message}, error.status, places=places)
            finally:
                # Events first here: a REST reply leaves only when the handler returns.
                self._operations.exchange.flush()
            return self._reply(result, 200, places=places)

        return endpoint

    async def _read(self, request: web.Request, *, signed: bool) -> Params:
        query = request.raw_path.partition("?")[2]
        body = (await request.read()).decode("utf-8", "replace")
        values = _parse(query, {})
        values = _parse(body, values)
        if not signed:
            return Params(values)
        self._authenticator.check_api_key(request.headers.get("X-MBX-APIKEY"))
        payload, signature = rest_payload(query, body)
        params = Params(values)
        params.timestamp_us()
        params.text("signature")
        self._authenticator.check_signature(payload, signature)
        self._authenticator.check_time(params)
        return params

    def _reply(self, value: Any, status: int, *, places: bool) -> web.Response:
        return web.Response(
            body=value if isinstance(value, bytes) else to_json(value),
            status=status,
            content_type="application/json",
            charset="utf-8",
            headers=self._operations.limits.headers(orders=places),
        )


def _parse(text: str, values: dict[str, str]) -> dict[str, str]:
    """Form-encoded pairs added to `values`; the query string wins over the body (rest-api.md)."""
    own: dict[str, str] = {}
    for pair in text.split("&") if text else ():
        name, _, value = pair.partition("=")
        name = unquote_plus(name)
        if name in own:
            raise errors.duplicate_parameter()
        if name:
            own[name] = unquote_plus(value)
    return own | values
