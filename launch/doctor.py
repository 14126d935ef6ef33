"""What this machine can and cannot give: a finding for each subject, and the noise of each core.

Reads only, takes seconds, and compiles nothing but the loop that measures noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from launch.checks import clocks, cores, interrupts, memory, network, realtime, system
from launch.checks.subject import Status, Subject, Verdict
from launch.findings import Finding
from launch.host.machine import Machine
from launch.host.noise import Noise, measure
from launch.host.topology import read_topology

SUBJECTS: tuple[Subject, ...] = (
    *cores.SUBJECTS, *clocks.SUBJECTS, *realtime.SUBJECTS, *memory.SUBJECTS, *interrupts.SUBJECTS,
    *network.SUBJECTS, *system.SUBJECTS,
)  # fmt: skip

NOISE_S = 2.0
"""Shared by the cores, when nobody says how long."""

LEAST_NOISE_S = 0.02
NOTICEABLE_NS, DESCHEDULED_NS = 20_000, 1_000_000
"""An interrupt takes less than the first; what takes longer than the second was another task or the hypervisor."""


@dataclass(frozen=True)
class Examination:
    """What `pipeline doctor` reports."""

    findings: list[Finding]
    noise: list[Noise] = field(default_factory=list)


def examine(machine: Machine, seconds_per_core: float | None = None) -> Examination:
    """Look at every subject, then listen to every core that may be used. Never raises for what it finds."""
    findings = [subject.finding(machine) for subject in SUBJECTS]
    noise: list[Noise] = []

    def listen(machine: Machine) -> Verdict:
        usable = read_topology(machine).usable
        noise.extend(measure(usable, seconds_per_core or max(LEAST_NOISE_S, NOISE_S / len(usable))))
        return judge_noise(noise)

    why = "whatever comes while a core is away waits that long; p99.9 and max of what was seen"
    findings.append(Subject("noise", why, listen).finding(machine))
    return Examination(findings, noise)


def judge_noise(noise: Sequence[Noise]) -> Verdict:
    """The noisiest core decides."""
    worst = max(noise, key=lambda one: one.max_ns)
    what = (
        f"core {worst.cpu} was away for up to {worst.max_ns / 1e3:,.1f} µs ({worst.gaps:,} gaps of more than "
        f"{worst.threshold_ns:.0f} ns in {worst.duration_s:.2f} s)"
    )
    status: Status = "ok" if worst.max_ns < NOTICEABLE_NS else "warn" if worst.max_ns < DESCHEDULED_NS else "bad"
    hint = "isolation, nohz-full, irq-affinity and virtual-machine say what may take it; repeat it on a quiet machine"
    return Verdict(status, what, hint if status != "ok" else "")
