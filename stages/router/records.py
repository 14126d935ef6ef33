"""The router's private memory: its words, its orders, the context its kernels take."""

from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from shm.layout import record_dtype


def plain(value: int) -> int:
    """A constant that Numba takes for any int64: of a kernel called with literals it compiles a copy for each value."""
    return cast(int, np.int64(value))


IN_BYTES = 1 << 18
MESSAGE_BYTES_MAX = 1 << 17
OUT_BYTES = 1 << 16
"""Room for one order and for every pong and question that may wait behind it."""

NO_CAUSE, CLOSED, READ_FAILED, SEND_FAILED, PROTOCOL, QUEUE_FULL = (plain(value) for value in range(6))
LOST_CAUSES = {
    CLOSED: "the venue closed it",
    READ_FAILED: "reading failed",
    SEND_FAILED: "sending failed",
    PROTOCOL: "WebSocket protocol error",
    QUEUE_FULL: "the venue reads too slowly: the outbound queue is full",
}

STATE = record_dtype(
    [
        ("orders_in", "<i8"),  # ring addresses
        ("reports_out", "<i8"),
        ("position_table", "<i8"),
        ("position_row_bytes", "<i8"),
        ("transport_hop", "<i8"),  # histogram addresses
        ("encode_hop", "<i8"),
        ("send_hop", "<i8"),
        ("tick_to_trade_hop", "<i8"),
        ("ack_hop", "<i8"),
        ("order", "<i8"),  # addresses of private memory
        ("report", "<i8"),
        ("positions", "<i8"),
        ("templates", "<i8"),
        ("names", "<i8"),
        ("prefix", "<i8"),
        ("prefix_bytes", "<i8"),
        ("in_base", "<i8"),
        ("in_end", "<i8"),  # address after the last byte received
        ("cutter", "<i8"),
        ("out_base", "<i8"),
        ("out_head", "<i8"),  # address of the first byte not yet sent
        ("out_tail", "<i8"),
        ("sending_count", "<i8"),  # requests queued whose last byte is not sent yet
        ("fd", "<i8"),  # -1: not connected
        ("lost_cause", "<i8"),
        ("lost_errno", "<i8"),
        ("unknown_cursor", "<i8"),  # orders are being marked UNKNOWN from this row on
        ("cold_text", "<i8"),  # address of a message for the cold side, 0 for none; no reading before it is dealt with
        ("cold_bytes", "<i8"),
        ("read_ns", "<i8"),  # when the last read returned
        ("cause_seq", "<i8"),  # of the order record being answered, 0 for what the venue caused
        ("report_seq", "<i8"),
        ("mask_state", "<i8"),
        ("quick_ack", "<i8"),  # address of an int32 that is 1, for setsockopt
        ("is_stopped", "<i8"),  # new orders are refused
        ("is_cancelling", "<i8"),  # working orders are being cancelled
        ("sweep_cursor", "<i8"),
        ("next_sweep_ns", "<i8"),
        ("sweep_interval_ns", "<i8"),
        ("open_orders", "<i8"),
        ("last_order_id", "<i8"),
        ("rehearsal_interval_ns", "<i8"),
        ("next_rehearsal_ns", "<i8"),
        ("rehearsal_fd", "<i8"),  # two ends of a connection to ourselves; -1 when a twin rehearses the sending
        ("rehearsal_sink", "<i8"),
        ("next_send_rehearsal_ns", "<i8"),
        ("not_found_wait_ns", "<i8"),  # how long an order sent may be unknown to the venue before that is believed
        ("answer_wait_ns", "<i8"),  # how long the answer to a request may take before the venue is asked
        ("journal_begin", "<i8"),  # of a journal in private memory, which starts over; 0 for one in files
        ("journal_at", "<i8"),  # address of the next entry
        ("journal_end", "<i8"),
        ("journal_number", "<i8"),  # of the last entry
        ("taken_seq", "<i8"),  # of the last order record that was acted on
        ("staged", "<i8"),  # reports written into the ring to risk and not yet published
        ("origin", "<i8"),  # ReportOrigin of what is written now
        ("told_epoch", "<i8"),  # of the reader that knows the state
        ("tell_cursor", "<i8"),  # the state is being told from here on: rows, positions, the end; NOT_TELLING
    ],
    512,
)

NOT_TELLING = plain(2**62)

ORDERS_PER_POLL = 16
"""Most requests taken, and sent in one call."""

SENDING = record_dtype(
    [
        ("slot", "<i8"),  # row of a new order, NO_SLOT for a cancel
        ("read_ns", "<i8"),  # of the tick that caused it, NOT_COUNTED for what is not tick to trade
    ],
    64,
)

ORDER_ROW = record_dtype(
    [
        ("order_id", "<i8"),
        ("state", "<i8"),  # OrderState
        ("symbol", "<i8"),
        ("side", "<i8"),
        ("price_ticks", "<i8"),
        ("quantity_lots", "<i8"),
        ("cumulative_lots", "<i8"),
        ("cumulative_quote", "<i8"),  # mantissa
        ("venue_order_id", "<i8"),
        ("execution_id", "<i8"),  # of the last report applied
        ("sent_ns", "<i8"),  # when its last byte was handed to the kernel; 0 before
        ("is_acked", "<i8"),
        ("requested_ns", "<i8"),  # when the last order or cancel for it was taken in hand
        ("asked_ns", "<i8"),  # cold side: when order.status was last sent
    ],
    128,
)

GRID = record_dtype(
    [
        ("tick", "<i8"),
        ("lot", "<i8"),
        ("price_units", "<i8"),  # of 10**-price_decimals in a tick
        ("price_decimals", "<i8"),
        ("quantity_units", "<i8"),
        ("quantity_decimals", "<i8"),
        ("base_asset", "<i8"),  # name as a word
        ("quote_asset", "<i8"),
    ],
    64,
)


class Context(NamedTuple):
    """What the router's kernels work on."""

    state: NDArray[np.void]
    clock: NDArray[np.int64]
    counters: NDArray[np.void]
    samples: NDArray[np.int64]
    sending: NDArray[np.void]
    orders: NDArray[np.void]
    positions: NDArray[np.void]
    grid: NDArray[np.void]
    event: NDArray[np.void]
    order: NDArray[np.void]
    rehearsal: NDArray[np.void]
    report: NDArray[np.void]
