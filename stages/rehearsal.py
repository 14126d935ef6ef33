"""Dress rehearsals: a second line in private memory, run in idle cycles, so that a tick finds its code in the caches.

Between two ticks milliseconds pass, in which the core's caches, branch predictors and address translations go to
polling, to the operating system and to other guests of the machine. A tick after such a pause took two to five times
as long as one in a stream of them. So a packed line that has its core to itself also hosts a twin of each agent, over
private rings and tables, and every REHEARSAL_NS of idleness sends one canned message through them: parsed, booked,
noticed, judged, encoded, and sent on a connection of this process to itself. The same machine code runs on other data:
nothing of the real line is read or written, so nothing can depend on it.

The strategy's twin takes its notice but decides nothing: a user's code runs on real ticks only. Risk's twin gets a
canned order instead.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm import libc, ring
from shm.atomics import poke, store_word
from shm.kernel import primitive
from shm.layout import word_of
from shm.ring import CACHED_HEAD, CACHED_TAIL, HEAD, TAIL
from stages.agent import Agent, Array
from stages.domain.codecs import websocket_frames
from stages.domain.edges import STRATEGY_TO_RISK
from stages.domain.messages import ORDER, OrderKind, OrderType, Origin, Side, TimeInForce
from stages.domain.sockets import connected_pair
from stages.private_memory import PrivateSegments, attach

REHEARSAL_NS = 50_000
"""Least time between two rehearsals. One takes about 8 us, most of it in the operating system's send and receive."""

NEVER_NS = 2**62
DRAIN_BYTES_MAX = 1 << 20

NEXT_NS, SINK = 0, 1

ORDER_ID = 1
OPENING_POLLS = 128
"""More than it takes to make the twin book and to send the canned message."""


class Rehearsal(NamedTuple):
    """What the compiled loop needs besides the twins' contexts."""

    state: NDArray[np.int64]
    """When the next one is due, and the descriptor at which the twin router's bytes arrive."""
    words: NDArray[np.int64]
    """(address, value) rows: what puts the twins back to before the canned message."""


def no_rehearsal() -> Rehearsal:
    """One that is never due; of the right types to compile against."""
    return Rehearsal(np.array([NEVER_NS, -1], np.int64), np.zeros((0, 2), np.int64))


@primitive
def is_due(rehearsal: Rehearsal, now_ns: int) -> bool:
    """Whether it is time; puts the twins back to the start when it is."""
    if now_ns < rehearsal.state[NEXT_NS]:
        return False
    rehearsal.state[NEXT_NS] = now_ns + REHEARSAL_NS
    for index in range(rehearsal.words.shape[0]):
        store_word(rehearsal.words[index, 0], rehearsal.words[index, 1])
    return True


@primitive
def finish(rehearsal: Rehearsal) -> None:
    """Throw away what the twin router has sent."""
    libc.recv(rehearsal.state[SINK], rehearsal.state.ctypes.data, DRAIN_BYTES_MAX, libc.MSG_DONTWAIT | libc.MSG_TRUNC)


class Twins:
    """The twins of a line's five agents, attached to private memory and brought to where a real line is at work.

    agents   five agents of their own, never started: feed, book, strategy, risk, router
    polls    `poll_once` of feed and book
    """

    def __init__(self, agents: Mapping[str, Agent], polls: Mapping[str, Callable[..., int]], clock: Array) -> None:
        self._agents = agents
        for agent in agents.values():
            agent.rehearse_every(NEVER_NS, has_twin=True)
        self._segments = PrivateSegments(agents.values())
        self._pages = {name: attach(agent, self._segments, clock) for name, agent in agents.items()}
        self._feed_once(polls)
        agents["strategy"].quiesce()
        words = [*self._ring_words(), *self._feed_words, *self._risk_words(), *self._router_words()]
        self.rehearsal = Rehearsal(np.array([0, self._far.fileno()], np.int64), np.array(words, np.int64))

    @property
    def counters(self) -> dict[str, Any]:
        """Agent: its private counters, which tell how far rehearsals come."""
        return {name: page["counters"][0] for name, page in self._pages.items()}

    def _feed_once(self, polls: Mapping[str, Callable[..., int]]) -> None:
        """Snapshot, then the canned message: the twin book is valid, the message has been through feed and book."""
        feed: Any = self._agents["feed"]
        self._feed_words = feed.open_rehearsal()
        for _ in range(OPENING_POLLS):
            polls["feed"](feed.context, 0)
            feed.service(0)
            polls["book"](self._agents["book"].context, 0)

    def _ring_words(self) -> list[tuple[int, int]]:
        """Empty rings begin again at their first slot: twins that walk through theirs would flush the caches."""
        staging = int(self._agents["feed"].context.state["staging"][0])
        rings = [segment.address for segment in self._segments.values() if segment.layout.kind == "ring"]
        return [(base + cursor, 0) for base in (staging, *rings) for cursor in (HEAD, TAIL, CACHED_HEAD, CACHED_TAIL)]

    def _risk_words(self) -> list[tuple[int, int]]:
        risk = self._agents["risk"].context
        orders = self._segments[STRATEGY_TO_RISK].address
        self._push_order(orders)
        return [
            (orders + TAIL, 1),
            *(word_of(risk.state, name, 0) for name in ("last_order_id", "open_orders", "rate_count", "rate_cursor")),
            *(word_of(risk.exposures, name, 0) for name in ("working_buy_lots", "open_orders")),
            word_of(risk.working[ORDER_ID:], "is_open", 0),
        ]

    def _push_order(self, orders: int) -> None:
        """An order at the canned best bid, for the least value allowed."""
        limits = self._agents["risk"].context.limits[0]
        bid_price = self._agents["book"].context.bbo[0]["bid_price"]
        record = np.zeros(1, ORDER)
        order = record[0]
        order["kind"], order["side"], order["origin"] = OrderKind.NEW, Side.BUY, Origin.MARKET_DATA
        order["order_type"], order["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
        order["order_id"] = ORDER_ID
        order["price_ticks"] = max(1, bid_price // limits["tick"])
        order["quantity_lots"] = max(limits["minimum_lots"], limits["minimum_notional"] // order["price_ticks"] + 1)
        for offset, word in enumerate(record.view(np.int64)):
            poke(orders + ring.RECORDS + 8 * offset, int(word))

    def _router_words(self) -> list[tuple[int, int]]:
        router = self._agents["router"].context
        self._near, self._far = connected_pair()
        router.state["fd"] = self._near.fileno()
        router.state["mask_state"] = 1
        websocket_frames.start(int(router.state["cutter"][0]), int(router.state["in_base"][0]))
        return [
            word_of(router.state, "open_orders", 0),
            word_of(router.orders[ORDER_ID:], "state", 0),
            *(word_of(router.positions, name, 0) for name in ("working_buy_lots", "open_orders")),
        ]

    def close(self) -> None:
        """Close the connection to ourselves."""
        for end in (self._near, self._far):
            end.close()
