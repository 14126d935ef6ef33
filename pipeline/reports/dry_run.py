"""`up --dry-run`: the plan that would be carried out, without starting anything or asking any venue."""

import json
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from launch.host.cpu_lists import cpu_list
from launch.host.topology import read_topology
from launch.knobs.schedule import FALLBACK, KNOBS, lacks
from launch.placement.affinity import CoreMap
from launch.plan import Plan
from launch.preflight import available_bytes, needed_bytes
from pipeline.config.tree import Config, Loaded
from pipeline.errors import UsageError
from pipeline.line.agents import Endpoints, build_agents, stream_format_of
from pipeline.line.placement import core_map
from pipeline.line.plan import make_plan
from stages.agent import AgentError
from stages.book.memory import memory_document, memory_words
from stages.domain.captures import raw
from stages.domain.captures.binance import CaptureError
from stages.domain.captures.itch import describe
from stages.domain.instruments import INSTRUMENT, InstrumentError, check_count
from stages.feed.context import Format
from stages.router.credentials import Credentials
from stages.strategy.loader import load, strategy_path
from stages.venue.instruments import Instrument
from stages.venue.markets.itch_replay import listed


def print_plan(loaded: Loaded, *, as_json: bool) -> int:
    """Print the plan on standard output. Raises UsageError."""
    cores = core_map(loaded.config, read_topology())
    symbols, stream_format = _market(loaded.config)
    plan = _plan(loaded.config, cores, symbols, stream_format)
    books = memory_document(loaded.config.book, len(symbols), of_orders=stream_format is Format.ITCH)
    data = plan.document() | {
        "shared_memory_bytes": needed_bytes(plan.segments.values()),
        "topology": cores.topology.document(),
        "rt_guard": cores.topology.rt_guard.mechanism,
        "book_memory": books | {"available_bytes": (free := available_bytes()), "fits": books["bytes"] <= free},
        "lacking": [lack.document() for lack in lacks(cores, loaded.config.launch)],
    }
    if as_json:
        click.echo(json.dumps(data))
        return 0
    for line in _lines(data):
        click.echo(line)
    return 0


def plan_of(config: Config, cores: CoreMap) -> Plan:
    """The plan for a configuration on these cores. What segments a stage maps does not depend on real instruments.

    Raises UsageError for settings that contradict each other.
    """
    return _plan(config, cores, *_market(config))


def _plan(config: Config, cores: CoreMap, symbols: list[str], stream_format: Format) -> Plan:
    instruments = nominal_instruments(symbols)
    here = Endpoints("ws://127.0.0.1:1", "http://127.0.0.1:1", "ws://127.0.0.1:1/ws-api/v3")
    try:
        check_count(len(symbols))
        agents = build_agents(
            config, instruments, here, Credentials.generate(), load(strategy_path(config.strategy.name)),
            delivery=config.delivery, run_start_ms=0, helper_cpus=(cores.housekeeping,), journal_folder=None,
            stream_format=stream_format,
        )  # fmt: skip
        return make_plan("dry-run", config, agents, len(instruments), cores)
    except (AgentError, InstrumentError, ValueError) as error:
        raise UsageError(str(error)) from error


def _market(config: Config) -> tuple[list[str], Format]:
    """The symbols that a run would have, and what their stream would carry. Raises UsageError for a file not there."""
    try:
        stream_format = stream_format_of(config)
        if config.market.symbols or stream_format is Format.BINANCE or not config.venue.replay:
            return config.market.symbols or [item.symbol for item in config.venue.symbols], stream_format
        if stream_format is Format.RAW:
            return list(raw.describe(config.venue.replay).symbols), stream_format
        known: dict[str, Instrument] = {}
        return [item.symbol for item in listed(describe(config.venue.replay), known)], stream_format
    except CaptureError as error:
        raise UsageError(error.message, error.hint) from error


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


def _lines(data: dict[str, Any]) -> list[str]:
    return [
        *_machine_lines(data),
        "",
        f"housekeeping core {data['housekeeping_cpu']}: supervisor, venue, helper threads ({data['housekeeping_why']})",
        "",
        "processes, in start order:",
        *(line for name, process in data["processes"].items() for line in _process_lines(name, process)),
        "",
        *_lacking_lines(data["lacking"]),
        "segments:",
        *(f"  {name:14} {item['kind']:8} {item['bytes']:>12,} bytes" for name, item in data["segments"].items()),
        f"  in all {data['shared_memory_bytes'] / 1e6:.1f} MB of /dev/shm",
        "",
        memory_words(data["book_memory"]),
        _room_words(data["book_memory"]),
        "",
        "stop sequence:",
        *(f"  {step}" for step in data["stop_sequence"]),
    ]


def _room_words(memory: dict[str, Any]) -> str:
    available = f"{memory['available_bytes'] / 1e6:,.0f} MB available"
    return f"  fits: {available}" if memory["fits"] else f"  does not fit: {available}; the run would be refused"


def _machine_lines(data: dict[str, Any]) -> list[str]:
    machine = data["topology"]
    quota = f", CPU quota {machine['quota_cores']:g}" if machine["quota_cores"] is not None else ""
    return [
        f"cores {cpu_list(machine['usable'])}: {machine['physical_cores']} physical, "
        f"{len(machine['sockets'])} sockets, {len(machine['numa_nodes'])} NUMA nodes, "
        f"L3 of {' and '.join(machine['l3_domains'])}, isolated {cpu_list(machine['isolated']) or 'none'}, "
        f"nohz_full {cpu_list(machine['nohz_full']) or 'none'}{quota}",
        f"SCHED_FIFO on this kernel: {data['rt_guard']}",
    ]


def _process_lines(name: str, process: dict[str, Any]) -> list[str]:
    policy = f"SCHED_FIFO {process['priority']}" if process["priority"] else "normal scheduler"
    knobs = [
        KNOBS[knob].wanted.format(value=use["value"])
        + (" (required)" if use["required"] else "")
        + (f" where {FALLBACK[knob]} is refused" if FALLBACK.get(knob) in process["knobs"] else "")
        for knob, use in process["knobs"].items()
    ]
    return [
        f"  {name:9} core {process['cpu']}  {process['idle']:7} {policy}",
        f"            why    {process['why']}",
        f"            asks   {', '.join(knobs)}",
        *(f"            not    {knob}: {why}" for knob, why in process["not_taken"].items()),
        f"            writes {', '.join(process['writes'])}",
        f"            reads  {', '.join(process['reads'])}",
    ]


def _lacking_lines(lacking: list[dict[str, Any]]) -> list[str]:
    if not lacking:
        return []
    lines = ["what the run will lack:"]
    for lack in lacking:
        lines.append(f"  {lack['what']}")
        if lack["hint"]:
            lines.append(f"    hint: {lack['hint']}")
    return [*lines, ""]
