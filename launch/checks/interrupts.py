"""Interrupts: which cores they may land on, and whether a daemon moves them there."""

from launch.checks.cores import stage_cores
from launch.checks.subject import Subject, Verdict, ok, warn
from launch.errors import UnreadableError
from launch.host.cpu_lists import cpu_list
from launch.host.machine import Machine
from launch.host.topology import read_topology


def _affinity(machine: Machine) -> Verdict:
    folders = machine.names("/proc/irq/[0-9]*")
    if not folders:
        raise UnreadableError("/proc/irq", "no interrupts are listed")
    stages = stage_cores(read_topology(machine))
    if not stages:
        return ok("one core takes the interrupts and runs the stages: see cores")
    landing = [folder for folder in folders if stages & _cores_of(machine, folder)]
    if not landing:
        return ok(f"none of {len(folders)} interrupts lands on cores {cpu_list(stages)}")
    return warn(
        f"{len(landing)} of {len(folders)} interrupts may land on cores {cpu_list(stages)}",
        "pipeline tune --apply --only irqs",
    )


def _cores_of(machine: Machine, folder: str) -> frozenset[int]:
    """Where an interrupt lands (one of its cores, in effect), or may land where the kernel does not say."""
    for file in ("effective_affinity_list", "smp_affinity_list"):
        if machine.text_or(f"{folder}/{file}"):
            return machine.cpus(f"{folder}/{file}")
    return frozenset()


def _irqbalance(machine: Machine) -> Verdict:
    if any(machine.text_or(name) == "irqbalance" for name in machine.names("/proc/[0-9]*/comm")):
        return warn(
            "irqbalance runs", "systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST=the stages' cores"
        )
    machine.text("/proc/self/status")  # without /proc nothing is known
    return ok("does not run")


SUBJECTS = (
    Subject(
        "irq-affinity", "an interrupt on a stage's core takes it for 2 to 50 µs, a busy card's all the time", _affinity
    ),
    Subject("irqbalance", "it spreads interrupts over all cores, every ten seconds anew", _irqbalance),
)
