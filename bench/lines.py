"""Market data by datagrams: MoldUDP64 packets over loopback off the sockets, arbitrated, to messages and to events.

A sender on the other core fills the receive buffers of one line, or of two of which each lacks every twentieth packet;
then a contestant takes what is there, timed. Packets hold one ITCH message, or ten. A contestant hands out each message
once, in order; every one is counted and looked at.

    tickpipe             the feed's own: a recv a datagram, the arbiter
    tickpipe to events   the whole path of the feed: decoded, too, to the records that go to the book
    tickpipe recvmmsg    up to 32 datagrams a system call, which the feed does not do
    C++ -O3, recvmmsg    the same in C++, to messages

A batch saves a part of each system call while datagrams queue, as they do here. The feed takes them one by one: one
that comes alone, which is what a feed that keeps up sees, would cost a header more, and of two lines that take turns by
batches more would be kept behind gaps.
"""

import ctypes
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.duel import two_cores
from bench.harness import compiled_reference, die_with, machine, ratio
from bench.laps import CPP, OURS, absent, pinned
from bench.lines_loops import TALLY, Batch, take_events, take_messages, take_messages_batched
from shm.clock import calibrate
from stages.agent import Attention
from stages.domain.codecs import moldudp64
from stages.domain.codecs.arbitration import Arbiter
from stages.domain.codecs.itch import MESSAGES
from stages.domain.instruments import INSTRUMENT
from stages.domain.lines import open_sender, parse_address
from stages.feed.lines.agent import LinesAgent
from stages.feed.settings import FeedSettings
from stages.private_memory import PrivateSegments, attach

EVENTS, BATCHED, CPP_BATCHED = "tickpipe to events", "tickpipe recvmmsg", "C++ recvmmsg"
SESSION = b"BENCH"
STOCK = "STOCK1"
BURST = 96
"""Packets a line at a time: they fit the receive buffer that any user gets."""
BURSTS = 24
ROUNDS, QUICK_ROUNDS = 60, 2
SLOTS = 1_024
SOCKET_BYTES = 1 << 22
LACKS = 20
MODES = {f"{name}_{size}": (lines, size) for lines, name in ((1, "one_line"), (2, "two_lines")) for size in (1, 10)}
"""Lines, and messages a packet."""


def _packets(size: int) -> list[bytes]:
    """The packets of a slice; an order's reference is its message's sequence number."""
    orders = np.zeros(BURST * BURSTS * size, MESSAGES["A"])
    orders["message_type"], orders["stock_locate"], orders["side"] = b"A", 1, b"B"
    orders["order_reference"] = np.arange(1, len(orders) + 1)
    orders["shares"], orders["price"], orders["stock"] = 100, 1_000_000, STOCK.ljust(8).encode()
    messages = [order.tobytes() for order in orders]
    return [moldudp64.packet(SESSION, 1 + at, messages[at : at + size]) for at in range(0, len(messages), size)]


class Sender:
    """A process on `core` that sends a burst when it is told to."""

    def __init__(self, addresses: Sequence[str], packets: Sequence[bytes], core: int) -> None:
        self._orders, orders = os.pipe()
        done, self._done = os.pipe()
        parent, self._pid = os.getpid(), os.fork()
        if self._pid == 0:
            try:
                die_with(parent)
                os.sched_setaffinity(0, {core})
                self._send_all([open_sender(parse_address(text)) for text in addresses], packets)
            finally:
                os._exit(0)
        self._tell, self._told = orders, done

    def _send_all(self, lines: list[socket.socket], packets: Sequence[bytes]) -> None:
        while order := os.read(self._orders, 1):
            begin = order[0] * BURST
            for number in range(begin, begin + BURST):
                for index, line in enumerate(lines):
                    if len(lines) == 1 or number % LACKS != index * LACKS // 2:
                        line.send(packets[number])
            os.write(self._done, order)

    def burst(self, number: int) -> None:
        """Send one, and wait until it is in the receivers' buffers."""
        os.write(self._tell, bytes([number]))
        os.read(self._told, 1)

    def close(self) -> None:
        for descriptor in (self._tell, self._told, self._orders, self._done):
            os.close(descriptor)
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)


@dataclass
class Contestant:
    """`take` takes all that is there; ns a message of each slice."""

    name: str
    take: Callable[[int], None]
    reset: Callable[[], None]
    slices: list[float] = field(default_factory=list)

    def run(self, sender: Sender, messages: int) -> None:
        """A slice. Raises RuntimeError unless each message came once, in order."""
        tally = np.zeros(1, TALLY)
        tally["expected"] = 1
        address, taken_ns = int(tally.ctypes.data), 0
        self.reset()
        for number in range(BURSTS):
            sender.burst(number)
            start_ns = time.thread_time_ns()
            self.take(address)
            taken_ns += time.thread_time_ns() - start_ns
        if int(tally["messages"][0]) != messages or tally["wrong"][0]:
            raise RuntimeError(f"{self.name}: {int(tally['messages'][0])} messages instead of {messages}, "
                               f"{int(tally['wrong'][0])} of them not the next one")  # fmt: skip
        self.slices.append(taken_ns / messages)


class Course:
    """The sockets of one mode, its sender and its contestants."""

    def __init__(self, lines: int, size: int, library: ctypes.CDLL | None, core: int) -> None:
        packets = _packets(size)
        self.messages = len(packets) * size
        self.datagrams = len(packets) if lines == 1 else 2 * (len(packets) - len(packets) // LACKS)
        addresses = _free_addresses(lines)
        self._agent = _agent(addresses)
        self._sender = Sender(addresses, packets, core)
        self._library = library
        self._receivers: list[int] = []
        self._arbiter, self._batch = Arbiter(SLOTS, 1), Batch()
        context, arbiter, batch = self._agent.context, self._arbiter.address, self._batch
        self.contestants = [
            Contestant(OURS, lambda tally: take_messages(context, arbiter, tally), self._reset),
            Contestant(EVENTS, lambda tally: take_events(context, tally), self._reset_agent),
            Contestant(
                BATCHED,
                lambda tally: take_messages_batched(context, arbiter, tally, batch.headers, batch.buffers),
                self._reset,
            ),
        ]
        if library is not None:
            for name, function in ((CPP, library.take_messages), (CPP_BATCHED, library.take_messages_batched)):
                self.contestants.append(Contestant(name, self._in_cpp(function), self._reset_cpp))

    def _in_cpp(self, function: Callable[..., None]) -> Callable[[int], None]:
        words = self._agent.context.lines
        assert words is not None
        descriptors = words[0]["descriptors"].astype(np.int64)
        count = int(words[0]["count"])
        return lambda tally: function(self._receivers[-1], descriptors.ctypes.data, count, tally)

    def run(self) -> None:
        """A slice of each."""
        for contestant in self.contestants:
            contestant.run(self._sender, self.messages)

    def close(self) -> None:
        self._sender.close()
        self._agent.close()
        self._free_receivers()

    def _reset(self) -> None:
        _begin_anew(self._arbiter)

    def _reset_agent(self) -> None:
        assert self._agent.arbiter is not None
        _begin_anew(self._agent.arbiter)
        packets = self._agent.context.packets
        assert packets is not None
        for name in ("gaps", "lost", "sessions"):
            packets[0][name] = 0

    def _reset_cpp(self) -> None:
        assert self._library is not None
        self._free_receivers()
        self._receivers.append(self._library.new_receiver(SLOTS))

    def _free_receivers(self) -> None:
        while self._receivers:
            assert self._library is not None
            self._library.delete_receiver(self._receivers.pop())


def _begin_anew(arbiter: Arbiter) -> None:
    """As if it had seen nothing."""
    kept = {name: int(arbiter.words[name][0]) for name in ("window", "slots")}
    arbiter.words[:] = np.zeros(1, arbiter.words.dtype)
    arbiter.window[:] = 0
    for name, value in (kept | {"expected": 1, "known_end": 1}).items():
        arbiter.words[name] = value


def _free_addresses(count: int) -> tuple[str, ...]:
    found = []
    for _ in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            found.append(f"udp://127.0.0.1:{sock.getsockname()[1]}")
    return tuple(found)


def _agent(addresses: tuple[str, ...]) -> LinesAgent:
    """A feed with open lines, in private memory."""
    table = np.zeros(1, INSTRUMENT)
    table["symbol"], table["tick"], table["lot"] = STOCK.encode(), 1_000_000, 100_000_000
    table["price_exponent"] = table["quantity_exponent"] = -8
    settings = FeedSettings(
        source="itch", lines=addresses, gap_window_messages=SLOTS, first_sequence=1, socket_buffer_bytes=SOCKET_BYTES
    )
    agent = LinesAgent(table, settings)
    agent.segments = PrivateSegments([agent])  # type: ignore[attr-defined]  # kept for as long as the agent
    agent.page_memory = attach(agent, agent.segments, calibrate(0.02))  # type: ignore[attr-defined]
    agent.start(Attention())
    agent.service(0)
    return agent


@contextmanager
def _library() -> Iterator[ctypes.CDLL | None]:
    with compiled_reference(Path(__file__).parent / "lines.cpp", "-shared", "-fPIC", "-std=c++17") as path:
        if path is None:
            yield None
            return
        library = ctypes.CDLL(str(path))
        library.new_receiver.argtypes, library.new_receiver.restype = [ctypes.c_int64], ctypes.c_void_p
        library.delete_receiver.argtypes, library.delete_receiver.restype = [ctypes.c_void_p], None
        for function in (library.take_messages, library.take_messages_batched):
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
            function.restype = None
        yield library


def run(*, quick: bool = False) -> dict[str, Any]:
    """The benchmark document; an operation is a message. Raises RuntimeError when one is missing or out of order."""
    document: dict[str, Any] = {"bench": "lines", "machine": machine()}
    cores = two_cores()
    if cores is None:
        return document | {"results": [], "ratios": {}, "note": "needs two cores"}
    rows: dict[str, dict[str, Any]] = {}
    ratios: dict[str, Any] = {}
    with _library() as library, pinned(cores[0]):
        for mode, (lines, size) in MODES.items():
            course = Course(lines, size, library, cores[1])
            try:
                for _ in range(1 + (QUICK_ROUNDS if quick else ROUNDS)):
                    course.run()
            finally:
                course.close()
            _report(mode, course, rows, ratios)
    results = [*rows.values(), *absent([CPP, CPP_BATCHED] if library is None else [], "no g++")]
    return document | {"results": results, "ratios": ratios}


def _report(mode: str, course: Course, rows: dict[str, dict[str, Any]], ratios: dict[str, Any]) -> None:
    slices = {contestant.name: contestant.slices[1:] for contestant in course.contestants}  # the first one warms up
    for name, taken in slices.items():
        row = rows.setdefault(name, {"name": name})
        row[f"{mode}_ns_per_op"] = round(statistics.median(taken), 1)
        row[f"{mode}_ns_per_op_low"], row[f"{mode}_ns_per_op_high"] = round(min(taken), 1), round(max(taken), 1)
        per_datagram_ns = statistics.median(taken) * course.messages / course.datagrams
        row[f"{mode}_datagrams_per_s"] = round(1e9 / per_datagram_ns)
        row["samples"] = len(taken)
    if CPP in slices:
        ratios[f"vs_cpp_{mode}"] = ratio(slices[OURS], slices[CPP])
        ratios[f"recvmmsg_vs_cpp_recvmmsg_{mode}"] = ratio(slices[BATCHED], slices[CPP_BATCHED])
    ratios[f"vs_recvmmsg_{mode}"] = ratio(slices[OURS], slices[BATCHED])
    ratios[f"events_vs_messages_{mode}"] = ratio(slices[EVENTS], slices[OURS])
