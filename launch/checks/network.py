"""Network cards: what they do to a packet before the socket sees it. Virtual interfaces and loopback have no card."""

from collections.abc import Callable

from launch.checks.subject import Subject, Verdict, ok, warn, worst
from launch.errors import UnreadableError
from launch.host.machine import Machine
from launch.host.network_card import CardSettings, read_settings

NET = "/sys/class/net"
Judge = Callable[[Machine, str, CardSettings], Verdict]


def cards(machine: Machine) -> list[str]:
    """Interfaces with a device behind them. Raises UnreadableError."""
    if not machine.path(NET).is_dir():
        raise UnreadableError(NET, "absent")
    return [name.split("/")[-2] for name in machine.names(f"{NET}/*/device")]


def _each(judge: Judge) -> Callable[[Machine], Verdict]:
    def look(machine: Machine) -> Verdict:
        verdicts = [judge(machine, name, read_settings(name, machine.ethtool)) for name in cards(machine)]
        return worst(verdicts, ok("no network card here, only loopback and virtual interfaces"))

    return look


def _coalescing(machine: Machine, name: str, card: CardSettings) -> Verdict:
    if card.rx_usecs is None:
        return warn(f"{name}: the driver does not say", f"ethtool -c {name}, and the driver's manual")
    if not card.rx_usecs and not card.adaptive_rx:
        return ok(f"{name}: off")
    adaptive = ", adaptive" if card.adaptive_rx else ""
    return warn(f"{name}: up to {card.rx_usecs} µs{adaptive}", f"ethtool -C {name} adaptive-rx off rx-usecs 0")


def _rings(machine: Machine, name: str, card: CardSettings) -> Verdict:
    if card.rx_ring is None:
        return warn(f"{name}: the driver does not say", f"ethtool -g {name}, and the driver's manual")
    missed = machine.text_or(f"{NET}/{name}/statistics/rx_missed_errors", "0")
    what = f"{name}: {card.rx_ring} of {card.rx_ring_max} receive slots, {missed} packets missed since boot"
    if missed in ("", "0"):
        return ok(what)
    return warn(what, f"ethtool -G {name} rx {card.rx_ring_max}")


def _offloads(machine: Machine, name: str, card: CardSettings) -> Verdict:
    if card.gro is None and card.lro is None:
        return warn(f"{name}: the driver does not say", f"ethtool -k {name}, and the driver's manual")
    on = [text for text, value in (("gro", card.gro), ("lro", card.lro)) if value]
    if not on:
        return ok(f"{name}: packets are not merged")
    return warn(f"{name}: {' and '.join(on)} on", f"ethtool -K {name} {' off '.join(on)} off")


SUBJECTS = (
    Subject("nic-coalescing", "the card waits that long for more packets before it interrupts", _each(_coalescing)),
    Subject("nic-rings", "a packet without a slot is lost, and comes again after a retransmission", _each(_rings)),
    Subject("nic-offloads", "packets that are merged arrive together, when the batch is over", _each(_offloads)),
)
