"""Settings of the launcher: where the processes run, how they are scheduled, how long they may take."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from launch.supervision.restarts import RestartPolicy, When

Wish = Literal["auto", "never", "required"]
"""auto: taken where the machine gives it, a finding where not. required: a refusal ends the run before it starts."""


class KnobSettings(BaseModel):
    """What the operating system is asked for, for each process: one wish a knob (rules: launch.knobs.schedule)."""

    fifo: Wish = Field(
        "auto", description="SCHED_FIFO for stages alone on their core; required: refuse to start without it"
    )
    fifo_priority: int = Field(50, ge=1, le=98, description="SCHED_FIFO priority of a stage alone on its core")
    nice: Wish = Field("auto", description="nice -10 for stages alone on their core that have no SCHED_FIFO")
    affinity: Wish = Field("auto", description="pinning of each stage to its core")
    memory_lock: Wish = Field(
        "auto", description="mlockall, on fault: pages stay in memory once there; auto: where the machine has swap"
    )
    timer_slack: Wish = Field("auto", description="timer slack of 1 ns: sleeps end when they should")
    local_memory: Wish = Field("auto", description="memory from the NUMA node of the core, where there are several")
    cpu_latency: Wish = Field(
        "auto", description="/dev/cpu_dma_latency held open while the run lasts: idle cores sleep no deeper than C1"
    )

    def wish(self, knob: str) -> Wish:
        """The setting of a knob."""
        wish: Wish = getattr(self, knob)
        return wish


class LaunchSettings(KnobSettings):
    """Placement, scheduling and deadlines of the processes."""

    model_config = ConfigDict(extra="forbid")

    placement: Literal["dedicated", "packed"] = Field(
        "dedicated", description="dedicated: a process for each stage; packed: all stages in one process on one core"
    )
    idle: Literal["auto", "spin", "yield", "backoff", "doorbell"] = Field(
        "auto",
        description="what a stage does without work; auto: spin on a core of its own, yield on a shared one; doorbell: "
        "sleep until a neighbour rings (feed and router, whose bytes ring nobody, 50 us at most)",
    )
    cores: dict[str, int] = Field(
        default_factory=dict,
        description="cores of processes by name, such as {feed = 2, book = 3}; those not named are placed by rule",
    )
    housekeeping_core: int = Field(
        -1, ge=-1, description="core of supervisor, venue and helper threads; -1: the first that is not isolated"
    )
    start_deadline_s: float = Field(30.0, ge=1, le=600, description="seconds a process may take to say it is ready")
    quiet_deadline_s: float = Field(
        10.0, ge=0.1, le=600, description="seconds for working orders to be cancelled at the venue when stopping"
    )
    drain_deadline_s: float = Field(5.0, ge=0.1, le=600, description="seconds for the rings to run empty when stopping")
    stop_deadline_s: float = Field(5.0, ge=0.1, le=60, description="seconds a stopped process may take to leave")
    heartbeat_warning_s: float = Field(2.0, ge=0.1, le=600, description="seconds without a heartbeat before it is said")
    heartbeat_failure_s: float = Field(
        5.0, ge=0.1, le=3600, description="seconds without a heartbeat before a stage counts as hung, and is killed"
    )

    restart: When = Field(
        "limited",
        description="limited: a stage that crashes or hangs is started again, but not one that says itself that it "
        "cannot go on; always: that one too, without a limit; never, and in replays at max speed: any failure stops "
        "trading",
    )
    restart_of: dict[str, When] = Field(
        default_factory=dict, description='the same for single stages, such as {strategy = "never"}'
    )
    restarts_per_minute_max: int = Field(
        5, ge=1, le=10_000, description="restarts of a stage within a minute before trading stops (limited)"
    )
    restart_backoff_ms_min: int = Field(
        50, ge=0, le=60_000, description="pause before the second restart within a minute; doubled for each further one"
    )
    restart_backoff_ms_max: int = Field(5_000, ge=0, le=600_000, description="longest pause before a restart")

    def restart_policy(self, stage: str) -> RestartPolicy:
        """The policy of the process `stage`."""
        return RestartPolicy(
            self.restart_of.get(stage, self.restart), self.restarts_per_minute_max,
            self.restart_backoff_ms_min / 1_000, self.restart_backoff_ms_max / 1_000,
        )  # fmt: skip
