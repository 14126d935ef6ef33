"""Settings of the launcher: where the processes run, how they are scheduled, how long they may take."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from launch.restarts import RestartPolicy, When


class LaunchSettings(BaseModel):
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
    fifo: Literal["auto", "never", "required"] = Field(
        "auto", description="SCHED_FIFO for stages alone on their core; required: refuse to start without it"
    )
    fifo_priority: int = Field(50, ge=1, le=98, description="SCHED_FIFO priority of a stage alone on its core")
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
        "cannot go on; always: that one too, without a limit; never: any failure stops trading",
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
