"""Kills and stops the stages of a trading line at random instants; afterwards everything must be equal.

`python -m tests.chaos.monkey KILLS [SEED [PAUSE_S]]` prints the tally as JSON; the suite runs it short, `-m long` long.
With a pause, one stage is struck at a time, about PAUSE_S after the last: what a restart takes that nothing disturbs.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.chaos.line import STAGES, Line, exchange, wait_until
from tests.chaos.truth import compare

LOTS = (Decimal("0.00001"), Decimal("0.0001"))
"""Of BTCUSDT and ETHUSDT on the paper exchange."""

HANG_LIMIT_S = 0.3
SETTINGS: dict[str, Any] = {
    "launch.restart": "always", "launch.restart_backoff_ms_min": 0, "launch.restart_backoff_ms_max": 20,
    "launch.heartbeat_warning_s": 0.25, "launch.heartbeat_failure_s": HANG_LIMIT_S,
}  # fmt: skip


def strike(line: Line, dice: random.Random, tally: Counter[str], *, alone: bool) -> None:
    """One random process, sometimes two at once: SIGKILL, or SIGSTOP, which the supervisor must notice by itself."""
    before = wait_until(lambda: _all(line), "every stage has a process")
    stages = dice.sample(STAGES, 2 if not alone and dice.random() < 0.1 else 1)
    number = signal.SIGSTOP if dice.random() < 0.2 else signal.SIGKILL
    for stage in stages:
        try:
            os.kill(before[stage], number)
        except ProcessLookupError:
            continue
        tally[f"{stage} {number.name}"] += 1
    for stage in stages:
        old = before[stage]
        wait_until(lambda stage=stage, old=old: line.pids().get(stage, old) != old, f"{stage} runs again")  # type: ignore[misc]


def _all(line: Line) -> dict[str, int] | None:
    pids = line.pids()
    assert line.process.poll() is None, line.words[-3000:]
    return pids if len(pids) == len(STAGES) else None


def chaos(folder: Path, kills: int, seed: int, pause_s: float = 0.0) -> dict[str, Any]:
    """Trade, strike `kills` times, stop, compare. Returns the tally."""
    dice = random.Random(seed)
    tally: Counter[str] = Counter()
    with exchange() as market:
        line = Line(folder, market, **SETTINGS)
        try:
            line.start()
            while sum(tally.values()) < kills:
                # The instant is random, and mostly so short that the last one is not healed yet.
                instant = dice.choice((0.0, 0.01, 0.05, 0.2, 0.5)) * dice.random()
                time.sleep(pause_s * (0.5 + dice.random()) or instant)
                strike(line, dice, tally, alone=pause_s > 0)
            wait_until(lambda: _all(line), "every stage has a process")
            orders = len(market.orders("BTCUSDT"))
            wait_until(lambda: len(market.orders("BTCUSDT")) > orders, "the line trades again")
            report = line.stop()
            verdict = compare(market, line.run_directory() / "journal", report, LOTS)
            still_open = [order["clientOrderId"] for order in market.get("openOrders")]
            code = line.process.returncode
        finally:
            line.close()
    counted = (
        ("risk", "position_differences"),
        ("strategy", "position_differences"),
        ("router", "illegal_transitions"),
    )
    return {
        "strikes": dict(sorted(tally.items())),
        "kills": sum(tally.values()),
        "seed": seed,
        "code": code,
        "exit": report["exit"],
        "notes": report["notes"],
        "still_open": still_open,
        **asdict(verdict),
        "books_checked": report["market_data"]["bbo_checked"],
        "mismatched_books": report["market_data"]["bbo_mismatches"],
        "books": {symbol: book["state"] for symbol, book in report["books"].items()},
        "counters": {f"{stage}.{name}": report["counters"][stage][name] for stage, name in counted},
        "restarts": _percentiles(report["restarts"]),
    }


def _percentiles(restarts: list[Any]) -> dict[str, Any]:
    """By stage: how many, and their gaps in ms."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        for key in ("restart_gap_ns", "resync_ns"):
            values = sorted(one[key] / 1e6 for one in restarts if one["process"] == stage and one[key] is not None)
            if values:
                at = [round(values[min(len(values) - 1, int(share * len(values)))], 1) for share in (0.5, 0.99, 1.0)]
                found.setdefault(stage, {})[key.replace("_ns", "_ms")] = {
                    "count": len(values), "p50": at[0], "p99": at[1], "max": at[2]
                }  # fmt: skip
    return found


def main() -> None:
    """See the module's docstring."""
    kills, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    pause_s = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(chaos(Path(folder), kills, seed, pause_s), indent=1))


if __name__ == "__main__":
    main()
