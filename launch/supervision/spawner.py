"""How processes are started, reaped and ended: the supervisor's only contact with them, replaceable in tests."""

import os
from pathlib import Path
from typing import Protocol

from launch.plan import Plan, ProcessPlan
from launch.supervision.child import Entry, Forked, fork
from launch.supervision.facts import ProcessFacts, read_facts
from launch.supervision.fork_memory import use_huge_pages


class Spawner(Protocol):
    """What the supervisor asks of the operating system."""

    def prepare(self) -> None:
        """Before the first start, once everything is loaded."""

    def spawn(self, process: ProcessPlan, plan: Plan, entry: Entry, log_path: Path) -> Forked:
        """Start `process`, which waits to be told to run."""

    def run(self, forked: Forked, cpu: int | None) -> None:
        """Tell it to run, on `cpu`."""

    def reap(self, pid: int) -> int | None:
        """Exit code of an ended child (negative: signal), None while it runs. Reaps by pid only."""

    def kill(self, pid: int, number: int) -> None:
        """Send a signal to a child that has not been reaped."""

    def facts(self, pid: int) -> ProcessFacts | None:
        """What the system says about a live child."""


class ForkSpawner:
    """Real processes."""

    def prepare(self) -> None:
        """Make this process cheap to fork."""
        use_huge_pages()

    def spawn(self, process: ProcessPlan, plan: Plan, entry: Entry, log_path: Path) -> Forked:
        """Fork."""
        return fork(process, plan, entry, log_path)

    def run(self, forked: Forked, cpu: int | None) -> None:
        """One byte."""
        forked.run(cpu)

    def reap(self, pid: int) -> int | None:
        """waitpid without waiting."""
        ended, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None

    def kill(self, pid: int, number: int) -> None:
        """A child's pid stays its own until it is reaped, so it cannot hit a stranger."""
        os.kill(pid, number)

    def facts(self, pid: int) -> ProcessFacts | None:
        """From /proc and the scheduler."""
        return read_facts(pid)
