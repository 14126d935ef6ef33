"""One run of the line, from configuration to report. The order of things:

    lock the name, sweep dead runs' segments, run directory
    start the paper venue (it loads while we do), load the compiler and the strategy
    exchangeInfo, instruments, agents; compile, or load compiled code
    plan, segments, fork in order, watch, stop in order
    report, unlink

Everything before the forks may be interrupted by Ctrl-C at any point; from then on signals are counted and the
supervisor acts on them.
"""

import contextlib
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.host.topology import read_topology
from launch.knobs.cpu_latency import MOST_US
from launch.knobs.schedule import AFFINITY, CPU_LATENCY, LOCAL_MEMORY
from launch.supervision.service import Service
from launch.supervision.signals import Signals
from pipeline import errors
from pipeline.config.toml_text import to_toml
from pipeline.config.tree import Config, Loaded, document
from pipeline.errors import UsageError
from pipeline.line.placement import core_findings, core_map
from pipeline.run.directory import RunDirectory, RunLock, create_run_directory, living_prefixes, new_run_id
from pipeline.terminal import Terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from launch.findings import Finding
    from launch.supervision.supervisor import Outcome, Supervisor
    from pipeline.line.agents import Endpoints
    from pipeline.line.compiled import Line
    from pipeline.run.control import Control
    from pipeline.run.detach import Launcher
    from stages.agent import Agent
    from stages.router.credentials import Credentials

EXIT_CODES = {
    "clean": errors.CLEAN,
    "unclean": errors.STAGE_FAILED,
    "stage_failed": errors.STAGE_FAILED,
    "refused": errors.REFUSED,
    "forced": errors.FORCED,
}


def run_session(loaded: Loaded, *, as_json: bool, launcher: "Launcher | None" = None) -> int:
    """Run the line; returns the exit code. Raises PipelineError before anything has traded.

    `launcher` waits for a run in the background to trade.
    """
    terminal = Terminal()
    with Signals() as signals:
        signals.interruptible = True
        try:
            with ExitStack() as stack:
                stack.callback(terminal.end_drawing)
                return _Session(loaded, terminal, signals, stack, as_json=as_json, launcher=launcher).run()
        except KeyboardInterrupt:
            terminal.say("interrupted before trading started")
        return errors.FORCED if signals.requests > 1 else errors.CLEAN


@dataclass
class _Prepared:
    """What is known once the venue has been asked and the code is compiled."""

    instruments: "NDArray[np.void]"
    line: "Line"


class _Session:
    def __init__(
        self,
        loaded: Loaded,
        terminal: Terminal,
        signals: Signals,
        stack: ExitStack,
        *,
        as_json: bool,
        launcher: "Launcher | None",
    ) -> None:
        self.loaded, self.config, self.launcher = loaded, loaded.config, launcher
        self.terminal, self.signals, self.stack, self.as_json = terminal, signals, stack, as_json
        self.started_ns, self.started_s = time.time_ns(), time.monotonic()
        self.ready_after_s: float | None = None
        """From here until every stage was ready; None while it is not so."""
        self.cores = core_map(self.config, read_topology())
        self.service: Service | None = None
        self.recording: Service | None = None
        self.recorded: dict[str, Any] | None = None
        self.supervisor: Supervisor | None = None
        self.quiet_since_s: float | None = None
        self.rest_seen = (0, 0)

    def run(self) -> int:
        from shm.kernel import cache_root
        from stages.domain.orders import client_order_id_prefix

        # A folder that cannot be is told before anything starts, not after the first compilation.
        cache_root().mkdir(parents=True, exist_ok=True)
        run = new_run_id(self.config.run.name)
        prefix = client_order_id_prefix(self.started_ns // 1_000_000)
        self.lock = RunLock(self.config.run.name, run, prefix)
        self.stack.callback(self.lock.release)
        directory = create_run_directory(run)
        directory.config.write_text(to_toml(document(self.loaded)), encoding="utf-8")
        credentials = self._start_venue(directory)
        return self._trade(run, directory, self._prepare(directory, credentials))

    # -- before trading ------------------------------------------------------------------------------------------

    def _start_venue(self, directory: RunDirectory) -> "Credentials":
        """Start the paper venue, if it is one; returns what the router logs on with."""
        from pipeline.run.venue_process import read_credentials, start_paper_venue
        from stages.router.credentials import Credentials

        market = self.config.market
        if market.api_key_file and market.venue != "paper":
            return read_credentials(Path(market.api_key_file), Path(market.private_key_file))
        credentials = Credentials.generate(self.config.venue.api_key)
        if market.venue != "paper":
            return credentials
        service = start_paper_venue(self.config, credentials, directory.logs / "venue.log", self.cores.housekeeping)
        self.stack.callback(service.end)
        self.service = service
        return credentials

    def _prepare(self, directory: RunDirectory, credentials: "Credentials") -> _Prepared:
        from pipeline.line.agents import build_agents, stream_format_of
        from pipeline.line.compiled import prepare
        from pipeline.run.venue_process import fetch_exchange_info
        from shm import doorbell
        from shm.segment import sweep
        from stages.agent import AgentError
        from stages.domain.captures.binance import CaptureError
        from stages.domain.instruments import InstrumentError, instruments_from_exchange_info
        from stages.feed.context import Format
        from stages.strategy.loader import load, strategy_path

        config = self.config
        doorbell.sweep()  # first: a semaphore is judged by its segment
        for name in sweep():
            self.terminal.say(f"removed {name}, left by a run that died")
        try:
            strategy = load(strategy_path(config.strategy.name))
            endpoints = self._endpoints()
            info = fetch_exchange_info(
                endpoints.rest_url, config.market.symbols, deadline_s=config.market.connect_deadline_s,
                say=self.terminal.say, wait=self.signals.wait,
            )  # fmt: skip
            symbols = config.market.symbols or [str(entry["symbol"]) for entry in info["symbols"]]
            instruments = instruments_from_exchange_info(info, symbols, config.instruments)
            market = {
                "rest_url": endpoints.rest_url, "symbols": symbols, "lines": config.feed.lines,
                "request_server": config.feed.request_server,
            }  # fmt: skip
            directory.market.write_text(json.dumps(market), "utf-8")

            stream_format = stream_format_of(config)
            self._check_memory(len(instruments), of_orders=stream_format is Format.ITCH)
            small = config.model_copy(update={"book": config.book.model_copy(update=TWIN_BOOK)})
            if config.feed.source != "venue" and config.market.venue == "paper" and not config.venue.replay:
                self.terminal.warn("the paper exchange fills orders by a market of its own, not by feed.lines")

            def build(config: Config, journal: Path | None) -> "dict[str, Agent]":
                return build_agents(
                    config, instruments, endpoints, credentials, strategy, delivery=config.delivery,
                    run_start_ms=self.started_ns // 1_000_000, helper_cpus=(self.cores.housekeeping,),
                    journal_folder=journal, living=living_prefixes, stream_format=stream_format,
                )  # fmt: skip

            agents = build(config, directory.journal)
            twins = build(small, None) if config.launch.placement == "packed" else {}
        except (AgentError, CaptureError, InstrumentError, ValueError) as error:
            raise UsageError(str(error)) from error
        draw = self.terminal.progress("compiling")
        line = prepare(agents, twins, strategy, config.launch.placement, draw)
        self.terminal.end_drawing()
        return _Prepared(instruments, line)

    def _check_memory(self, symbols: int, *, of_orders: bool) -> None:
        """The books' memory is all taken at the start. Raises MachineRefusedError when it is not there."""
        from launch.errors import MachineError
        from launch.preflight import check_memory
        from stages.book.memory import memory_document

        needed = memory_document(self.config.book, symbols, of_orders=of_orders)["bytes"]
        limit = "book.orders_max" if of_orders else "book.levels_max"
        try:
            check_memory(needed, f"the books of {symbols} symbols take it; lower {limit}, or choose market.symbols")
        except MachineError as error:
            raise errors.MachineRefusedError(str(error), error.hint) from None

    def _endpoints(self) -> "Endpoints":
        from pipeline.line.agents import Endpoints
        from pipeline.run.venue_process import wait_ready

        market = self.config.market
        if self.service is None:
            return Endpoints(market.stream_url, market.rest_url, market.order_url)
        host, port = wait_ready(self.service, self.config.launch.start_deadline_s, self.signals.wait)
        for warning in self.service.latest["ready"].get("warnings", []):
            self.terminal.warn(warning)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return Endpoints(f"ws://{place}", f"http://{place}", f"ws://{place}/ws-api/v3")

    # -- trading -------------------------------------------------------------------------------------------------

    def _trade(self, run: str, directory: RunDirectory, prepared: _Prepared) -> int:
        from launch.errors import MachineError
        from launch.preflight import findings
        from launch.supervision.processes import Processes
        from launch.supervision.supervisor import Supervisor
        from pipeline.line.entry import process_entry
        from pipeline.line.plan import make_plan
        from shm.doorbell import DoorbellError
        from shm.segment import SegmentError

        config, line = self.config, prepared.line
        plan = make_plan(run, config, line.agents, len(prepared.instruments), self.cores)
        entries = {process.name: process_entry(line, process.name, process.idle) for process in plan.processes}
        refused = self._take_run_knobs(plan.housekeeping_cpu)
        self.signals.interruptible = False
        supervisor = Supervisor(Processes(plan, entries, self.signals, directory.logs, self.terminal.warn))
        self.supervisor = supervisor
        with supervisor:
            try:
                # Pages are taken when segments are made: on the stages' node, though this process may run on another.
                with LOCAL_MEMORY.held(plan.memory_node):
                    supervisor.create_segments()
            except (MachineError, SegmentError, DoorbellError) as error:
                raise errors.MachineRefusedError(str(error), getattr(error, "hint", "")) from None
            for finding in (*findings(), *core_findings(self.cores, config), *refused):
                supervisor.note(finding)
            if self.service is not None:
                supervisor.adopt(self.service)
            if config.record.enabled:
                self._start_recording(run, directory)
            self.terminal.begin_status()
            self.terminal.say(f"run {run}: {config.launch.placement}, starting; logs in {directory.logs}")
            control = self._open_control(directory, supervisor, prepared)
            outcome = supervisor.run(
                lambda: self._finished(supervisor),
                duration_s=config.run.duration_s or None,
                tick=lambda: self._tick(supervisor, prepared, directory),
            )
            self.terminal.end_drawing()
            self._end_recording()
            if control.asked_down and outcome.failure is None:
                outcome.reason = "`pipeline down`"
            report = self._report(run, supervisor, outcome, prepared)
        try:
            directory.report.write_text(json.dumps(report, indent=1), encoding="utf-8")
        except OSError as error:
            self.terminal.warn(f"the report cannot be kept: {error}")
        control.ended(outcome, EXIT_CODES[outcome.exit], directory.report)
        with contextlib.suppress(BrokenPipeError):  # who read the report has left; the exit code says the rest
            self._tell(outcome, report, directory)
        return EXIT_CODES[outcome.exit]

    def _start_recording(self, run: str, directory: RunDirectory) -> None:
        """Before there is anything to record. It is no part of the line: should it fail, trading goes on."""
        from pipeline.recording.process import start_recording

        settings = self.config.record
        market = json.loads(directory.market.read_text(encoding="utf-8"))
        folder = Path(settings.folder) if settings.folder else directory.recording
        self.recording = start_recording(
            run, folder, settings.rotate_mb, market, directory.logs / "record.log", self.cores.housekeeping,
            self.signals.wait,
        )  # fmt: skip
        self.stack.callback(self.recording.end)

    def _end_recording(self) -> None:
        from pipeline.recording.process import end_recording

        if self.recording is None or self.recorded is not None:
            return
        self.recorded = end_recording(self.recording)
        if error := self.recorded.get("error"):
            self.terminal.warn(f"the recording ended early: {error}")
        elif lost := self.recorded["lost_frames"]:
            self.terminal.warn(f"the recording lacks {lost:,} frames: the recorder was too slow for the feed")

    def _take_run_knobs(self, housekeeping_cpu: int) -> "list[Finding]":
        """What the run as a whole asks of the system, held by this process alone; returns what was refused."""
        refused = []
        if self.config.launch.affinity != "never":  # else the stages, which are forked, would inherit it
            refused.append(AFFINITY.attempt(housekeeping_cpu))
        if self.config.launch.cpu_latency != "never":
            refused.append(CPU_LATENCY.attempt(MOST_US))
            self.stack.callback(CPU_LATENCY.undo, -1)
        return [finding for finding in refused if finding is not None]

    def _open_control(self, directory: RunDirectory, supervisor: "Supervisor", prepared: _Prepared) -> "Control":
        """Be there for `down`, `status` and the like; without a folder for the socket the run goes on without them."""
        from launch.errors import LaunchError
        from pipeline.asking.book_checks import BookChecks
        from pipeline.reports.books import grid_document, live_ladder, symbol_name
        from pipeline.run.control import Abilities, Control

        abilities = Abilities(
            report=lambda: self._report(directory.run, supervisor, self._present(), prepared),
            book=lambda symbol: live_ladder(supervisor.segments, prepared.instruments, symbol),
            check=BookChecks(supervisor.segments, [symbol_name(row) for row in prepared.instruments]).ask,
            grids=tuple(grid_document(instrument) for instrument in prepared.instruments),
            journal=directory.journal,
            stop=self.signals.request_stop,
            stages=supervisor,
        )
        control = Control(directory.run, abilities)
        self.stack.callback(control.close)
        try:
            self.lock.announce(control.open(self.config.run.name, self.signals))
        except LaunchError as error:
            self.terminal.warn(f"{error}; `pipeline down`, `status` and the like cannot reach this run", error.hint)
        return control

    def _present(self) -> "Outcome":
        """How things stand while the run lives, in the place of how it ended."""
        from launch.supervision.supervisor import Outcome

        if self.supervisor is not None:
            self.supervisor.take_facts()
        if self.signals.requests:
            return Outcome("stopping", "")
        return Outcome("running" if self.ready_after_s is not None else "starting", "")

    def _tick(self, supervisor: "Supervisor", prepared: _Prepared, directory: RunDirectory) -> None:
        if self.ready_after_s is None:
            self.ready_after_s = time.monotonic() - self.started_s
            if self.launcher is not None:
                self.as_json = False  # what the launcher prints is the document
                self.terminal.move_to(directory.logs / "supervisor.log")
                self.launcher.tell(directory)
        if self.recording is not None and self.recording.poll() is not None:
            self._end_recording()  # by itself, long before the run: it is said now, not in the morning
        self.terminal.status(lambda: self._status_line(supervisor, prepared))

    def _finished(self, supervisor: "Supervisor") -> str | None:
        """A replay is over when the feed has read as many frames as the venue has sent, holds none, and the rings are
        empty.
        """
        finished = self.service.latest.get("replay_finished") if self.service is not None else None
        if finished is None or supervisor.undrained():
            return None
        from pipeline.line.agents import AGENT_CLASSES
        from pipeline.reports.run_report import stage_counters

        counters = stage_counters(supervisor.segments, AGENT_CLASSES["feed"])
        missing, holding = int(finished["stream_messages"]) - counters["frames"], counters["holding"]
        if missing <= 0 and not holding:
            return "replay finished and drained"
        now_s = time.monotonic()
        if (missing, holding) != self.rest_seen or self.quiet_since_s is None:
            self.rest_seen, self.quiet_since_s = (missing, holding), now_s
        if now_s - self.quiet_since_s < LOST_FRAMES_S:
            return None
        if missing <= 0:
            return f"replay finished; {holding} messages wait for a snapshot that has not come"
        # Frames written to a connection that broke never arrive; the feed has resynchronised on the next one.
        return f"replay finished; {missing} frames never arrived"

    def _status_line(self, supervisor: "Supervisor", prepared: _Prepared) -> str:
        from pipeline.reports.status import status_line

        return status_line(supervisor.segments, agent_classes(), prepared.instruments)

    # -- afterwards ----------------------------------------------------------------------------------------------

    def _report(self, run: str, supervisor: "Supervisor", outcome: "Outcome", prepared: _Prepared) -> dict[str, Any]:
        from pipeline.reports.machine import clock_document, machine_document
        from pipeline.reports.run_report import build_report, take_snapshot
        from shm.clock import read_cost_ns

        failure = outcome.failure
        extras = {
            "reason": outcome.reason,
            "failure": failure and {"process": failure.process, "how": failure.how, "log_tail": failure.log_tail},
            "notes": outcome.notes,
            "started_ns": self.started_ns,
            "ready_after_s": self.ready_after_s and round(self.ready_after_s, 3),
            "duration_s": round(time.monotonic() - self.started_s - (self.ready_after_s or 0.0), 3),
            "delivery": self.config.delivery,
            "strategy": self.config.strategy.name,
            "compiled_kernels": prepared.line.compiled,
            "clock_read_ns": round(read_cost_ns(prepared.line.clock), 1),
            "clock": clock_document(prepared.line.clock),
            "findings": [finding.document() for finding in supervisor.findings],
            "replay": self.service.latest.get("replay_finished") if self.service is not None else None,
            "recording": self.recorded,
            "scheduling": {
                "cpu_latency_us": CPU_LATENCY.read() if CPU_LATENCY.read() >= 0 else None,
                "rt_guard": self.cores.topology.rt_guard.mechanism,
            },
            "machine": machine_document(self.cores.topology),
        }
        return build_report(
            run=run,
            placement=self.config.launch.placement,
            exit_word=outcome.exit,
            plan=supervisor.plan,
            facts=supervisor.facts,
            agents=agent_classes(),
            snapshot=take_snapshot(supervisor.segments, agent_classes(), prepared.instruments),
            restarts=supervisor.restarts,
            extras=extras,
        )

    def _tell(self, outcome: "Outcome", report: Mapping[str, Any], directory: RunDirectory) -> None:
        for note in outcome.notes:
            self.terminal.warn(f"while stopping: {note}")
        if outcome.failure is not None:
            self.terminal.error(f"trading stopped: {outcome.failure}", outcome.failure.hint)
            if outcome.failure.log_tail:
                self.terminal.say(f"the end of its log:\n{outcome.failure.log_tail}")
        self.terminal.say(f"stopped: {outcome.reason}; report kept in {directory.report}")
        if self.as_json:
            print(json.dumps(report))
        else:
            from pipeline.reports.text import print_report

            print_report(report, self.terminal.data)


LOST_FRAMES_S = 5.0
TWIN_BOOK = {"orders_max": 1_000, "symbol_orders_max": 0}
"""Twins have a canned book of 80 orders."""


def agent_classes() -> "list[Any]":
    """The agents' classes in pipeline order."""
    from pipeline.line.agents import AGENT_CLASSES

    return list(AGENT_CLASSES.values())
