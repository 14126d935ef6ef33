"""Cores: kept free of other work, at full speed, and awake."""

from launch.checks.subject import Subject, Verdict, bad, ok, warn
from launch.errors import UnreadableError
from launch.host.cpu_lists import cpu_list
from launch.host.machine import Machine
from launch.host.topology import Topology, read_topology
from launch.tuning.boot import boot_advice

CPU = "/sys/devices/system/cpu"
TURBO_SWITCHES = ((f"{CPU}/intel_pstate/no_turbo", "0"), (f"{CPU}/cpufreq/boost", "1"))
"""File, and what it says when the turbo is on."""

SLOW_EXIT_US = 10
STEAL_PERCENT = 1.0


def stage_cores(topology: Topology) -> frozenset[int]:
    """The cores that stages would get: the isolated ones, else all but the first."""
    return topology.isolated or frozenset(topology.usable[1:])


def _count(machine: Machine) -> Verdict:
    topology = read_topology(machine)
    online = len(machine.cpus(f"{CPU}/online"))
    usable = topology.core_limit
    of = "" if usable == len(topology.usable) else "of "  # a quota does not say which
    what = f"{usable} of {online} cores may be used: {of}{cpu_list(topology.usable)}"
    hint = "widen the affinity mask, the cpuset or the quota (docker: --cpuset-cpus, --cpus); see cpu-quota"
    if usable == 1:
        return bad(what, hint if online > 1 else "a machine with two cores or more")
    return warn(what, hint) if usable < online else ok(what)


def _isolation(machine: Machine) -> Verdict:
    isolated = machine.cpus(f"{CPU}/isolated")
    if isolated:
        return ok(f"isolated cores: {cpu_list(isolated)}")
    advice = boot_advice(machine)
    return warn("no core is isolated", f"boot with {advice.arguments}" if advice.arguments else advice.notes[0])


def _nohz_full(machine: Machine) -> Verdict:
    ticks = machine.kernel_option("HZ")
    tick = f"the tick interrupts each busy core {ticks or 'some hundred'} times a second"
    try:
        cores = machine.cpus(f"{CPU}/nohz_full")
    except UnreadableError:
        if machine.kernel_option("NO_HZ_FULL") != "n":
            raise
        return warn(f"this kernel is built without NO_HZ_FULL: {tick}", "a kernel that is built with CONFIG_NO_HZ_FULL")
    if cores:
        return ok(f"tickless while one task runs: cores {cpu_list(cores)}")
    advice = boot_advice(machine)
    return warn(
        f"no core is tickless: {tick}", f"boot with {advice.arguments}" if advice.arguments else advice.notes[0]
    )


def _smt(machine: Machine) -> Verdict:
    shown = ", as far as the hypervisor shows" if machine.is_virtual else ""
    if machine.text(f"{CPU}/smt/active") == "0":
        return ok(f"hardware threads are off (smt/control: {machine.text_or(f'{CPU}/smt/control', '?')}){shown}")
    topology = read_topology(machine)
    wanted = stage_cores(topology) or frozenset(topology.usable)
    pairs = {group for core in wanted if len(group := topology.siblings.get(core, frozenset())) > 1}
    if not pairs:
        return ok(f"no core for stages has a second hardware thread{shown}")
    return warn(
        f"hardware threads share {len(pairs)} physical cores: {' '.join(sorted(map(cpu_list, pairs)))}{shown}",
        f"leave one thread of each idle, or echo off > {CPU}/smt/control",
    )


def _governor(machine: Machine) -> Verdict:
    files = machine.names(f"{CPU}/cpufreq/policy*/scaling_governor")
    if not files:
        by = "the hypervisor" if machine.is_virtual else "the firmware"
        return warn(f"no cpufreq here: {by} decides on the frequency", "set the host, or the BIOS, to performance")
    others = {file.split("/")[-2]: machine.text(file) for file in files if machine.text(file) != "performance"}
    if not others:
        return ok(f"performance, on all {len(files)} frequency domains")
    return warn(
        f"{len(others)} of {len(files)} frequency domains are governed by {', '.join(sorted(set(others.values())))}",
        "pipeline tune --apply --only governor",
    )


def _turbo(machine: Machine) -> Verdict:
    for file, on in TURBO_SWITCHES:
        text = machine.text_or(file)
        if text == on:
            return ok("on: the fastest, though not the steadiest; fix the frequency if an even tail matters more")
        if text:
            return warn(
                f"off ({file}: {text})", f"echo {on} > {file}, or the BIOS; off is right if it was for evenness"
            )
    raise UnreadableError(" and ".join(file for file, _ in TURBO_SWITCHES), "absent")


def _idle_states(machine: Machine) -> Verdict:
    if "idle=poll" in machine.boot_arguments:
        return ok("idle=poll: idle cores stay awake")
    deepest = ("", 0)
    for folder in machine.names(f"{CPU}/cpu[0-9]*/cpuidle/state*"):
        if machine.text_or(f"{folder}/disable", "0") == "0":
            deepest = max(
                deepest,
                (machine.text(f"{folder}/name"), machine.number(f"{folder}/latency")),
                key=lambda state: state[1],
            )
    if not deepest[0]:
        driver = machine.text(f"{CPU}/cpuidle/current_driver")
        where = "into the hypervisor" if machine.is_virtual else "by the processor's default"
        return warn(
            f"no idle states are listed (driver: {driver}): an idle core halts {where}, and how long waking takes is "
            "not known",
            "let stages spin on cores of their own; idle=poll on the kernel command line for the others",
        )
    name, latency_us = deepest
    if latency_us <= SLOW_EXIT_US:
        return ok(f"the deepest enabled idle state, {name}, takes {latency_us} µs to leave")
    return warn(
        f"the deepest enabled idle state, {name}, takes {latency_us} µs to leave",
        "a spinning stage never enters it; for the others hold /dev/cpu_dma_latency open at 0, or boot with "
        "processor.max_cstate=1 intel_idle.max_cstate=0",
    )


def _virtual_machine(machine: Machine) -> Verdict:
    if not machine.is_virtual:
        return ok("no hypervisor shows itself")
    fields = machine.text("/proc/stat").splitlines()[0].split()[1:9]
    if len(fields) < 8 or not all(field.isdecimal() for field in fields):
        raise UnreadableError("/proc/stat", "no times in its first line")
    stolen = 100 * int(fields[7]) / max(1, sum(map(int, fields)))
    what = f"a virtual machine: {stolen:.2f} % of its time since boot went to others (steal)"
    hint = "bare metal, or a guest whose virtual cores are pinned to physical ones of their own"
    return bad(what, hint) if stolen > STEAL_PERCENT else warn(what, hint)


SUBJECTS = (
    Subject("cores", "stages that share a core wait for each other's turns, and may not spin", _count),
    Subject("isolation", "the scheduler puts other work on a stage's core: 10 µs to some ms each time", _isolation),
    Subject("nohz-full", "each tick takes a stage's core away for 1 to 10 µs and cools its caches", _nohz_full),
    Subject("smt", "a busy sibling thread takes half of the core's units and cache", _smt),
    Subject("governor", "a core that was quiet runs slowly until the governor notices, some ms later", _governor),
    Subject("turbo", "the frequency of the core is the speed of every hop", _turbo),
    Subject("c-states", "a core that sleeps must wake up before it can look at a message", _idle_states),
    Subject("virtual-machine", "the host may stop a virtual core at any moment, for ms, and no guest can see it come",
            _virtual_machine),
)  # fmt: skip
