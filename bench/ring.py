"""The ring between two processes on two cores: beside the same algorithm in C++, and beside Python's peers.

Records of 64 bytes, each built, carried and checked word by word. `rtt` is a record there and its answer back;
`single`, `in_place` and `batched` are records one way, in ns per record: built in private memory and pushed, one at a
time; built and checked in the ring itself; and pushed 64 at a time. A round is C++, ours and the peers, a slice of
tens of milliseconds each, and only slices of one round are compared: virtual cores change their distance within
seconds. The regime of a round is told by the C++ round trip in it: near up to 320 ns, far above.
"""

import ctypes
import mmap
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import peers, ring_loops
from bench.duel import COUNT_MAX, Contestant, Duel, duel, two_cores
from bench.harness import compiled_reference, machine, ns_per_cycle, over_runs, ratio
from shm.ring import format_ring, ring_bytes

HERE = Path(__file__).parent
CAPACITY = 1024
OURS, CPP = "tickpipe", "C++ -O3"
RUNS, ROUNDS = 3, 40
NEAR_RTT_NS = 320.0
"""C++ round trips up to this are of cores that are near each other."""
FAST_CPP_NS = 15.0
"""The per-record budgets hold in rounds whose C++ reference stays under this."""
ONE_WAY = {
    "single": ("produce", "consume"),
    "in_place": ("produce_in_place", "consume_in_place"),
    "batched": ("produce_batched", "consume_batched"),
}
"""Mode: the loops of its two sides, by their names in ring_loops.py and ring.cpp."""
MODES = ("rtt", *ONE_WAY)
RATIO_LIMITS = {"rtt": 1.15, "single": 1.25, "in_place": 1.25, "batched": 1.25}
NS_LIMITS = {"single": 50.0, "batched": 15.0}


class RingContestant:
    """A ring each way in memory that both processes map; subclasses bring the loops."""

    def __init__(self, name: str, ns_per_tick: float, *, slot_bytes: int = ring_loops.RECORD_BYTES) -> None:
        self.name = name
        self.ns_per_tick = ns_per_tick
        size = -(-ring_bytes(CAPACITY, slot_bytes) // 4096) * 4096
        self._memory = mmap.mmap(-1, 2 * size)
        self.there = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        self.back = self.there + size
        for base in (self.there, self.back):
            format_ring(base, CAPACITY, ring_loops.RECORD_BYTES)
        self.samples = np.zeros(COUNT_MAX, np.int64)
        self.scratch = np.zeros(8 * ring_loops.BATCH, np.int64)

    def open(self, side: str) -> None:
        """Nothing to connect: the mapping was there before the fork."""

    def close(self) -> None:
        """Nothing to leave: the mapping has no name."""

    def in_ns(self, ticks: "np.ndarray | float", wrong: int = 0) -> np.ndarray:
        """Samples in ns. Raises RuntimeError when a payload was wrong."""
        if wrong:
            raise RuntimeError(f"{wrong} records with a wrong payload")
        return np.atleast_1d(np.asarray(ticks, np.float64)) * self.ns_per_tick


class OurRing(RingContestant):
    """shm/ring.py in compiled loops."""

    def __init__(self, ns_per_tick: float) -> None:
        super().__init__(OURS, ns_per_tick)
        there, back, samples, scratch = self.there, self.back, self.samples, self.scratch
        # Compiled before the fork, by calls that do nothing but compile.
        ring_loops.ping(there, back, 0, samples, scratch)
        ring_loops.pong(there, back, 0, scratch)
        for name in (name for pair in ONE_WAY.values() for name in pair):
            getattr(ring_loops, name).compile("int64(int64, int64, int64, Array(int64, 1, 'C'))")

    def left(self, mode: str, count: int) -> np.ndarray:
        if mode == "rtt":
            wrong = ring_loops.ping(self.there, self.back, count, self.samples, self.scratch)
            return self.in_ns(self.samples[:count], wrong)
        loop = getattr(ring_loops, ONE_WAY[mode][0])
        return self.in_ns(loop(self.there, self.back, count, self.scratch) / count)

    def right(self, mode: str, count: int) -> None:
        loop = ring_loops.pong if mode == "rtt" else getattr(ring_loops, ONE_WAY[mode][1])
        self.in_ns(0.0, loop(self.there, self.back, count, self.scratch))


class CppRing(RingContestant):
    """ring.cpp, loaded into the same two processes."""

    def __init__(self, library: Path, ns_per_tick: float) -> None:
        super().__init__(CPP, ns_per_tick)
        self._library = ctypes.CDLL(str(library))
        for name in ("ping", "pong", *(consume for _, consume in ONE_WAY.values())):
            getattr(self._library, name).restype = ctypes.c_int64

    def _call(self, name: str, count: int, *more: Any) -> int:
        return int(
            getattr(self._library, name)(
                ctypes.c_void_p(self.there), ctypes.c_void_p(self.back), ctypes.c_int64(count), *more
            )
        )

    def left(self, mode: str, count: int) -> np.ndarray:
        samples = ctypes.c_void_p(self.samples.ctypes.data)
        if mode == "rtt":
            return self.in_ns(self.samples[:count], self._call("ping", count, samples))
        self._call(ONE_WAY[mode][0], count, samples)
        return self.in_ns(self.samples[0] / count)

    def right(self, mode: str, count: int) -> None:
        self.in_ns(0.0, self._call("pong" if mode == "rtt" else ONE_WAY[mode][1], count))


class Round(dict[tuple[str, str], float]):
    """ns per (contestant, mode) of slices that followed each other: p50 of round trips, mean of records one way."""

    @property
    def is_near(self) -> bool:
        """Whether the two cores were near each other, by what a round trip cost C++."""
        return self.get((CPP, "rtt"), 0.0) <= NEAR_RTT_NS


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document; 3 runs of 40 rounds, quick: 1 of 2."""
    cores = two_cores()
    if cores is None:
        return {"bench": "ring", "machine": machine(), "results": [], "ratios": {}, "note": "needs two cores"}
    tick = ns_per_cycle()
    with compiled_reference(HERE / "ring.cpp", "-shared", "-fPIC") as library:
        contestants: list[Contestant] = [OurRing(tick)]
        if library is not None:
            contestants.insert(0, CppRing(library, tick))
        contestants += [peer() for peer in peers.installed()]
        rounds, rows = [], {contestant.name: list[dict[str, float]]() for contestant in contestants}
        with duel(contestants, cores) as between:
            for _ in range(1 if quick else RUNS):
                found = [_round(between, contestants) for _ in range(2 if quick else ROUNDS)]
                for contestant in contestants:
                    rows[contestant.name].append(_medians(found, contestant.name))
                rounds += found
    near = sum(each.is_near for each in rounds) if library is not None else 0
    return {
        "bench": "ring",
        "machine": machine() | {"core_pair": list(cores)},
        "results": [
            *({"name": name, **over_runs(runs), "samples": len(rounds)} for name, runs in rows.items()),
            *({"name": name, "absent": "not installed"} for name in peers.absent()),
            *([{"name": CPP, "absent": "no g++"}] if library is None else []),
        ],
        "ratios": _ratios(rounds, list(rows)),
        "regimes": {"near": near, "far": len(rounds) - near, "near_is_cpp_rtt_ns_up_to": NEAR_RTT_NS},
        "budgets": _budgets(rounds, list(rows)),
    }


def _modes(contestant: Contestant) -> tuple[str, ...]:
    return MODES if isinstance(contestant, RingContestant) else ("rtt",)


def _round(between: Duel, contestants: Sequence[Contestant]) -> Round:
    found = Round()
    for mode in MODES:
        for contestant in contestants:
            if mode in _modes(contestant):
                samples = between.slice(contestant.name, mode)
                found[contestant.name, mode] = float(np.median(samples) if mode == "rtt" else np.mean(samples))
    return found


def _medians(rounds: Sequence[Round], name: str) -> dict[str, float]:
    """One run's figures of one contestant."""
    columns = {mode: "rtt_ns_p50" if mode == "rtt" else f"{mode}_ns_per_op" for mode in MODES}
    return {
        column: statistics.median(each[name, mode] for each in rounds)
        for mode, column in columns.items()
        if (name, mode) in rounds[0]
    }


def _pairs(rounds: Sequence[Round], peer: str, mode: str) -> tuple[list[float], list[float]]:
    return [each[OURS, mode] for each in rounds], [each[peer, mode] for each in rounds]


def _ratios(rounds: Sequence[Round], names: Sequence[str]) -> dict[str, Any]:
    ratios: dict[str, Any] = {}
    if CPP in names:
        ratios = {f"vs_cpp_{mode}": ratio(*_pairs(rounds, CPP, mode)) for mode in MODES}
    return ratios | {f"vs_{name}_rtt": ratio(*_pairs(rounds, name, "rtt")) for name in names if name not in (OURS, CPP)}


def _budgets(rounds: Sequence[Round], names: Sequence[str]) -> list[dict[str, Any]]:
    """What was promised, against what was found. Absolute figures count in rounds in which C++ itself was fast."""
    if CPP not in names:
        return []
    limits: list[tuple[str, float, float]] = [
        (f"{mode}, median ratio to C++", ratio(*_pairs(rounds, CPP, mode))["median"], RATIO_LIMITS[mode])
        for mode in MODES
    ]
    for mode, limit in NS_LIMITS.items():
        fast = [each[OURS, mode] for each in rounds if each[CPP, mode] < FAST_CPP_NS]
        if fast:
            limits.append((f"{mode}, ns a record in {len(fast)} rounds of C++ < 15 ns", statistics.median(fast), limit))
    others = [name for name in names if name not in (OURS, CPP)]
    for is_near, limit in ((True, 1 / 25), (False, 1 / 8)):
        chosen = [each for each in rounds if each.is_near == is_near]
        if chosen and others:
            best = [each[OURS, "rtt"] / min(each[name, "rtt"] for name in others) for each in chosen]
            regime = "near" if is_near else "far"
            limits.append(
                (f"rtt, median ratio to the best peer, {len(chosen)} {regime} rounds", statistics.median(best), limit)
            )
    return [
        {"what": what, "figure": round(figure, 4), "limit": round(limit, 4), "holds": figure <= limit}
        for what, figure, limit in limits
    ]
