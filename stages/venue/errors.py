"""Binance's error codes (binance-spot-api-docs, errors.md), each made in one place."""

from __future__ import annotations


class VenueConfigurationError(Exception):
    """The venue cannot start: what is wrong, and what to do about it (`hint`)."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BinanceError(Exception):
    """A refusal as Binance words it: `code`, `message`, and the HTTP (or WebSocket API) status."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status


def too_much_weight(limit: int) -> BinanceError:
    return BinanceError(
        -1003,
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
        429,
    )


def too_many_orders(limit: int, interval: str) -> BinanceError:
    return BinanceError(-1015, f"Too many new orders; current limit is {limit} orders per {interval}.", 429)


def filter_failure(name: str) -> BinanceError:
    return BinanceError(-1013, f"Filter failure: {name}")


def unsupported_operation() -> BinanceError:
    return BinanceError(-1020, "This operation is not supported.")


def outside_recv_window() -> BinanceError:
    return BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


def ahead_of_server() -> BinanceError:
    return BinanceError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")


def bad_signature() -> BinanceError:
    return BinanceError(-1022, "Signature for this request is not valid.")


def illegal_characters(name: str, legal: str) -> BinanceError:
    return BinanceError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def duplicate_parameter() -> BinanceError:
    return BinanceError(-1101, "Duplicate values for a parameter detected.")


def missing(name: str) -> BinanceError:
    return BinanceError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def missing_either(first: str, second: str) -> BinanceError:
    return BinanceError(-1102, f"Param '{first}' or '{second}' must be sent, but both were empty/null!")


def too_great(name: str, limit: str) -> BinanceError:
    return BinanceError(-1102, f"'{name}' contains unexpected value. Cannot be greater than '{limit}'.")


def unread(read: int, sent: int) -> BinanceError:
    return BinanceError(-1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.")


def empty(name: str) -> BinanceError:
    return BinanceError(-1105, f"Parameter '{name}' was empty.")


def not_required(name: str) -> BinanceError:
    return BinanceError(-1106, f"Parameter '{name}' sent when not required.")


def overflowed(name: str) -> BinanceError:
    return BinanceError(-1108, f"Parameter '{name}' overflowed.")


def bad_precision(name: str) -> BinanceError:
    return BinanceError(-1111, f"Parameter '{name}' has too much precision.")


def bad_time_in_force() -> BinanceError:
    return BinanceError(-1115, "Invalid timeInForce.")


def bad_order_type() -> BinanceError:
    return BinanceError(-1116, "Invalid orderType.")


def bad_side() -> BinanceError:
    return BinanceError(-1117, "Invalid side.")


def bad_symbol() -> BinanceError:
    return BinanceError(-1121, "Invalid symbol.")


def bad_combination() -> BinanceError:
    return BinanceError(-1128, "Combination of optional parameters invalid.")


def bad_value(name: str) -> BinanceError:
    return BinanceError(-1130, f"Data sent for parameter '{name}' is not valid.")


def bad_strategy_type() -> BinanceError:
    return BinanceError(-1134, "`strategyType` was less than 1000000.")


def bad_json() -> BinanceError:
    return BinanceError(-1135, "Invalid JSON Request")


def bad_cancel_restrictions() -> BinanceError:
    return BinanceError(-1145, "`cancelRestrictions` has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`.")


def order_rejected(message: str) -> BinanceError:
    return BinanceError(-2010, message)


def insufficient_balance() -> BinanceError:
    return order_rejected("Account has insufficient balance for requested action.")


def would_take() -> BinanceError:
    return order_rejected("Order would immediately match and take.")


def duplicate_order() -> BinanceError:
    return order_rejected("Duplicate order sent.")


def cancel_rejected(message: str = "Unknown order sent.") -> BinanceError:
    return BinanceError(-2011, message)


def no_such_order() -> BinanceError:
    return BinanceError(-2013, "Order does not exist.")


def bad_api_key_format() -> BinanceError:
    return BinanceError(-2014, "API-key format invalid.", 401)


def rejected_api_key() -> BinanceError:
    return BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def hmac_key_not_supported() -> BinanceError:
    return BinanceError(-4056, "HMAC_SHA256 API key is not supported.")
