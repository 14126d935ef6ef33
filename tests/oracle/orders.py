"""What an order has become after a sequence of messages, by the rules in words; twin of stages/router/lifecycle.py.

A fill is a fact, whenever it is told. An end is an end. A cancel under way stays under way until something ends it or
the venue refuses it; an order that is not there to cancel, and yet is open, is of unknown fate.
"""

from dataclasses import dataclass, field

ENDS = {"FILLED": "FILLED", "CANCELED": "CANCELLED", "EXPIRED": "EXPIRED", "REJECTED": "REJECTED"}


@dataclass
class Order:
    lots: int
    state: str = "PENDING_NEW"
    filled: int = 0
    was_acked: bool = False
    executions: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.state in ("PENDING_NEW", "WORKING", "PENDING_CANCEL", "UNKNOWN")

    def cancel(self) -> None:
        if self.state in ("PENDING_NEW", "WORKING"):
            self.state = "PENDING_CANCEL"

    def acknowledged(self) -> None:
        if not self.is_open:
            return
        if not self.was_acked:
            self.was_acked = True
            self.said.append("ACKED")
        if self.state in ("PENDING_NEW", "UNKNOWN"):
            self.state = "WORKING"

    def refused(self) -> None:
        if not self.is_open or (self.was_acked and self.state == "UNKNOWN"):
            return
        if self.was_acked:
            self.state = "UNKNOWN"
            self.said.append("UNKNOWN")
        else:
            self.state = "REJECTED"
            self.said.append("REJECTED")

    def cancel_refused(self) -> None:
        if self.is_open:
            self.state = "UNKNOWN"
            self.said.append("CANCEL_REJECTED")

    def executed(self, status: str, cumulative: int, execution_id: int) -> None:
        last = self.executions[-1] if self.executions else None
        if execution_id == last or cumulative < self.filled or (not self.is_open and cumulative == self.filled):
            return
        self.executions.append(execution_id)
        was_open = self.is_open
        if was_open and status != "REJECTED":
            self.acknowledged()
        if cumulative > self.filled:
            self.filled = cumulative
            self.said.append("FILLED")
            if was_open and status == "FILLED":
                self.state = "FILLED"
                return
        if was_open and status in ENDS:
            self.state = ENDS[status]
            self.said.append(self.state)
