"""What a router process writes down for its successor, and how a successor goes on."""

import logging
from pathlib import Path

from shm import adopt, ring
from shm.clock import read_now_ns
from shm.layout import record_at
from stages.domain.messages import ORDER, REPORT
from stages.domain.orders import IS_OPEN, ORDER_SLOTS, OrderState
from stages.helper import Helper, Result
from stages.router.journal_files import Journal, recover
from stages.router.kernel import write_all
from stages.router.lifecycle import publish_positions
from stages.router.records import Context

log = logging.getLogger(__name__)

DRAFT = "draft"
ORDER_SEQ = int(ORDER.fields["seq"][1])  # type: ignore[index]  # it has fields


class Recovery:
    """The journal of one router process, in `folder`: taken up where an earlier process of this run has left it.

    `symbols` and `prefix` (of client order ids) are this run's.
    """

    def __init__(self, context: Context, folder: Path, symbols: list[str], prefix: str) -> None:
        self._context, self._folder, self._symbols, self._prefix = context, folder, symbols, prefix
        self._journal: Journal | None = None
        self._drafting = False

    def open(self) -> None:
        """Take up what an earlier process of this run wrote, and go on writing behind it."""
        context = self._context
        recovered = recover(self._folder, self._symbols, self._prefix)
        if recovered is None:
            journal = Journal.draft(self._folder, self._symbols, self._prefix)
            journal.publish()
            self._use(journal)
            return
        context.orders[:] = recovered.orders
        context.positions[:] = recovered.positions
        state = context.state[0]
        state["journal_number"], state["taken_seq"] = recovered.number, recovered.taken_seq
        self._use(Journal.go_on(recovered))
        log.info("journal: %d entries, %d torn", recovered.number, recovered.torn)

    def _use(self, journal: Journal) -> None:
        state = self._context.state[0]
        self._journal = journal
        journal.populate(journal.next)
        state["journal_begin"], state["journal_at"], state["journal_end"] = 0, journal.next, journal.end

    def tend(self, helper: Helper) -> None:
        """Keep pages ready ahead of the next entry; have the next file made in good time."""
        journal, at = self._journal, int(self._context.state[0]["journal_at"])
        assert journal is not None, "tend before open"
        if journal.is_nearly_full(at) and not self._drafting:
            folder, symbols, prefix = self._folder, self._symbols, self._prefix
            self._drafting = True
            helper.submit(DRAFT, lambda: Journal.draft(folder, symbols, prefix))
        journal.populate(at)

    def take_draft(self, result: Result) -> None:
        """The next file is made; raises what kept it from being."""
        if result.error is not None:
            raise result.error
        self.turn_over(result.value)

    def turn_over(self, following: Journal) -> None:
        """Go on in the next file, which begins with all that there is."""
        full, end = self._journal, int(self._context.state[0]["journal_at"])
        assert full is not None
        self._use(following)
        write_all(self._context)
        following.publish()
        full.cut(end)
        self._drafting = False

    def close(self) -> None:
        """Make what is written durable."""
        if self._journal is not None:
            self._journal.flush()
            self._journal.cut(int(self._context.state[0]["journal_at"]))


def go_on(context: Context) -> None:
    """An earlier process of this stage was killed: what it knew is read; what became of its open orders is asked.

    An order that was written down may have been sent or not. It counts as sent now, so that the venue is given the
    time that an order may take to arrive before "no such order" is believed.
    """
    state, orders = context.state[0], context.orders[:ORDER_SLOTS]
    is_open = IS_OPEN[orders["state"]]
    orders["sent_ns"][is_open & (orders["is_acked"] == 0)] = read_now_ns(context.clock)
    orders["asked_ns"] = orders["requested_ns"] = 0
    state["open_orders"] = int(is_open.sum())
    state["last_order_id"] = int(orders["order_id"].max())
    context.counters[0]["unknown"] = int((orders["state"] == OrderState.UNKNOWN).sum())
    answered = int(state["taken_seq"])
    if last := ring.newest(int(state["reports_out"])):
        report = record_at(last, REPORT)
        state["report_seq"] = report["seq"]
        answered = max(answered, int(report["cause_seq"]))
    taken = adopt.skip(int(state["orders_in"]), ORDER_SEQ, answered)
    state["unknown_cursor"] = state["tell_cursor"] = 0
    publish_positions(context)
    log.warning("going on for an earlier router: %d orders open, %d inputs adopted", state["open_orders"], taken)
