"""Where orders may go: this machine only, until journal, reconciliation and kill switch exist."""

import ipaddress
from urllib.parse import urlsplit


class EndpointError(Exception):
    """The order endpoint is refused; the text says why and what to do. A usage error (exit code 2)."""


def require_loopback(url: str) -> None:
    """Raise EndpointError unless `url` is a ws:// address on the loopback interface.

    Names are not looked up: `localhost` is taken as itself, any other name could point anywhere tomorrow.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise EndpointError(f"order endpoint {url!r}: {error}; hint: ws://127.0.0.1:PORT/ws-api/v3") from error
    if parts.scheme != "ws" or not host or port is None:
        raise EndpointError(f"order endpoint {url!r}: hint: it looks like ws://127.0.0.1:PORT/ws-api/v3")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise EndpointError(
            f"order endpoint {url!r} is not on this machine: orders go to the paper exchange only, as long as there is "
            "no journal, no reconciliation and no kill switch; hint: remove market.order_url, or use 127.0.0.1"
        )
