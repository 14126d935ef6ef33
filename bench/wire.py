"""Wire to wire: from the send of a market data frame to the last byte of the order it causes, at the sender's own end.

A compiled load generator plays the venue on loopback and busy-polls. The pipeline (packed, whole: parse, book,
strategy, risk, encode) answers every depth update with one order, which is checked: side, price and time in force must
be those the tick calls for. Beside it, in alternating slices on the same core, a C program answers frames of the same
sizes on a pair of sockets of the same kind, looking at nothing: the floor. While one runs the other is stopped.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import simplejson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.harness import compiled_reference, machine, quantiles, ratio
from bench.wire_venue import FIRST_ID, SYMBOL, WireVenue, client_frame_text, log_on, read_client_frame, text_frame
from shm.atomics import load_u8
from shm.clock import calibrate, now_ns
from shm.kernel import kernel
from shm.libc import MSG_DONTWAIT, MSG_NOSIGNAL, recv, send

HERE = Path(__file__).parent
WARM_ROUNDS = 30
ROUND_LIMIT_NS = 2_000_000_000
SETTLE_LIMIT_S = 10.0
LEVELS = 5
"""Changed levels a side in each depth update."""


@kernel
def _frame_bytes(buffer: int, have: int) -> int:
    """Length of the masked client frame at `buffer`, 0 while its header is incomplete."""
    if have < 8:
        return 0
    length = load_u8(buffer + 1) & 127
    if length == 126:
        return 8 + load_u8(buffer + 2) * 256 + load_u8(buffer + 3)
    return 6 + length


@kernel
def _round(
    market: int, tick: int, tick_bytes: int, orders: int, buffer: np.ndarray, expected: int, clock: np.ndarray
) -> tuple[int, int]:
    """Send a tick, busy-poll for the answer: (ns, bytes), bytes 0 when none came within the limit.

    The answer is complete at `expected` bytes, or, where that is 0, at the end of its WebSocket frame.
    """
    address = buffer.ctypes.data
    have = 0
    start = now_ns(clock)
    sent = 0
    while sent < tick_bytes:
        put = send(market, tick + sent, tick_bytes - sent, MSG_NOSIGNAL)
        if put <= 0:
            return 0, 0
        sent += put
    while True:
        got = recv(orders, address + have, buffer.size - have, MSG_DONTWAIT)
        now = now_ns(clock)
        if got > 0:
            have += got
            wanted = expected if expected > 0 else _frame_bytes(address, have)
            if wanted > 0 and have >= wanted:
                return now - start, have
        elif got == 0 or now - start > ROUND_LIMIT_NS:
            return 0, 0


class Contestant:
    """One answering process: its two sockets, and how to stop and continue it."""

    def __init__(self, market: socket.socket, orders: socket.socket, pid: int) -> None:
        self.market, self.orders, self.pid = market, orders, pid
        self.slices: list[float] = []
        self.samples: list[int] = []
        self.clock = calibrate()
        self.buffer = np.zeros(1 << 16, np.uint8)

    def stop(self) -> None:
        """Off the core until `go`."""
        os.kill(self.pid, signal.SIGSTOP)

    def go(self) -> None:
        """Back on the core."""
        os.kill(self.pid, signal.SIGCONT)

    def exchange(self, tick: bytes, expected: int) -> tuple[int, bytes]:
        """One tick out, one answer in: (ns, answer). Raises RuntimeError when none comes."""
        held = np.frombuffer(tick, np.uint8)
        elapsed, length = _round(
            self.market.fileno(), held.ctypes.data, len(tick), self.orders.fileno(), self.buffer, expected, self.clock
        )
        if not length:
            raise RuntimeError("no answer to a tick within 2 s")
        return int(elapsed), self.buffer[:length].tobytes()

    def keep(self, elapsed: list[int]) -> None:
        """Add a slice's counted rounds."""
        self.samples += elapsed
        self.slices.append(float(np.median(elapsed)))


class Pipeline(Contestant):
    """The pipeline under test; each answer is checked and closed at once by an expiry report."""

    def __init__(self, market: socket.socket, orders: socket.socket, pid: int) -> None:
        super().__init__(market, orders, pid)
        self.last_id = FIRST_ID
        self.order_bytes = 0

    def tick(self) -> tuple[bytes, str]:
        """The next depth update, and the best bid price it makes."""
        first, self.last_id = self.last_id + 1, self.last_id + LEVELS
        rows = [[f"{60000 - step / 100:.8f}", f"{1 + self.last_id % 997 / 1000:.8f}"] for step in range(1, LEVELS + 1)]
        best = 60000 - (self.last_id // LEVELS % 2) / 100
        bids = [[f"{60000:.8f}", "0.00000000" if best < 60000 else "0.50000000"], *rows]
        asks = [[f"{60000 + step / 100:.8f}", row[1]] for step, row in enumerate(rows, 1)]
        if best < 60000:
            best = 59999.99
        data = {"e": "depthUpdate", "E": time.time_ns() // 10**6, "s": SYMBOL, "U": first, "u": self.last_id}
        text = json.dumps(
            {"stream": f"{SYMBOL.lower()}@depth@100ms", "data": data | {"b": bids, "a": asks}}, separators=(",", ":")
        )
        return text_frame(text), f"{best:.2f}"

    def one(self) -> int:
        """One checked round; returns its ns. Raises RuntimeError when the answer is not the order it must be."""
        frame, price = self.tick()
        elapsed, answer = self.exchange(frame, 0)
        self.order_bytes = len(answer)
        request = simplejson.loads(client_frame_text(answer))
        order = request["params"]
        found = (request["method"], order["symbol"], order["side"], float(order["price"]), order["timeInForce"])
        if found != ("order.place", SYMBOL, "BUY", float(price), "IOC"):
            raise RuntimeError(f"wrong order for best bid {price}: {found}")
        self._expire(request["id"], order)
        return elapsed

    def settle(self) -> None:
        """First tick: the book synchronises on it and may answer more than once; until half a second of silence."""
        self.market.sendall(self.tick()[0])
        self.orders.settimeout(SETTLE_LIMIT_S)
        try:
            while True:
                request = simplejson.loads(read_client_frame(self.orders))
                self._expire(request["id"], request["params"])
                self.orders.settimeout(0.5)
        except TimeoutError:
            self.orders.settimeout(None)

    def _expire(self, request_id: str, order: dict[str, Any]) -> None:
        now_ms = time.time_ns() // 10**6
        result = {
            "symbol": SYMBOL, "orderId": self.last_id, "orderListId": -1,
            "clientOrderId": order["newClientOrderId"], "transactTime": now_ms,
        }  # fmt: skip
        report = {
            "e": "executionReport", "E": now_ms, "s": SYMBOL, "c": order["newClientOrderId"], "S": "BUY", "o": "LIMIT",
            "f": "IOC", "q": order["quantity"], "p": order["price"], "P": "0.00000000", "F": "0.00000000", "g": -1,
            "C": "", "x": "EXPIRED", "X": "EXPIRED", "r": "NONE", "i": self.last_id, "l": "0.00000000",
            "z": "0.00000000", "L": "0.00000000", "n": "0", "N": None, "T": now_ms, "t": -1, "I": self.last_id,
            "w": False, "m": False, "M": False, "O": now_ms, "Z": "0.00000000", "Y": "0.00000000", "Q": "0.00000000",
            "W": now_ms, "V": "NONE",
        }  # fmt: skip
        answers = [
            {"id": request_id, "status": 200, "result": result},
            {"subscriptionId": 0, "event": report},
        ]
        self.orders.sendall(b"".join(text_frame(json.dumps(answer, separators=(",", ":"))) for answer in answers))


@contextmanager
def _pipeline(duration_s: int) -> Iterator[tuple[Pipeline, "subprocess.Popen[str]"]]:
    venue = WireVenue()
    keys = tempfile.TemporaryDirectory()
    api_key, private_key = Path(keys.name) / "api_key", Path(keys.name) / "private_key.pem"
    api_key.write_text("bench", encoding="ascii")
    private_key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    command = [
        sys.executable, "-m", "pipeline.cli", "up", "--json", "--placement", "packed", "--duration", f"{duration_s}s",
        "--strategy", str(HERE / "wire_strategy.py"),
        *(f"-s{setting}" for setting in (
            f'market.symbols=["{SYMBOL}"]', 'market.venue="binance"', f'market.rest_url="http://127.0.0.1:{venue.port}"',
            f'market.stream_url="ws://127.0.0.1:{venue.port}"',
            f'market.order_url="ws://127.0.0.1:{venue.port}/ws-api/v3"',
            f'market.api_key_file="{api_key}"', f'market.private_key_file="{private_key}"',
            'run.name="bench-wire"', "risk.order_rate_max=10000",
        )),
    ]  # fmt: skip
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True)
        try:
            orders = venue.orders.get(timeout=180)
            log_on(orders)
            market = venue.market.get(timeout=60)
            line = _packed_process(process.pid)
            yield Pipeline(market, orders, line), process
        except BaseException:
            process.terminate()
            process.wait(30)
            words.seek(0)
            sys.stderr.write(words.read())
            raise
        finally:
            venue.close()
            keys.cleanup()


def _packed_process(supervisor: int) -> int:
    """The pid of the process that hosts the line: the supervisor's only child that burns a core."""
    children = psutil.Process(supervisor).children()
    return max(children, key=lambda child: sum(child.cpu_times()[:2])).pid


@contextmanager
def _echo(program: Path, request_bytes: int, answer_bytes: int) -> Iterator[Contestant]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [program, "127.0.0.1", str(server.getsockname()[1]), str(request_bytes), str(answer_bytes)]
        )
        try:
            roles = {}
            for _ in range(2):
                connection = server.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                roles[connection.recv(1)] = connection
            yield Contestant(roles[b"m"], roles[b"o"], process.pid)
        finally:
            process.kill()
            process.wait()


def run(*, quick: bool) -> dict[str, Any]:
    """The benchmark document; see the module's docstring for what is measured."""
    slices, rounds = (4, 50) if quick else (30, 200)
    described = machine()
    cores = sorted(os.sched_getaffinity(0))
    with compiled_reference(HERE / "wire_echo.cpp") as program, _pipeline(3600) as (pipeline, process):
        os.sched_setaffinity(0, {cores[0]})
        pipeline.settle()
        for _ in range(WARM_ROUNDS * 10):
            pipeline.one()
        tick_bytes = len(pipeline.tick()[0])
        pipeline.last_id -= LEVELS
        results = []
        ratios: dict[str, Any] = {"vs_c_echo_rtt": "absent: no g++"}
        if program is None:
            for _ in range(slices):
                pipeline.keep([pipeline.one() for _ in range(rounds)])
        else:
            order_bytes = pipeline.order_bytes  # later orders are some bytes longer, as their ids are
            with _echo(program, tick_bytes, order_bytes) as echo:
                os.sched_setaffinity(echo.pid, {cores[-1]})
                for _ in range(slices):
                    _slice(pipeline, echo, tick_bytes, order_bytes, rounds)
                pipeline.go()
            results.append({"name": "C echo", **quantiles(echo.samples, "rtt_ns")})
            ratios["vs_c_echo_rtt"] = ratio(pipeline.slices, echo.slices)
        results.insert(0, {"name": "pipeline, packed", **quantiles(pipeline.samples, "rtt_ns")})
        process.send_signal(signal.SIGINT)
        report = _closing_report(pipeline, process)
        for hop in report["hops"]:
            if hop["name"] in (
                "tick_to_trade",
                "feed.parse",
                "book.update",
                "risk.check",
                "router.encode",
                "router.send",
            ):
                results.append(
                    {"name": f"report: {hop['name']} ({hop['unit']})", "rtt_ns_p50": hop["p50"],
                     "rtt_ns_p99": hop["p99"], "rtt_ns_p999": hop["p999"], "rtt_ns_max": hop["max"],
                     "samples": hop["count"]}
                )  # fmt: skip
    os.sched_setaffinity(0, cores)
    return {
        "bench": "wire",
        "machine": described,
        "frame_bytes": {"market_data": tick_bytes, "order": pipeline.order_bytes},
        "results": results,
        "ratios": ratios,
    }


def _slice(pipeline: Pipeline, echo: Contestant, tick_bytes: int, order_bytes: int, rounds: int) -> None:
    pipeline.stop()
    echo.go()
    tick = b"x" * tick_bytes
    for _ in range(WARM_ROUNDS):
        echo.exchange(tick, order_bytes)
    echo.keep([echo.exchange(tick, order_bytes)[0] for _ in range(rounds)])
    echo.stop()
    pipeline.go()
    for _ in range(WARM_ROUNDS):
        pipeline.one()
    pipeline.keep([pipeline.one() for _ in range(rounds)])


def _closing_report(pipeline: Pipeline, process: "subprocess.Popen[str]") -> dict[str, Any]:
    try:
        out, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return json.loads(out)
