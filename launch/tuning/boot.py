"""What only the kernel's command line can set: cores for the stages alone. Advised, never written.

A wrong command line can leave a machine that does not boot, boot loaders differ, it takes a reboot, and no `--revert`
could take that back. So whoever administers the machine puts it there.
"""

from dataclasses import dataclass

from launch.errors import UnreadableError
from launch.host.cpu_lists import cpu_list
from launch.host.machine import Machine

CPU = "/sys/devices/system/cpu"
HOW = (
    "add it to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, run update-grub and reboot (where there is grubby: "
    "grubby --update-kernel=ALL --args=…)"
)
WHY_NOT = (
    "tune never edits the boot loader: a mistake there leaves a machine that does not boot, and only a reboot could "
    "revert it"
)


@dataclass(frozen=True)
class BootAdvice:
    """`arguments` is empty when nothing can be isolated; `notes` say why, or what to mind."""

    arguments: str
    notes: tuple[str, ...]


def boot_advice(machine: Machine) -> BootAdvice:
    """Core 0, with its sibling threads, keeps everything else; all other cores are for the stages."""
    try:
        online = machine.cpus(f"{CPU}/online")
    except UnreadableError as error:
        return BootAdvice("", (f"which cores there are cannot be told: {error}",))
    try:
        kept = machine.cpus(f"{CPU}/cpu0/topology/thread_siblings_list") | {0}
    except UnreadableError:
        kept = frozenset({0})
    cores = cpu_list(online - kept)
    if not cores:
        return BootAdvice("", ("one physical core: there is none to isolate",))
    notes = []
    if not machine.path(f"{CPU}/nohz_full").exists():
        notes.append("this kernel lacks NO_HZ_FULL: nohz_full= does nothing")
    if "isolcpus=" in machine.text_or("/proc/cmdline"):
        notes.append(f"isolated now: {machine.text_or(f'{CPU}/isolated') or 'none'}")
    arguments = f"isolcpus=managed_irq,domain,{cores} nohz_full={cores} rcu_nocbs={cores}"
    return BootAdvice(arguments, tuple(notes))
