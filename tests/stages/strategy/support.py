"""A strategy stage in private memory, its poll composed as the line composes it."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np

from shm.clock import calibrate
from shm.kernel import SOURCES_HASH, cache_root, hash_files
from stages.domain.edges import BOOK_TO_STRATEGY, RISK_TO_STRATEGY, STRATEGY_TO_RISK
from stages.domain.messages import NOTICE, ORDER, REPORT, BookState, NoticeKind
from stages.strategy.agent import StrategyAgent
from stages.strategy.compose import poll_source
from stages.strategy.loader import load, strategy_files, strategy_path
from stages.strategy.settings import StrategySettings
from tests.stages.private_memory import PrivateSegments, attach, instruments

CLOCK = calibrate(0.002)
TICK = 10**6
LOTS = {0: 1_000, 1: 10_000}


ENTRY = """

from shm.kernel import kernel as _kernel


@_kernel
def poll_once(context, now_ns):
    return poll_strategy(context, now_ns)
"""


def compose(name: str) -> Any:
    """The generated module of a strategy, in a folder of Numba's cache that is named by the strategy's files.

    The line does the same: Numba does not see that a helper changed, so another helper must mean another folder.
    """
    path = strategy_path(name)
    folder = cache_root() / f"{SOURCES_HASH}-tests" / hash_files(strategy_files(path), str(path))
    folder.mkdir(parents=True, exist_ok=True)
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        line = folder / f"line_{folder.name}.py"
        line.write_text(poll_source(load(path)) + ENTRY, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(line.stem, line)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[line.stem] = module
        spec.loader.exec_module(module)
    finally:
        numba.config.CACHE_DIR = before
    return module


def written(text: str, name: str = "mine.py") -> Path:
    """A strategy file of `text`; the same text has the same path, so that its compiled code is found again."""
    folder = cache_root() / f"{SOURCES_HASH}-tests" / "files" / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    return path


class Stage:
    """One strategy between private rings, cranked by hand."""

    def __init__(
        self,
        module: Any,
        delivery: str = "conflate",
        capacities: dict[str, int] | None = None,
        **parameters: int,
    ) -> None:
        self.module = module
        self.agent = StrategyAgent(instruments(), StrategySettings(parameters=parameters), module.STRATEGY, delivery)
        self.segments = PrivateSegments([self.agent], capacities)
        self.page = attach(self.agent, self.segments, CLOCK)
        self.seq = 0

    def poll(self, now_ns: int = 0) -> int:
        return int(self.module.poll_once(self.agent.context, now_ns))

    def book(self, symbol: int, bid_ticks: int, ask_ticks: int, **fields: int) -> None:
        record = np.zeros(1, NOTICE)
        self.seq += 1
        values: dict[str, int] = {
            "kind": NoticeKind.BOOK, "state": BookState.VALID, "symbol": symbol, "seq": self.seq, "read_ns": 77,
            "bid_price": bid_ticks * TICK, "ask_price": ask_ticks * TICK,
            "bid_quantity": 10**8, "ask_quantity": 10**8,
        }  # fmt: skip
        for name, value in (values | fields).items():
            record[name] = value
        assert self.segments.push(BOOK_TO_STRATEGY, record)

    def report(self, order_id: int, **fields: int) -> None:
        record = np.zeros(1, REPORT)
        self.seq += 1
        for name, value in ({"order_id": order_id, "seq": self.seq} | fields).items():
            record[name] = value
        assert self.segments.push(RISK_TO_STRATEGY, record)

    def orders(self) -> list[np.void]:
        return self.segments.pop_all(STRATEGY_TO_RISK, ORDER)

    def count(self, name: str) -> int:
        return int(self.page["counters"][name][0])
