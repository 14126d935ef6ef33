"""The five agents of a line as the composition root builds them, for tests that look at what they declare."""

from launch.host.topology import read_topology
from pipeline.config.tree import load
from pipeline.line.agents import Endpoints, build_agents
from pipeline.line.placement import core_map
from pipeline.reports.dry_run import nominal_instruments
from stages.agent import Agent
from stages.router.credentials import Credentials
from stages.strategy.loader import load as load_strategy
from stages.strategy.loader import strategy_path


def line_agents(*symbols: str) -> dict[str, Agent]:
    """By name, in pipeline order; nothing is opened."""
    config = load().config
    here = Endpoints("ws://127.0.0.1:1", "http://127.0.0.1:1", "ws://127.0.0.1:1/ws-api/v3")
    return build_agents(
        config, nominal_instruments(list(symbols)), here, Credentials.generate(),
        load_strategy(strategy_path(config.strategy.name)), delivery=config.delivery, run_start_ms=0,
        helper_cpus=(core_map(config, read_topology()).housekeeping,), journal_folder=None,
    )  # fmt: skip
