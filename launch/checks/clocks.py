"""Clocks: what the kernel tells the time by, and whether stamps can be read from the processor itself."""

import re

from launch.checks.subject import Subject, Verdict, bad, ok, warn
from launch.host.machine import Machine

FOLDER = "/sys/devices/system/clocksource/clocksource0"
READ_IN_USER_SPACE = ("tsc", "arch_sys_counter")


def _source(machine: Machine) -> Verdict:
    current = machine.text(f"{FOLDER}/current_clocksource")
    available = machine.text_or(f"{FOLDER}/available_clocksource").split()
    if current in READ_IN_USER_SPACE:
        return ok(current)
    what = f"{current}; available: {' '.join(available) or '?'}"
    if "tsc" in available:
        return warn(what, f"echo tsc > {FOLDER}/current_clocksource; clocksource=tsc tsc=reliable at boot")
    if current in ("kvm-clock", "hyperv_clocksource_tsc_page"):
        return warn(what, "ask for a guest whose TSC is invariant")
    return bad(what, "dmesg says why the kernel gave the TSC up; a newer BIOS or kernel may keep it")


def _tsc(machine: Machine) -> Verdict:
    from shm.clock import tsc_refusal  # takes the compiler with it, which no other check needs

    match = re.search(r"^flags\s*:(.*)$", machine.text("/proc/cpuinfo"), re.MULTILINE)
    sources = machine.text_or(f"{FOLDER}/available_clocksource").split()
    refusal = tsc_refusal(flags=frozenset(match[1].split() if match else ()), sources=tuple(sources) or None)
    if refusal is None:
        return ok("runs at one rate, on all cores and through idle states: stamps are read from it")
    return warn(f"stamps ask clock_gettime instead: {refusal}", "costs 10 to some hundred ns a stamp, and no error")


SUBJECTS = (
    Subject("clock-source", "a clock that only the kernel can read costs a system call or more each time", _source),
    Subject("tsc", "each hop is stamped several times, and a stamp is part of what it measures", _tsc),
)
