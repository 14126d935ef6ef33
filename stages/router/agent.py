"""The router stage, cold side: the connection, the messages nobody expected, the orders nobody knows about, the end."""

import ctypes
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import simplejson
from numpy.typing import NDArray

from shm import adopt, ring
from shm.atomics import peek
from shm.clock import CLOCK_WORDS, read_now_ns
from shm.control import State
from shm.counters import Counter
from shm.histogram import HISTOGRAM_BYTES
from shm.ring import cursors
from shm.segment import Segment
from shm.seqlock import row_bytes
from stages.agent import BYTES_SLEEP_NS_MAX, Agent, AgentError, Array, Attention, ColdKernel, Hop, SegmentUse
from stages.domain.codecs import websocket_frames as frames
from stages.domain.codecs.binance_orders import EVENT, request_templates
from stages.domain.codecs.json_scan import GUARD_BYTES, word
from stages.domain.edges import POSITION_TABLE, RISK_TO_ROUTER, ROUTER_TO_RISK, edges
from stages.domain.messages import ORDER, POSITION, PRICE_EXPONENT, REPORT, OrderKind, OrderType, TimeInForce
from stages.domain.orders import ORDER_SLOTS, OrderState, base36, client_order_id_prefix
from stages.domain.samples import new_samples
from stages.domain.sockets import connected_pair
from stages.helper import Helper, Result
from stages.router.cold_messages import ENDS_OF_SESSION, event_of, kind_of
from stages.router.credentials import Credentials
from stages.router.endpoint import require_loopback
from stages.router.inbound import take_cold_event
from stages.router.journal import ENTRIES_PER_POLL, ENTRY
from stages.router.kernel import mark_overdue, write_all
from stages.router.lifecycle import publish_positions
from stages.router.outbound import TEXT, append_frame
from stages.router.records import (
    GRID,
    IN_BYTES,
    LOST_CAUSES,
    NO_CAUSE,
    NOT_TELLING,
    ORDER_ROW,
    ORDERS_PER_POLL,
    OUT_BYTES,
    SENDING,
    STATE,
    Context,
)
from stages.router.recovery import DRAFT, Recovery, go_on
from stages.router.session import Living, Session, open_session_with_backoff
from stages.router.settings import RouterSettings

log = logging.getLogger(__name__)

CONNECT = "connect"
QUESTIONS_PER_SERVICE = 32
"""Most order.status sent at one look (weight 4 each of 6000 a minute)."""

SAMPLE_BYTES = 300
SAMPLES_INTERVAL_NS = 1_000_000_000
PRIVATE_ENTRIES = 2 * ENTRIES_PER_POLL
_ADDRESSES = ("order", "report", "positions")


class RouterAgent(Agent):
    """Sends orders, keeps orders, positions and profit.

    `order_url` is the WebSocket API's address; it must be loopback (EndpointError). `run_start_ms` (ms since the
    epoch) makes the client order ids of this run unique. `journal_folder` holds what a successor of this process must
    know; without one (twins, tests) nothing outlives the process. `living` says the client order id prefixes of other
    runs that live: their orders are not leftovers.
    """

    name = "router"
    sleep_ns_max = BYTES_SLEEP_NS_MAX
    holds_orders = True
    counters = (
        Counter("messages_in", "Orders and cancels taken, and messages of the venue read", "messages"),
        Counter("messages_out", "Reports published", "reports"),
        Counter("sent", "New orders sent", "orders"),
        Counter("acked", "Orders the venue acknowledged", "orders"),
        Counter("filled", "Orders with at least one fill", "orders"),
        Counter("fills", "Fills, each part of a partly filled order counted", "fills"),
        Counter("cancelled", "Orders cancelled", "orders"),
        Counter("expired", "Orders the venue ended without our asking (IOC remainder, FOK)", "orders"),
        Counter("rejected_by_venue", "New orders the venue refused", "orders"),
        Counter("unknown", "Orders whose fate is not known now; the venue is being asked", "orders", kind="gauge"),
        Counter(
            "became_unknown",
            "Times an order's fate became unknown: connection or answer lost, nothing to cancel",
            "orders",
        ),
        Counter("cancels_sent", "Cancels sent", "cancels"),
        Counter("cancels_refused", "Cancels the venue refused; mostly the order had ended already", "cancels"),
        Counter("refused", "New orders not sent: trading stopped, not connected, or table full", "orders"),
        Counter("cancels_not_sent", "Cancels not sent: not connected, or of an order that is not open", "cancels"),
        Counter("reports_unmatched", "Replies and reports of orders that are not in the table", "reports"),
        Counter("duplicate_reports", "Reports that said nothing new", "reports"),
        Counter("foreign_reports", "Execution reports of orders that are not of this run", "reports"),
        Counter("fills_without_fee", "Fills known only by their totals: the commission was never reported", "fills"),
        Counter("illegal_transitions", "Changes of an order's state that the table forbids; not made", "changes"),
        Counter("balance_events", "outboundAccountPosition events, not needed", "events"),
        Counter("pings", "Pings of the venue answered", "pings"),
        Counter("unrecognised", "Messages the compiled parser handed to the cold side", "messages"),
        Counter("malformed", "Messages that are not JSON, or not of the venue's protocol", "messages"),
        Counter("short_sends", "Sends of which the socket took only a part", "sends"),
        Counter("backpressure", "Polls in which the socket was not read for lack of room in the ring to risk", "polls"),
        Counter("connections_lost", "Order connections lost", "connections"),
    )
    hops = (
        Hop("risk>router"),
        Hop("router.encode", 500),
        Hop("router.send", 10_000),
        Hop("tick_to_trade", 15_000),
        Hop("order_to_ack"),
    )

    def __init__(
        self,
        instruments: NDArray[np.void],
        settings: RouterSettings,
        order_url: str,
        credentials: Credentials,
        run_start_ms: int,
        helper_cpus: Iterable[int] = (),
        journal_folder: Path | None = None,
        living: Living = tuple,
    ) -> None:
        require_loopback(order_url)
        self._instruments = instruments
        self._settings = settings
        self._url = order_url
        self._credentials = credentials
        self._helper_cpus = tuple(helper_cpus)
        self._symbols = [row["symbol"].decode("ascii") for row in instruments]
        self._prefix = client_order_id_prefix(run_start_ms)
        self._helper: Helper | None = None
        self._session: Session | None = None
        self._to_ourselves: tuple[socket.socket, ...] = ()
        self._supervisor_pid = 0
        self._orphaned_until_ns = 0
        self._connecting = False
        self._was_connected = False
        self._cold_events: deque[tuple[int, np.void]] = deque()
        self._next_sample_ns = 0
        self._unlogged = 0
        page = np.zeros(1, self.page())
        self.context = Context(
            state=np.zeros(1, STATE),
            clock=np.zeros(CLOCK_WORDS, np.int64),
            counters=page["counters"],
            samples=new_samples(),
            sending=np.zeros(ORDERS_PER_POLL, SENDING),
            orders=np.zeros(ORDER_SLOTS + 1, ORDER_ROW),
            positions=np.zeros(len(instruments), POSITION),
            grid=_grid(instruments),
            event=np.zeros(2, EVENT),
            order=np.zeros(1, ORDER),
            rehearsal=_rehearsal_order(instruments),
            report=np.zeros(1, REPORT),
        )
        # Memory that only addresses lead to: kept alive here.
        self._living: Living | None = living if settings.on_leftovers == "cancel" else None
        self._journal_folder = journal_folder
        self._recovery: Recovery | None = None
        self._private_journal = np.zeros(PRIVATE_ENTRIES, ENTRY)
        self._names = np.ascontiguousarray(instruments["symbol"])
        self._prefix_bytes = np.frombuffer(self._prefix.encode().ljust(GUARD_BYTES, b"\0"), np.uint8).copy()
        self._templates = request_templates(self._symbols, self._prefix)
        self._in = np.zeros(IN_BYTES + 2 * GUARD_BYTES, np.uint8)
        self._out = np.zeros(OUT_BYTES + GUARD_BYTES, np.uint8)
        self._cutter = np.zeros(frames.CUTTER_BYTES // 8, np.int64)
        self._quick_ack = np.ones(1, np.int32)
        self._prepare_state()

    def _prepare_state(self) -> None:
        state = self.context.state[0]
        state["fd"] = state["rehearsal_fd"] = -1
        state["unknown_cursor"] = ORDER_SLOTS
        state["tell_cursor"] = NOT_TELLING
        state["journal_begin"] = state["journal_at"] = self._private_journal.ctypes.data
        state["journal_end"] = state["journal_at"] + self._private_journal.nbytes
        state["names"] = self._names.ctypes.data
        state["prefix"], state["prefix_bytes"] = self._prefix_bytes.ctypes.data, len(self._prefix)
        state["templates"] = self._templates.ctypes.data
        state["in_base"] = state["in_end"] = self._in.ctypes.data + GUARD_BYTES
        state["out_base"] = state["out_head"] = state["out_tail"] = self._out.ctypes.data
        state["cutter"] = self._cutter.ctypes.data
        state["quick_ack"] = self._quick_ack.ctypes.data
        state["position_row_bytes"] = row_bytes(POSITION.itemsize)
        state["sweep_interval_ns"] = self._settings.cancel_again_ms * 1_000_000
        state["answer_wait_ns"] = self._settings.answer_wait_ms * 1_000_000
        state["not_found_wait_ns"] = self._settings.not_found_wait_ms * 1_000_000
        for name in _ADDRESSES:
            state[name] = getattr(self.context, name).ctypes.data

    def cold_kernels(self) -> list[ColdKernel]:
        context, integer = numba.typeof(self.context), numba.types.int64
        return [
            (take_cold_event, (context, integer)),
            (mark_overdue, (context, integer)),
            (append_frame, (context, integer, integer, integer)),
            (write_all, (context,)),
            (publish_positions, (context,)),
            adopt.COLD_KERNEL,
        ]

    def rehearse_every(self, interval_ns: int, *, has_twin: bool) -> None:
        state = self.context.state[0]
        state["rehearsal_interval_ns"] = interval_ns
        if not has_twin:
            self._to_ourselves = connected_pair()
            state["rehearsal_fd"], state["rehearsal_sink"] = (end.fileno() for end in self._to_ourselves)

    def uses(self) -> list[SegmentUse]:
        layouts = edges(len(self._instruments))
        return [SegmentUse(name, layouts[name], True) for name in (RISK_TO_ROUTER, ROUTER_TO_RISK, POSITION_TABLE)]

    def attach(self, segments: Mapping[str, Segment], page: Array, clock: Array) -> None:
        self.context = self.context._replace(counters=page["counters"], clock=clock)
        state = self.context.state[0]
        state["orders_in"] = segments[RISK_TO_ROUTER].address
        state["reports_out"] = segments[ROUTER_TO_RISK].address
        state["position_table"] = segments[POSITION_TABLE].address
        hops = ("transport_hop", "encode_hop", "send_hop", "tick_to_trade_hop", "ack_hop")
        for index, name in enumerate(hops):
            state[name] = page["hops"].ctypes.data + index * HISTOGRAM_BYTES
        ring.begin_reading(int(state["orders_in"]))
        is_first = ring.begin_writing(int(state["reports_out"])) == 1
        # Whoever reads already was told nothing yet by a first router, and is told all by a later one.
        state["told_epoch"] = peek(int(state["reports_out"]) + ring.READER_EPOCH)
        if self._journal_folder is not None:
            self._recovery = Recovery(self.context, self._journal_folder, self._symbols, self._prefix)
            self._recovery.open()
        if not is_first:
            self._living = None  # what is at the venue is this run's
            go_on(self.context)

    def is_synced(self) -> bool:
        state = self.context.state[0]
        is_told = state["tell_cursor"] == NOT_TELLING and state["unknown_cursor"] >= ORDER_SLOTS
        return bool(is_told and state["fd"] >= 0 and not self.context.counters[0]["unknown"])

    def start(self, attention: Attention) -> None:
        # After the fork: two runs, or two routers, must not mask alike. Xorshift must not start from 0.
        self.context.state[0]["mask_state"] = int.from_bytes(os.urandom(8), "little", signed=True) or 1
        self._supervisor_pid = attention.supervisor_pid
        self._helper = Helper(self.name, attention, self._helper_cpus)
        self._connect()

    # ---- state

    def state(self) -> State:
        state = self.context.state[0]
        if not self._was_connected and not (state["is_stopped"] and state["open_orders"]):
            # Nothing of ours is at the venue, unless an earlier process of this stage left it there.
            return State.QUIET if state["is_stopped"] else State.STARTING
        if not state["is_stopped"]:
            return State.RUNNING
        is_quiet = not state["open_orders"] and not self._cold_events and self.idle_input() and self._is_flushed()
        return State.QUIET if is_quiet else State.RUNNING

    def _is_flushed(self) -> bool:
        return bool(self.context.state[0]["out_head"] == self.context.state[0]["out_tail"])

    def idle_input(self) -> bool:
        head, tail = cursors(int(self.context.state[0]["orders_in"]))
        return head == tail

    def quiesce(self) -> None:
        """Refuse new orders, cancel all that work, until none does."""
        state = self.context.state[0]
        state["is_stopped"] = state["is_cancelling"] = 1

    # ---- service

    def service(self, now_ns: int) -> None:
        assert self._helper is not None, "service before start"
        for result in self._helper.results():
            if result.tag == DRAFT:
                assert self._recovery is not None
                self._recovery.take_draft(result)
            else:
                self._take_connection(result)
        self._take_loss()
        self._take_cold_text(now_ns)
        self._take_cold_events()
        if self._recovery is not None:
            self._recovery.tend(self._helper)
        if self.context.state[0]["open_orders"]:
            mark_overdue(self.context, now_ns)
            self._ask_about_unknown(now_ns)
        self._watch_supervisor(now_ns)

    def close(self) -> None:
        if self._helper is not None:
            self._helper.close()
        self._drop_session()
        if self._recovery is not None:
            self._recovery.close()
        for end in self._to_ourselves:
            end.close()

    # ---- connection

    def _connect(self) -> None:
        assert self._helper is not None
        stopping = self._helper.stopping
        self._connecting = True
        url, credentials, settings, living = self._url, self._credentials, self._settings, self._living
        self._helper.submit(CONNECT, lambda: open_session_with_backoff(url, credentials, settings, stopping, living))

    def _take_connection(self, result: Result) -> None:
        self._connecting = False
        if result.error is not None:
            raise AgentError(f"router: cannot connect to {self._url}: {result.error!r}") from result.error
        if result.value is not None:
            self._session = result.value
            self._take_session(result.value)

    def _take_session(self, session: Session) -> None:
        """Give the connection to the kernel; what came early stands in its buffer as if just read."""
        for finding in session.findings if not self._was_connected else ():
            log.warning("socket: %s", finding)
        early = b"".join(_server_frame(message) for message in session.early)
        state = self.context.state[0]
        base = int(state["in_base"])
        if len(early) > IN_BYTES:
            raise AgentError(f"router: {len(early)} bytes came before the subscription's answer, {IN_BYTES} fit")
        ctypes.memmove(base, early, len(early))
        frames.start(int(state["cutter"]), base)
        state["in_end"] = base + len(early)
        state["read_ns"] = read_now_ns(self.context.clock)
        state["fd"] = session.sock.fileno()
        log.info("order connection to %s is open", self._url)
        self._was_connected = True
        self._living = None  # what is at the venue from now on is ours

    def _take_loss(self) -> None:
        """Close what the kernel has given up; connect again once every open order is marked UNKNOWN."""
        state = self.context.state[0]
        if state["lost_cause"] != NO_CAUSE:
            cause, error = LOST_CAUSES[int(state["lost_cause"])], int(state["lost_errno"])
            log.error("order connection lost: %s%s", cause, f" ({error})" if error else "")
            state["lost_cause"] = state["lost_errno"] = NO_CAUSE
            state["cold_text"] = 0
            self._drop_session()
        is_marked = state["unknown_cursor"] >= ORDER_SLOTS
        if state["fd"] < 0 and is_marked and not self._connecting and self._session is None:
            self._connect()

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.sock.close()
            self._session = None
        self.context.state[0]["fd"] = -1

    def _give_up_connection(self, why: str) -> None:
        """The venue said it will end the session: leave it now, on our terms."""
        log.warning("order connection: %s; reconnecting", why)
        state = self.context.state[0]
        state["unknown_cursor"] = 0
        state["out_head"] = state["out_tail"] = state["out_base"]
        state["sending_count"] = 0
        self.context.counters[0]["connections_lost"] += 1
        self._drop_session()

    # ---- messages the compiled parser did not recognise

    def _take_cold_text(self, now_ns: int) -> None:
        state = self.context.state[0]
        if not state["cold_text"]:
            return
        raw = ctypes.string_at(int(state["cold_text"]), int(state["cold_bytes"]))
        state["cold_text"] = 0
        try:
            document = simplejson.loads(raw, use_decimal=True)
        except (ValueError, RecursionError):
            document = None
        kind = kind_of(document)
        if kind in ENDS_OF_SESSION:
            self._give_up_connection(kind)
        elif (event := event_of(document, self._symbols, self._prefix)) is not None:
            self._cold_events.append(event)
        elif kind is None:
            self.context.counters[0]["malformed"] += 1
            self._log_sample(raw, now_ns)
        else:
            self._log_sample(raw, now_ns)

    def _log_sample(self, raw: bytes, now_ns: int) -> None:
        self._unlogged += 1
        if now_ns >= self._next_sample_ns:
            log.warning("%d messages not understood, one of %d bytes: %r", self._unlogged, len(raw), raw[:SAMPLE_BYTES])
            self._next_sample_ns, self._unlogged = now_ns + SAMPLES_INTERVAL_NS, 0

    def _take_cold_events(self) -> None:
        while self._cold_events:
            kind, event = self._cold_events[0]
            self.context.event[0] = event
            if not take_cold_event(self.context, kind):
                return
            self._cold_events.popleft()

    # ---- orders whose fate is unknown

    def _ask_about_unknown(self, now_ns: int) -> None:
        if not self.context.counters[0]["unknown"] or self.context.state[0]["fd"] < 0:
            return
        orders = self.context.orders[:ORDER_SLOTS]
        due = (orders["state"] == OrderState.UNKNOWN) & (
            orders["asked_ns"] + self._settings.ask_again_ms * 1_000_000 <= now_ns
        )
        for slot in np.nonzero(due)[0][:QUESTIONS_PER_SERVICE]:
            if self.context.state[0]["fd"] < 0:
                return  # the queue was full, and the connection given up
            row = orders[slot]
            row["asked_ns"] = now_ns
            self._queue_text(status_request(row, self._symbols, self._prefix))

    def _queue_text(self, document: dict[str, Any]) -> None:
        text = np.frombuffer(simplejson.dumps(document).encode(), np.uint8)
        append_frame(self.context, text.ctypes.data, len(text), TEXT)

    # ---- without a supervisor

    def _watch_supervisor(self, now_ns: int) -> None:
        """Orders must not outlive whoever could stop them (settings: on_supervisor_loss)."""
        if self._orphaned_until_ns:
            if self.state() == State.QUIET or now_ns >= self._orphaned_until_ns:
                left = int(self.context.state[0]["open_orders"])
                raise AgentError(f"router: the supervisor is gone; leaving with {left} orders at the venue")
        elif os.getppid() != self._supervisor_pid:
            if self._settings.on_supervisor_loss == "leave":
                left = int(self.context.state[0]["open_orders"])
                raise AgentError(f"router: the supervisor is gone; leaving {left} orders at the venue as configured")
            log.error("the supervisor is gone: refusing orders, cancelling those at the venue")
            self.quiesce()
            self._orphaned_until_ns = now_ns + self._settings.supervisor_loss_wait_ms * 1_000_000


def status_request(row: np.void, symbols: list[str], prefix: str) -> dict[str, Any]:
    """order.status for an order of ours; the reply's id brings the order id back."""
    order_id = int(row["order_id"])
    params = {
        "symbol": symbols[int(row["symbol"])],
        "origClientOrderId": prefix + base36(order_id),
        "timestamp": time.time_ns() // 1_000,
    }
    return {"id": f"status-{order_id}", "method": "order.status", "params": params}


def _server_frame(message: bytes) -> bytes:
    size = len(message)
    if size < 126:
        return bytes((0x81, size)) + message
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + message
    return b"\x81\x7f" + size.to_bytes(8, "big") + message


def _grid(instruments: NDArray[np.void]) -> NDArray[np.void]:
    grid = np.zeros(len(instruments), GRID)
    for row, instrument in zip(grid, instruments, strict=True):
        for step, decimals, units in (
            ("tick", "price_decimals", "price_units"),
            ("lot", "quantity_decimals", "quantity_units"),
        ):
            row[step], row[decimals] = instrument[step], instrument[decimals]
            row[units] = int(instrument[step]) // 10 ** (-PRICE_EXPONENT - int(instrument[decimals]))
        for asset in ("base_asset", "quote_asset"):
            row[asset] = word(instrument[asset].decode("ascii")[:8])  # as reports are read
    return grid


def _rehearsal_order(instruments: NDArray[np.void]) -> NDArray[np.void]:
    """A small order in the first symbol at 1000 units of quote: as many digits as real ones have."""
    order = np.zeros(1, ORDER)
    order["kind"], order["order_type"], order["time_in_force"] = OrderKind.NEW, OrderType.LIMIT, TimeInForce.GTC
    order["price_ticks"] = max(1, 1_000 * 10**-PRICE_EXPONENT // int(instruments[0]["tick"]))
    order["quantity_lots"] = 1_000
    return order
