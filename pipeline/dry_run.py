"""`up --dry-run`: the plan that would be carried out, without starting anything or asking any venue."""

import json
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from launch.memory import needed_bytes
from launch.plan import Plan
from launch.topology import read_topology
from pipeline.config import Config, Loaded
from pipeline.line import Endpoints, build_agents
from pipeline.processes import core_map, make_plan
from stages.agent import AgentError
from stages.domain.instruments import INSTRUMENT
from stages.router.credentials import Credentials
from stages.strategy.loader import load, strategy_path


def print_plan(loaded: Loaded, *, as_json: bool) -> int:
    """Print the plan on standard output. Raises UsageError."""
    from pipeline.errors import UsageError

    try:
        plan = plan_of(loaded.config)
    except (AgentError, ValueError) as error:
        raise UsageError(str(error)) from error
    data = plan.document() | {"shared_memory_bytes": needed_bytes(plan.segments.values())}
    if as_json:
        click.echo(json.dumps(data))
        return 0
    for line in _lines(plan, data):
        click.echo(line)
    return 0


def plan_of(config: Config) -> Plan:
    """The plan for a configuration on this machine. What segments a stage maps does not depend on real instruments."""
    symbols = config.market.symbols or [item.symbol for item in config.venue.symbols]
    instruments = nominal_instruments(symbols)
    cores = core_map(config, read_topology())
    here = Endpoints("ws://127.0.0.1:1", "http://127.0.0.1:1", "ws://127.0.0.1:1/ws-api/v3")
    agents = build_agents(
        config, instruments, here, Credentials.generate(), load(strategy_path(config.strategy.name)),
        delivery=config.delivery, run_start_ms=0, helper_cpus=(cores.housekeeping,), journal_folder=None,
    )  # fmt: skip
    return make_plan("dry-run", config, agents, len(instruments), cores)


def nominal_instruments(symbols: list[str]) -> NDArray[np.void]:
    """An instrument table with Binance's usual grid (0.01 and 0.00001), for planning only."""
    table = np.zeros(len(symbols), INSTRUMENT)
    for row, symbol in zip(table, symbols, strict=True):
        row["symbol"], row["base_asset"], row["quote_asset"] = symbol.encode(), symbol[:-4].encode(), b"USDT"
        row["price_exponent"] = row["quantity_exponent"] = -8
        row["tick"], row["lot"] = 1_000_000, 1_000
        row["minimum_lots"], row["maximum_lots"] = 1, 900_000_000
        row["minimum_notional"] = 50_000_000
        row["price_decimals"], row["quantity_decimals"] = 2, 5
    return table


def _lines(plan: Plan, data: dict[str, Any]) -> list[str]:
    lines = [
        f"housekeeping core {plan.housekeeping_cpu}: supervisor, venue, helper threads",
        "",
        "processes, in start order:",
    ]
    for name, process in data["processes"].items():
        policy = f"SCHED_FIFO {process['priority']} where permitted" if process["priority"] else "normal scheduler"
        lines.append(f"  {name:9} core {process['cpu']}  {process['idle']:7} {policy}")
        lines.append(f"            writes {', '.join(process['writes'])}")
        lines.append(f"            reads  {', '.join(process['reads'])}")
    lines += ["", "segments:"]
    lines += [f"  {name:14} {item['kind']:8} {item['bytes']:>12,} bytes" for name, item in data["segments"].items()]
    lines += [f"  in all {data['shared_memory_bytes'] / 1e6:.1f} MB of /dev/shm", "", "stop sequence:"]
    return lines + [f"  {step}" for step in data["stop_sequence"]]
