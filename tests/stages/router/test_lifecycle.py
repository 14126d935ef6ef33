"""Orders through random messages against the oracle, over a socket pair; and the table of transitions itself."""

import json
import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.domain.codecs import websocket_frames
from stages.domain.messages import ReportKind
from stages.domain.orders import ALLOWED, IS_OPEN, OPEN_STATES, TRANSITIONS, OrderState
from stages.router.kernel import poll_once
from tests.oracle.orders import Order
from tests.stages.router.fake_venue import frame
from tests.stages.router.support import Router

LOTS = 1_000
LOT = 1_000  # mantissa


class Pair:
    """A router whose connection is one end of a socket pair: no venue, no thread, no handshake."""

    def __init__(self) -> None:
        self.router = Router("ws://127.0.0.1:1/ws-api/v3")
        self.ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._theirs = theirs
        self.state = self.router.agent.context.state[0]
        websocket_frames.start(int(self.state["cutter"]), int(self.state["in_base"]))
        self.state["fd"] = theirs.fileno()
        self.state["mask_state"] = 88172645463325252
        self.prefix = self.router.agent._prefix

    def say(self, document: Any) -> None:
        self.ours.sendall(frame(json.dumps(document, separators=(",", ":")).encode()))
        self.poll()

    def poll(self) -> None:
        poll_once(self.router.agent.context, 0)
        self.router.reports += self.router.segments.pop_all("router-risk", self.router.agent.context.report.dtype)

    def execution(self, status: str, cumulative: int, last: int, execution_id: int) -> dict[str, Any]:
        def amount(lots: int) -> str:
            return f"{lots * LOT // 10**8}.{lots * LOT % 10**8:08d}"

        return {"subscriptionId": 0, "event": {
            "e": "executionReport", "s": "BTCUSDT", "c": self.prefix + "1", "C": "", "x": "TRADE", "X": status,
            "i": 5, "l": amount(last), "z": amount(cumulative), "L": "60000.00000000", "n": "0", "N": None, "T": 1,
            "t": 1, "I": execution_id, "m": True, "Z": amount(cumulative * 60_000),
        }}  # fmt: skip

    def close(self) -> None:
        self.ours.close()
        self._theirs.close()


steps = st.one_of(
    st.tuples(st.just("ack")),
    st.tuples(st.just("refused")),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("cancel refused")),
    st.tuples(
        st.just("executed"),
        st.sampled_from(["NEW", "PARTIALLY_FILLED", "PARTIALLY_FILLED", "CANCELED", "EXPIRED", "REJECTED"]),
        st.sampled_from([0, 0, 1, 10, 300]),
        st.sampled_from([0, 1, 1, 1]),
    ),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(steps, max_size=12))
def test_whatever_the_venue_says_the_order_is_where_the_oracle_has_it(script: list[tuple[Any, ...]]) -> None:
    pair, expected = Pair(), Order(LOTS)
    router = pair.router
    try:
        router.order(1, 0, 6_000_000, LOTS)
        pair.poll()
        execution_id = 100
        for step in script:
            if step[0] == "ack":
                pair.say({"id": 2, "status": 200, "result": {"orderId": 5}})
                expected.acknowledged()
            elif step[0] == "refused":
                pair.say({"id": 2, "status": 400, "error": {"code": -1013, "msg": "Filter failure: X"}})
                expected.refused()
            elif step[0] == "cancel":
                if expected.state in ("PENDING_NEW", "WORKING"):
                    router.cancel(1)
                    pair.poll()
                    expected.cancel()
            elif step[0] == "cancel refused":
                pair.say({"id": 3, "status": 400, "error": {"code": -2011, "msg": "Unknown order sent."}})
                expected.cancel_refused()
            else:
                _, status, fill, id_step = step
                cumulative = min(expected.filled + fill, LOTS)
                status = "FILLED" if cumulative == LOTS else status
                execution_id += id_step
                pair.say(pair.execution(status, cumulative, cumulative - expected.filled, execution_id))
                expected.executed(status, cumulative, execution_id)
            row = router.agent.context.orders[1]
            assert OrderState(int(row["state"])).name == expected.state
            assert row["cumulative_lots"] == expected.filled
            assert [ReportKind(int(r["kind"])).name for r in router.reports] == expected.said
            position = router.agent.context.positions[0]
            assert position["quantity_lots"] == expected.filled
            assert position["working_buy_lots"] == (LOTS - expected.filled if expected.is_open else 0)
            assert position["open_orders"] == int(expected.is_open)
        assert router.count("illegal_transitions") == 0
        finals = [int(r["final"]) for r in router.reports]
        assert sum(finals[: finals.index(1)]) == 0 if 1 in finals else expected.is_open
    finally:
        pair.close()


def test_the_table_of_transitions_is_closed_and_ends_stay_ends() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    for source, targets in TRANSITIONS.items():
        for target in OrderState:
            assert bool(ALLOWED[source, target]) == (target in targets)
        if source not in OPEN_STATES:
            assert targets == (OrderState.PENDING_NEW,)
        assert bool(IS_OPEN[source]) == (source in OPEN_STATES)
