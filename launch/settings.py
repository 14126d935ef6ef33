"""Settings of the launcher: where the processes run, how they are scheduled, how long they may take."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LaunchSettings(BaseModel):
    """Placement, scheduling and deadlines of the processes."""

    model_config = ConfigDict(extra="forbid")

    placement: Literal["dedicated", "packed"] = Field(
        "dedicated", description="dedicated: a process for each stage; packed: all stages in one process on one core"
    )
    idle: Literal["auto", "spin", "yield", "backoff"] = Field(
        "auto", description="what a stage does without work; auto: spin on a core of its own, yield on a shared one"
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
        30.0, ge=1, le=3600, description="seconds without a heartbeat before a stage counts as failed"
    )
