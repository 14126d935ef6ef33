"""Messages that the kernel refused: read with patience and handed back, or counted and shown."""

import ctypes
import logging

from stages.domain.codecs.binance_market import NO_ROOM, OVERFLOW, TOO_MANY_DECIMALS, UNKNOWN_SYMBOL, UNRECOGNISED
from stages.feed.context import Context
from stages.feed.streams import patient_parser
from stages.feed.streams.guarded import Guarded
from stages.feed.streams.samples import Samples

log = logging.getLogger(__name__)

_REFUSALS = {
    OVERFLOW: "a number does not fit 64 bits",
    TOO_MANY_DECIMALS: "more than 8 decimals",
    UNKNOWN_SYMBOL: "its symbol is not traded here",
    NO_ROOM: "more levels than can be staged",
}


class RefusedMessages:
    """Takes the kernel's refused message; what can be rewritten goes back and keeps its place in the order."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._samples = Samples(log)
        self._canonical = Guarded(2 * patient_parser.MESSAGE_BYTES_MAX)
        context.state[0]["canonical_at"] = self._canonical.address

    def take(self, now_ns: int) -> None:
        """Deal with the refused message, if there is one."""
        state, counters = self.context.state[0], self.context.counters[0]
        code, state["refused_code"] = int(state["refused_code"]), 0
        if code == 0:
            return
        payload = ctypes.string_at(int(state["refused_at"]), int(state["refused_bytes"]))
        if self.context.names is None:
            counters["frames"] += 1
            self._samples.show(now_ns, "message not used", "text in a stream of blocks", payload)
            return
        if code != UNRECOGNISED:
            self._samples.show(now_ns, "message not used", _REFUSALS[code], payload)
            return
        try:
            text = patient_parser.rewrite(payload)
            if len(text) > self._canonical.capacity_bytes:
                raise patient_parser.MalformedMessageError(f"length={len(text)} bytes in canonical form")
        except patient_parser.NotMarketDataError as error:
            counters["other_messages"] += 1
            if not patient_parser.is_reply(payload):
                counters["frames"] += 1
                self._samples.show(now_ns, "message of another kind", str(error), payload)
        except patient_parser.MalformedMessageError as error:
            counters["malformed"] += 1
            counters["frames"] += 1
            self._samples.show(now_ns, "malformed message", str(error), payload)
        else:
            self._samples.show(now_ns, "unusual message", "read by the patient parser", payload)
            self._canonical.place(text)
            state["canonical_bytes"] = len(text)
