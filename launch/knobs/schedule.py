"""Which knobs a process gets, and why not the others: a pure function of its core and the settings.

Each knob's setting is auto (take it where the machine gives it, say so where not), never, or required (a refusal ends
the run before it starts).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.findings import Finding
from launch.host.rt_guard import Refusal
from launch.knobs.cpu_latency import MOST_US, CpuLatency
from launch.knobs.knob import Knob
from launch.knobs.memory_policy import LocalMemory, MemoryLock
from launch.knobs.scheduling import Affinity, Fifo, Nice, TimerSlack
from launch.placement.affinity import CoreMap
from launch.settings import KnobSettings

CPU_LATENCY = CpuLatency()
LOCAL_MEMORY = LocalMemory()
AFFINITY = Affinity()
PROCESS_KNOBS: tuple[Knob, ...] = (AFFINITY, LOCAL_MEMORY, TimerSlack(), MemoryLock(), Fifo(), Nice())
"""Those of each process, in the order in which it applies them. FIFO late: what starts up must not spin under it."""
KNOBS: Mapping[str, Knob] = {knob.name: knob for knob in (*PROCESS_KNOBS, CPU_LATENCY)}

NICE = -10
"""About nine times the weight of other work. Not -20: that is the kernel's own high-priority workers'."""
TIMER_SLACK_NS = 1
FALLBACK = {"nice": "fifo"}
"""Knob: the one it stands in for. It is applied when that one is not, and then has no say under it."""


@dataclass(frozen=True)
class KnobUse:
    """A knob that a process is to apply."""

    name: str
    value: int
    required: bool


@dataclass(frozen=True)
class Schedule:
    """The knobs of one process."""

    uses: tuple[KnobUse, ...]
    declined: Mapping[str, Refusal] = field(default_factory=dict)
    """Knob: why it is not taken here."""
    needless: Mapping[str, str] = field(default_factory=dict)
    """Knob: why there is nothing to ask for."""

    def value(self, knob: str) -> int | None:
        """What a knob is to be set to; None when it is not."""
        return next((use.value for use in self.uses if use.name == knob), None)

    def document(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            "knobs": {use.name: {"value": use.value, "required": use.required} for use in self.uses},
            "not_taken": {name: refusal.why for name, refusal in self.declined.items()} | dict(self.needless),
        }


def schedule_of(process: str, cores: CoreMap, settings: KnobSettings) -> Schedule:
    """The knobs of a polling process."""
    core, topology = cores.pollers[process], cores.topology
    values = {"affinity": core.cpu, "timer_slack": TIMER_SLACK_NS, "memory_lock": 1}
    values |= {"fifo": settings.fifo_priority, "nice": NICE}
    needless = {}
    if topology.memory_nodes > 1:
        values["local_memory"] = topology.nodes.get(core.cpu, 0)
    else:
        needless["local_memory"] = "one memory node"
    wishes = {knob.name: settings.wish(knob.name) for knob in PROCESS_KNOBS}
    if not topology.swap and settings.memory_lock != "required":
        needless["memory_lock"] = "no swap: nothing of ours is written out, and locking costs a start 4 to 20 ms"
    needless |= {name: f'launch.{name} = "never"' for name, wish in wishes.items() if wish == "never"}
    rules = {"fifo": _no_fifo(process, cores, settings), "nice": _no_nice(process, cores)}
    declined = {name: refusal for name, refusal in rules.items() if refusal is not None and name not in needless}
    uses = tuple(
        KnobUse(name, values[name], wish == "required")
        for name, wish in wishes.items()
        if name not in declined and name not in needless
    )
    return Schedule(uses, declined, needless)


def _no_fifo(process: str, cores: CoreMap, settings: KnobSettings) -> Refusal | None:
    core = cores.pollers[process]
    if not core.alone:
        return Refusal(
            f"core {core.cpu} is shared: under FIFO sched_yield yields to nobody there, the neighbours would starve",
            _more_cores(cores),
        )
    if settings.affinity == "never":
        return Refusal("a spinner that is not pinned could come to any core", 'launch.affinity = "auto"')
    return cores.topology.rt_guard.refusal(core.cpu in cores.topology.isolated)


def _no_nice(process: str, cores: CoreMap) -> Refusal | None:
    core = cores.pollers[process]
    if core.alone:
        return None
    # Measured with other work on the machine: tick to trade p50 0.8 to 1.0 ms with nice -10, 0.09 ms without.
    return Refusal(f"core {core.cpu} is shared: stages that yield to each other are slower with it", _more_cores(cores))


def _more_cores(cores: CoreMap) -> str:
    return f"{len(cores.pollers) + 1} cores give each process its own" + (
        '; launch.placement = "packed" needs 2' if len(cores.pollers) > 1 else ""
    )


@dataclass(frozen=True)
class Lack:
    """A knob that some processes will not have, though the configuration does not say never."""

    knob: str
    processes: tuple[str, ...]
    """Empty for a knob of the whole run."""
    refusal: Refusal
    required: bool
    by_rule: bool
    """Not even asked for; else the machine refuses it."""

    @property
    def finding(self) -> Finding:
        """For reports."""
        of = f" for {', '.join(self.processes)}" if self.processes else ""
        return Finding(
            self.knob, f"no {self.knob}{of}: {self.refusal.why}", KNOBS[self.knob].cost, self.refusal.hint,
            "bad" if self.required else "warn",
        )  # fmt: skip

    def document(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return self.finding.document() | {"processes": list(self.processes), "required": self.required}


def lacks(cores: CoreMap, settings: KnobSettings) -> list[Lack]:
    """What the processes will lack. Asks the machine what the calling process may do: the same user starts them."""
    found: dict[tuple[str, Refusal, bool], list[str]] = {}
    for process in cores.pollers:
        schedule = schedule_of(process, cores, settings)
        missing = {knob.name: _missing(knob.name, schedule) for knob in PROCESS_KNOBS}
        for name, refusal in missing.items():
            stand_in_for = FALLBACK.get(name)
            is_replaced = stand_in_for is not None and schedule.value(stand_in_for) and not missing[stand_in_for]
            if refusal is not None and not is_replaced:
                found.setdefault((name, refusal, name in schedule.declined), []).append(process)
    lacking = [
        Lack(name, tuple(processes), refusal, settings.wish(name) == "required", by_rule)
        for (name, refusal, by_rule), processes in found.items()
    ]
    why = CPU_LATENCY.check(MOST_US) if settings.cpu_latency != "never" else None
    if why is not None:
        refusal = Refusal(why, CPU_LATENCY.grants)
        lacking.append(Lack(CPU_LATENCY.name, (), refusal, settings.cpu_latency == "required", by_rule=False))
    return lacking


def _missing(name: str, schedule: Schedule) -> Refusal | None:
    value = schedule.value(name)
    if value is None:
        return schedule.declined.get(name)
    why = KNOBS[name].check(value)
    return Refusal(why, KNOBS[name].grants.format(value=value)) if why is not None else None
